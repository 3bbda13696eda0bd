"""Which route takes an object, asked in a worker: a rule for the content may fail there as in the bridge."""

from __future__ import annotations

from collections.abc import Sequence

from celery.exceptions import SoftTimeLimitExceeded

from pipeline.core.errors import PipelineError
from pipeline.core.routes import Route, Routes
from pipeline.core.source import Source


def match(routes: Routes, source: Source) -> Route | None:
    """The route that takes the object. Raises ``PipelineError``, also for a defect of a rule for the content."""
    try:
        return routes.match(source)
    except (PipelineError, MemoryError, SoftTimeLimitExceeded):
        raise
    except Exception as exc:
        raise PipelineError(
            f"A route's rule for the content failed on {source.uri}: {exc!r}. Correct the rule, and enqueue the object."
        ) from exc


def may_leave(routes: Routes, source: Source) -> Sequence[Route]:
    """The route whose outputs the object is done with; every one where it can't be found out which takes it."""
    try:
        match(routes, source)
    except PipelineError:
        return routes.all
    return routes.may_leave(source)

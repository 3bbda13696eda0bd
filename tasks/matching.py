"""Finds the route of an object in a worker. As in the bridge, a rule for the content may fail."""

from __future__ import annotations

from collections.abc import Sequence

from celery.exceptions import SoftTimeLimitExceeded

from pipeline.core.errors import PipelineError
from pipeline.core.routes import Route, Routes
from pipeline.core.source import Source


def match(routes: Routes, source: Source) -> Route | None:
    """The route that takes the object. Raises ``PipelineError``, also if a rule for the content is defective."""
    try:
        return routes.match(source)
    except (PipelineError, MemoryError, SoftTimeLimitExceeded):
        raise
    except Exception as exc:
        raise PipelineError(
            f"A route's rule for the content failed on {source.uri}: {exc!r}. Correct the rule, and enqueue the object."
        ) from exc


def may_leave(routes: Routes, source: Source) -> Sequence[Route]:
    """The routes that may have stored outputs of the object: its own, or all if that can't be found."""
    try:
        match(routes, source)
    except PipelineError:
        return routes.all
    return routes.may_leave(source)

"""Which route takes an object, asked in a worker: a rule for the content may fail there as in the bridge."""

from __future__ import annotations

from collections.abc import Iterable

from celery.exceptions import SoftTimeLimitExceeded

from pipeline.core.errors import PipelineError
from pipeline.core.routes import Output, Route, Routes
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


def output_sets(routes: Routes, source: Source) -> Iterable[tuple[Output, ...]]:
    """What the object is done with, any one of these; of every route where it can't be found out which takes it."""
    try:
        match(routes, source)
    except PipelineError:
        return [found for route in routes.all for found in route.output_sets(source.key, routes.settings)]
    return routes.output_sets(source)

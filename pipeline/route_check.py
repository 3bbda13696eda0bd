"""A step of the pipeline's workers, before they consume: whether they can do what the routes ask for."""

from __future__ import annotations

from typing import Any

from celery import bootsteps

from pipeline.core.errors import ConfigError


class RouteCheck(bootsteps.StartStopStep):
    """A worker does not start with a route that it can't read, or whose tasks it does not have.

    The routes are loaded before the pool's processes are forked. What is wrong is told when the worker starts,
    where Celery makes one line of it.
    """

    def __init__(self, parent: Any, **options: Any) -> None:
        self._wrong: ConfigError | None = None
        try:
            _check(parent.app)
        except ConfigError as exc:
            self._wrong = exc
        super().__init__(parent, **options)

    def start(self, parent: Any) -> None:
        """Raises ``ConfigError``, which ends the worker."""
        if self._wrong is not None:
            raise self._wrong


def _check(app: Any) -> None:
    for route in app.routes.all:
        missing = [step.task for step in route.steps if step.task not in app.tasks]
        if missing:
            raise ConfigError(
                f"route {route.name!r}: this worker has no task {', '.join(missing)}: define it in a module that "
                "ROUTES names, or correct the route"
            )
        written = [getattr(app.tasks[step.task], "output", None) for step in route.steps]
        known = [output.below(app.routes.settings.output_prefix) for output in written if output is not None]
        if len(known) == len(written):
            folders = {output.folder for output in known}
            unwritten = [output.folder for output in route.outputs if output.folder not in folders]
            if unwritten:
                raise ConfigError(
                    f"route {route.name!r}: none of its tasks writes {', '.join(unwritten)}: take that output out, or "
                    "name the task that does"
                )

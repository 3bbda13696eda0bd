"""The tiny app, whose worker loses its connection when the file ``$LOSE`` appears."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import bootsteps

from tests.support.tiny import app


class LoseConnection(bootsteps.StartStopStep):
    requires = ("celery.worker.components:Hub",)

    def register_with_event_loop(self, worker: Any, hub: Any) -> None:
        hub.call_repeatedly(0.1, self._look, hub)

    def _look(self, hub: Any) -> None:
        file = Path(os.environ["LOSE"])
        if file.exists():  # only this worker removes it
            file.unlink()
            hub.call_soon(_lose)  # what a timer raises is only logged


def _lose() -> None:
    raise ConnectionError("lost for a test")


app.steps["worker"].add(LoseConnection)

"""Which of a worker's heartbeats are sent: Celery makes one every two seconds, and a message each would cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class Heartbeats:
    """An idle worker sends one every ``interval_s`` seconds; a busy one adds the latest to what it sends anyway.

    So the number of running tasks is always recent, and one more heartbeat after the last task's events says
    that there is none left.
    """

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.interval_s = interval_s
        self._clock = clock
        self._latest: dict[str, Any] | None = None  # not sent yet
        self._sent_at = clock() - interval_s
        self._task_events_sent = False

    def is_due(self, heartbeat: dict[str, Any]) -> bool:
        """Whether this one is worth a message of its own. If not, it is remembered."""
        if self._task_events_sent or self._clock() - self._sent_at >= self.interval_s:
            self._latest = None
            return True
        self._latest = heartbeat
        return False

    def passenger(self, events: list[dict[str, Any]]) -> dict[str, Any] | None:
        """The heartbeat to send along with these events, if any. They count as sent."""
        self._task_events_sent = any(event["type"].startswith("task-") for event in events)
        if any(event["type"] == "worker-heartbeat" for event in events):
            self._sent_at, self._latest = self._clock(), None
            return None
        latest, self._latest = self._latest, None
        if latest is not None:
            self._sent_at = self._clock()
        return latest

"""Decides which of a worker's heartbeats are sent. Celery makes one every two seconds, and each message costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

#: Maximum seconds between two heartbeats of a worker that runs tasks. The events of short tasks carry the heartbeats
#: along. Tasks of minutes cost 720 messages an hour, $0.26 in a month without a pause ($0.50 a million publishes).
BUSY_S = 5.0


class Heartbeats:
    """An idle worker sends one every ``interval_s`` seconds, a busy one at least every ``BUSY_S``.

    A worker that sends events of tasks adds the latest heartbeat to them, and sends one more after the last of them, so
    the number of running tasks is always recent.
    """

    def __init__(self, interval_s: float, gathered_s: float = 0, clock: Callable[[], float] = time.monotonic) -> None:
        """``gathered_s``: how long an event may wait for others before it is sent."""
        self._interval_s = interval_s
        self._gathered_s = gathered_s
        self._clock = clock
        self._latest: dict[str, Any] | None = None  # not sent yet
        self._sent_at = clock() - interval_s
        self._promised_s = interval_s  # the pause that the last sent heartbeat announced
        self._task_events_sent = False

    def freq_s(self, heartbeat: dict[str, Any]) -> float:
        """Seconds until the next heartbeat at the latest: consumers consider a worker lost after twice as long."""
        return self._pause_s(heartbeat) + self._gathered_s

    def is_due(self, heartbeat: dict[str, Any]) -> bool:
        """Whether to send this heartbeat as a message of its own. If not, it is kept for ``passenger``."""
        pause_s = min(self._pause_s(heartbeat), self._promised_s)
        if self._task_events_sent or self._clock() - self._sent_at >= pause_s:
            self._latest = None
            return True
        self._latest = heartbeat
        return False

    def passenger(self, events: list[dict[str, Any]]) -> dict[str, Any] | None:
        """The heartbeat to send along with these events, if any; from now on both count as sent."""
        self._task_events_sent = any(event["type"].startswith("task-") for event in events)
        beats = [event for event in events if event["type"] == "worker-heartbeat"]
        latest, self._latest = (None if beats else self._latest), None
        if latest is not None:
            beats = [latest]
        if beats:
            self._sent_at, self._promised_s = self._clock(), min(map(self._pause_s, beats))
        return latest

    def _pause_s(self, heartbeat: dict[str, Any]) -> float:
        return min(BUSY_S, self._interval_s) if heartbeat.get("active") else self._interval_s

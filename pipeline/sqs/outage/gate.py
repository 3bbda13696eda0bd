"""The gate: while a service fails for everybody, no work is started, so an outage costs only time.

    open ──failures of different work in a row, no success in between──▶ closed
    closed ──back-off over──▶ probing: one message is let through
    probing ──it failed──▶ closed, for longer
    probing ──it succeeded──▶ open

The gate knows nothing of the work. Its callers report how work ended: ``failed`` if a service was at fault, ``worked``
if it succeeded. One bad object never closes the gate, since a failure counts once for each ``subject``, and a success
of any other subject resets the count.

A very long outage must not keep messages in their queue until their retention ends. So after ``MOST_S`` the gate lets
everything through, and each message ends by the usual rules: it is retried, and in the end dead-lettered.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum

from pipeline.aws.backoff import Backoff

#: Number of different subjects that must fail in a row to close the gate.
FAILURES = 5
#: Seconds before each probe. One worker makes some 130 probes an hour.
BACKOFF = Backoff(1, 30)
#: Maximum seconds that it stays closed: two and a half days. The stack's queues keep a message for seven.
MOST_S = 2.5 * 86400

logger = logging.getLogger(__name__)


class GateState(Enum):
    OPEN = "open"
    CLOSED = "closed"
    PROBING = "probing"


class Gate:
    """One worker's gate. Thread-safe.

    ``on_closed`` is called when the gate closes, in the thread that reported the last failure. ``meanwhile``: the
    consequence, for the log. ``clock`` returns seconds, from any origin. Messages are identified by receipt handle.
    """

    def __init__(
        self,
        *,
        on_closed: Callable[[], object] = lambda: None,
        meanwhile: str = "no work is started",
        failures: int = FAILURES,
        backoff: Backoff = BACKOFF,
        most_s: float = MOST_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_closed = on_closed
        self._meanwhile = meanwhile
        self._needed = failures
        self._backoff = backoff
        self._most_s = most_s
        self._clock = clock
        self._lock = threading.RLock()
        self._state = GateState.OPEN
        self._failing: set[str] = set()  # subjects, since the last success
        self._worked_at: dict[str, float] = {}  # Unix time of each task's last success
        self._closed_at = 0.0
        self._probe_at = 0.0  # when the next probe is due
        self._rounds = 0  # how often it has closed in this outage
        self._probes: set[str] = set()  # messages that were let through, and have not ended
        self._untold = 0  # consecutive probes whose end said nothing about the service
        self._has_given_up = False

    # How work ended.

    def failed(self, subject: str, reason: str, message: str = "") -> None:
        """A service failed, and may fail for all work. ``subject``: what the work is about; ``message``: its handle."""
        with self._lock:
            state = self._now()
            if state is GateState.PROBING and message in self._probes:
                self._close()
                return
            if state is not GateState.OPEN or self._has_given_up:
                return  # this work began before the gate closed
            self._failing.add(subject)
            if len(self._failing) < self._needed:
                return
            self._closed_at, self._rounds = self._clock(), 0
            self._close()
        logger.warning(
            "A service fails for everybody, so %s until it is available again: %s",
            self._meanwhile,
            reason,
            extra={"action": "service_unavailable"},
        )
        self._on_closed()

    def worked(self, task: str) -> None:
        """Work of this kind ended well, so the service is available."""
        with self._lock:
            self._worked_at[task] = time.time()
            self._failing.clear()
            self._has_given_up = False
            if self._state is not GateState.OPEN:
                self._recover()

    def has_worked_since(self, task: str, since: float) -> bool:
        """Whether work of this kind has succeeded after that Unix time."""
        return self._worked_at.get(task, 0.0) > since

    # What may start.

    @property
    def state(self) -> GateState:
        with self._lock:
            return self._now()

    def room(self, wanted: int) -> int:
        """How many of ``wanted`` messages to receive now."""
        with self._lock:
            match self._now():
                case GateState.OPEN:
                    return wanted
                case GateState.CLOSED:
                    return 0
            return 0 if self._probes else min(wanted, 1)

    def admit(self, messages: Sequence[str]) -> int:
        """How many of these received messages may be started now, counted from the first."""
        with self._lock:
            if self._now() is GateState.OPEN:
                return len(messages)
            admitted = self.room(len(messages))
            self._probes.update(messages[:admitted])
            return admitted

    def ended(self, message: str) -> None:
        """A message is no longer in flight. If it was a probe whose end said nothing, the next probe may start."""
        with self._lock:
            if message not in self._probes:
                return
            self._probes.discard(message)
            self._untold += 1
            if self._untold >= self._needed:
                self._recover()

    def is_waiting(self, late_s: float) -> bool:
        """Whether the gate is closed, and its next probe is overdue by at most ``late_s`` seconds."""
        with self._lock:
            return self._state is not GateState.OPEN and self._clock() <= self._probe_at + late_s

    def _now(self) -> GateState:
        if self._state is GateState.CLOSED and self._clock() >= self._probe_at:
            self._state, self._untold = GateState.PROBING, 0
        if self._state is not GateState.OPEN and self._clock() - self._closed_at > self._most_s:
            self._has_given_up = True
            logger.error(
                "A service has failed for everybody for %.1f days: work is started all the same",
                self._most_s / 86400,
                extra={"action": "service_given_up"},
            )
            self._open()
        return self._state

    def _close(self) -> None:
        self._rounds += 1
        self._state = GateState.CLOSED
        self._probes.clear()
        self._probe_at = self._clock() + self._backoff.pause_s(self._rounds)

    def _recover(self) -> None:
        logger.warning(
            "The service that failed for everybody is available again, after %.0f s and %d probes",
            self._clock() - self._closed_at,
            self._rounds,
            extra={"action": "service_recovered"},
        )
        self._open()

    def _open(self) -> None:
        self._state = GateState.OPEN
        self._failing.clear()
        self._probes.clear()

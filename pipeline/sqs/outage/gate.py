"""The gate: while a service fails for everybody, no work is started, so an outage costs time and nothing else.

    open ──failures of different work in a row, no success between──▶ closed
    closed ──back-off over──▶ probing: one message is let through
    probing ──it failed──▶ closed, for longer
    probing ──it succeeded──▶ open

The gate knows nothing of the work. Its callers report the endings: ``failed`` where a service was at fault, ``worked``
where work ended well. One bad object never closes it, since a failure counts once for each ``subject``, and a success
of any other subject forgets all failures.

An outage that never ends must not keep messages in their queue until that drops them: after ``MOST_S`` it lets
everything through, and each message then ends by rules of its own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum

from pipeline.aws.backoff import Backoff

#: Different subjects that fail in a row until it closes.
FAILURES = 5
#: Before each probe. One worker so makes some 130 probes in an hour.
BACKOFF = Backoff(1, 30)
#: Longest that it stays closed: two and a half days, of the seven that the stack's queues keep a message.
MOST_S = 2.5 * 86400

logger = logging.getLogger(__name__)


class GateState(Enum):
    OPEN = "open"
    CLOSED = "closed"
    PROBING = "probing"


class Gate:
    """One worker's gate. Thread-safe.

    ``on_closed`` is called when it closes, in the thread of the failure that did it; ``meanwhile``: what follows from
    that, for the log. ``clock`` is in seconds, of any origin. A message is known by its receipt handle.
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
        self._rounds = 0  # of closing and probing
        self._probes: set[str] = set()  # messages that were let through, and have not ended
        self._untold = 0  # probes in a row that told nothing
        self._has_given_up = False

    # The endings of work.

    def failed(self, subject: str, reason: str, message: str = "") -> None:
        """A service failed, and may fail for everything. ``subject``: what for; ``message``: its receipt handle."""
        with self._lock:
            state = self._now()
            if state is GateState.PROBING and message in self._probes:
                self._close()
                return
            if state is not GateState.OPEN or self._has_given_up:
                return  # that began before it closed
            self._failing.add(subject)
            if len(self._failing) < self._needed:
                return
            self._closed_at, self._rounds = self._clock(), 0
            self._close()
        logger.warning(
            "A service fails for everybody, so %s before it is there again: %s",
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
        """Whether work of this kind came to its end later than that Unix time."""
        return self._worked_at.get(task, 0.0) > since

    # What may start.

    @property
    def state(self) -> GateState:
        with self._lock:
            return self._now()

    def room(self, wanted: int) -> int:
        """How many of the wanted messages to receive now."""
        with self._lock:
            match self._now():
                case GateState.OPEN:
                    return wanted
                case GateState.CLOSED:
                    return 0
            return 0 if self._probes else min(wanted, 1)

    def admit(self, messages: Sequence[str]) -> int:
        """How many of these messages, which have been received, may be started: the first ones."""
        with self._lock:
            if self._now() is GateState.OPEN:
                return len(messages)
            admitted = self.room(len(messages))
            self._probes.update(messages[:admitted])
            return admitted

    def ended(self, message: str) -> None:
        """A message is not in flight any more. One that was a probe and told nothing makes room for the next."""
        with self._lock:
            if message not in self._probes:
                return
            self._probes.discard(message)
            self._untold += 1
            if self._untold >= self._needed:
                self._recover()

    def is_waiting(self, late_s: float) -> bool:
        """Whether it is closed, and its next probe has been due for no longer than so many seconds."""
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
            "The service that failed for everybody is there again, after %.0f s and %d probes",
            self._clock() - self._closed_at,
            self._rounds,
            extra={"action": "service_recovered"},
        )
        self._open()

    def _open(self) -> None:
        self._state = GateState.OPEN
        self._failing.clear()
        self._probes.clear()

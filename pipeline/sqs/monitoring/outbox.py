"""Sends events in batches from a thread of its own; any thread may add them."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from kombu.utils.json import dumps

from pipeline.aws.backoff import Backoff

logger = logging.getLogger(__name__)

Event = dict[str, Any]

#: Maximum bytes of events in one message: SNS takes 256 KiB, and incompressible data grows by a third in Base64.
MAX_BYTES = 180_000
#: Maximum number of events kept while they can't be delivered; beyond it the oldest are dropped, and counted.
MAX_KEPT = 20_000
#: Seconds that the first event after a pause waits for related events, such as the start of its task.
FIRST_S = 0.1
#: Pause between two attempts to deliver, in seconds.
BACKOFF = Backoff(2, 30)


class Outbox:
    """``put`` never blocks and never raises.

    An event is delivered within ``interval_s`` seconds; after a pause of that length, within ``first_s``, so a single
    task is shown at once. Deliveries are ``interval_s`` apart, however many events there are.

    ``prepare`` is called once for each event, in the outbox's thread, and returns the event to deliver, or None to drop
    it. ``open`` returns a context manager for the function that delivers a list of events; if that function raises, the
    events are kept and retried. ``idle`` is called at least every ``idle_s`` seconds, and at the end.
    """

    def __init__(
        self,
        open: Callable[[], AbstractContextManager[Callable[[list[Event]], None]]],
        prepare: Callable[[Event], Event | None],
        *,
        interval_s: float,
        first_s: float = FIRST_S,
        idle: Callable[[bool], None] | None = None,
        idle_s: float = 15,
    ) -> None:
        self._open = open
        self._prepare = prepare
        self._interval_s = interval_s
        self._first_s = min(first_s, interval_s)
        self._sent_at = -math.inf
        self._idle = idle
        self._idle_s = idle_s
        self._pending: deque[Event] = deque()
        self._unsent: list[Event] = []
        self._dropped = 0
        self._failures = 0  # in a row
        self._something = threading.Event()
        self._hurry = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def put(self, event: Event, *, hurry: bool = False) -> None:
        """Adds an event, which is sent within the interval; with ``hurry``, at once."""
        self._pending.append(event)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="event-publisher", daemon=True)
            self._thread.start()
        self._something.set()
        if hurry:
            self._hurry.set()

    def close(self, timeout_s: float) -> list[Event]:
        """Sends what is left for at most ``timeout_s`` seconds; returns the events that were not sent."""
        self._closing = True
        if self._thread is not None:
            self._something.set()
            self._hurry.set()
            self._thread.join(timeout_s)
        return [*self._unsent, *self._pending]

    def _run(self) -> None:
        with self._open() as deliver:
            closing = False
            while not closing:
                if not self._closing:
                    self._something.wait(None if self._idle is None else self._idle_s)
                    self._hurry.wait(self._pause_s())
                closing = self._closing
                self._something.clear()
                self._hurry.clear()
                self._take()
                self._send(deliver)
                if self._idle is not None:
                    self._idle(closing)

    def _pause_s(self) -> float:
        if self._failures:
            return BACKOFF.pause_s(self._failures)
        return max(self._first_s, self._sent_at + self._interval_s - time.monotonic())

    def _take(self) -> None:
        for _ in range(len(self._pending)):
            event = self._pending.popleft()
            try:
                prepared = self._prepare(event)
            except Exception:
                logger.exception("an event of type %s can't be sent, and is dropped", event.get("type"))
                continue
            if prepared is not None:
                self._unsent.append(prepared)
        excess = len(self._unsent) - MAX_KEPT
        if excess > 0:
            del self._unsent[:excess]
            self._dropped += excess

    def _send(self, deliver: Callable[[list[Event]], None]) -> None:
        try:
            for part in split(list(self._unsent)):
                deliver(part)
                self._sent_at = time.monotonic()
                del self._unsent[: len(part)]
        except Exception as exc:
            if self._failures == 0:
                logger.warning("events can't be sent, and are kept: %s", exc)
            self._failures += 1
            self._something.set()
            return
        if self._failures:
            logger.info("events are sent again; %d were dropped meanwhile", self._dropped)
            self._failures = self._dropped = 0


def split(events: list[Event]) -> Iterator[list[Event]]:
    """Splits the events into lists that each fit into one message. A single event always fits: its texts are short."""
    if len(events) > 1 and len(dumps(events)) > MAX_BYTES:
        middle = len(events) // 2
        yield from split(events[:middle])
        yield from split(events[middle:])
    elif events:
        yield events

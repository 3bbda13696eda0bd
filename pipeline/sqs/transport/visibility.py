"""Visibility: hides a message from other workers for a short time, and extends that time while it is in flight.

So the messages of a dead process are visible again within one visibility time-out, and work that takes longer than the
time-out is not done twice. The extensions stop when the work or the process ends, and when the event loop has hung for
longer than any task may take.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.aws.batches import MAX_ENTRIES, batches
from pipeline.sqs.transport.batcher import failed_entries
from pipeline.sqs.transport.inflight import InFlightMessage, InFlightMessages

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

#: Default of the transport option.
DEFAULT_VISIBILITY_TIMEOUT_S = 90
DEFAULT_STALLED_AFTER_S = 600
#: SQS hides a message for at most this long after it was received, extensions included.
MAX_HIDDEN_S = 12 * 3600

logger = logging.getLogger(__name__)


class VisibilityExtender:
    """A thread that extends the visibility time-out of each message in flight when half of it is over.

    ``is_alive``: whether the process still does its work; while it doesn't, nothing is extended. The thread runs while
    there are messages in flight. Call ``watch`` after adding messages: it starts the thread.
    """

    def __init__(
        self,
        messages: InFlightMessages,
        sqs: Callable[[], SQSClient],
        timeout_s: float,
        *,
        is_alive: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._messages = messages
        self._sqs = sqs
        self._timeout_s = timeout_s
        self._is_alive = is_alive
        self._clock = clock
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def watch(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="sqs-visibility", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(self._timeout_s / 6)
            with self._lock:
                if not len(self._messages):
                    self._thread = None
                    return
            if self._is_alive():
                self.extend()

    def extend(self) -> None:
        """One round: ``ChangeMessageVisibilityBatch`` for the messages that are due."""
        now = self._clock()
        half_over = self._messages.select(lambda message: message.hidden_until - now <= self._timeout_s / 2)
        for batch in _batches(half_over):
            try:
                self._extend(batch)
            except Exception as exc:
                # After a short failure, the next round comes before these time out.
                logger.warning(
                    "The visibility of %d messages of %s could not be extended: %s: %s",
                    len(batch),
                    batch[0].queue,
                    type(exc).__name__,
                    exc,
                    extra={"action": "extend_failed", "queue": batch[0].queue},
                )

    def _extend(self, batch: Sequence[InFlightMessage]) -> None:
        now = self._clock()
        wanted = []
        for message in batch:
            left_s = message.received_at + MAX_HIDDEN_S - now
            if left_s < 1:
                self._lost(message, "it was in flight for 12 hours, the most that SQS allows")
            else:
                wanted.append((message, min(self._timeout_s, left_s)))
        if not wanted:
            return
        reply = self._sqs().change_message_visibility_batch(
            QueueUrl=batch[0].url,
            Entries=[
                {"Id": str(n), "ReceiptHandle": message.handle, "VisibilityTimeout": int(hidden_s)}
                for n, (message, hidden_s) in enumerate(wanted)
            ],
        )
        failures = {id(failure.item): failure for failure in failed_entries(reply, [message for message, _ in wanted])}
        for message, hidden_s in wanted:
            failure = failures.get(id(message))
            if failure is None:
                message.hidden_until = now + hidden_s
            elif failure.final and self._messages.find(message.handle) is not None:  # not settled meanwhile
                self._lost(message, failure.reason)

    def _lost(self, message: InFlightMessage, reason: str) -> None:
        message.hidden_until = float("inf")  # not to be extended again
        logger.warning(
            "Message %s of %s is visible to other workers again, though it is in flight here (%s): "
            "one of them may do the same work now",
            message.message_id,
            message.queue,
            reason,
            extra={"action": "visibility_lost", "message_id": message.message_id, "queue": message.queue},
        )


def _batches(messages: Sequence[InFlightMessage]) -> Iterator[list[InFlightMessage]]:
    """Splits the messages into batches of one queue each, as large as a batch call allows."""
    for url in {message.url for message in messages}:
        yield from batches((message for message in messages if message.url == url), MAX_ENTRIES)


class Pulse:
    """Checks whether an event loop still runs: asks it to call back, and measures how long that takes.

    ``call_soon`` must be thread-safe.
    """

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        stalled_after_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._call_soon = call_soon
        self._stalled_after_s = stalled_after_s
        self._clock = clock
        self._asked_at: float | None = None

    def __call__(self) -> bool:
        if self._asked_at is None:
            self._asked_at = self._clock()
            self._call_soon(self._answered)
            return True
        return self._clock() - self._asked_at <= self._stalled_after_s

    def _answered(self) -> None:
        self._asked_at = None

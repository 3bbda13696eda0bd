"""The lease: a message is hidden from other workers for a short time only, renewed while it is held.

So a process that dies frees its messages within one lease, and long work is never done twice because
of a time-out that was too short for it. Renewing stops with the work, with the process, and when the
event loop has hung for longer than any task may take.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kombu.transport import SQS

from pipeline.aws import clients
from pipeline.core.batches import batches
from pipeline.sqs.transport.batcher import MAX_ENTRIES, failed_entries
from pipeline.sqs.transport.inflight import Held, HeldMessages

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

#: Unless the transport options say otherwise.
DEFAULT_LEASE_S = 90
DEFAULT_STALLED_AFTER_S = 600
#: SQS hides a message for at most this long after it was received, renewals included.
MAX_HIDDEN_S = 12 * 3600

logger = logging.getLogger(__name__)


class LeaseKeeper:
    """Renews, in a thread, each held message whose lease is half over.

    ``is_alive`` tells whether the process still does its work; while it doesn't, nothing is renewed.
    The thread starts with ``ensure_started`` and ends with ``stop``.
    """

    def __init__(
        self,
        messages: HeldMessages,
        sqs: SQSClient,
        lease_s: float,
        *,
        is_alive: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._messages = messages
        self._sqs = sqs
        self._lease_s = lease_s
        self._is_alive = is_alive
        self._clock = clock
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def ensure_started(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sqs-leases", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._lease_s / 6):
            if self._is_alive():
                self.renew()

    def renew(self) -> None:
        """One round: ``ChangeMessageVisibilityBatch`` for what is due."""
        now = self._clock()
        half_over = self._messages.select(lambda held: held.hidden_until - now <= self._lease_s / 2)
        for batch in _batches(half_over):
            try:
                self._renew(batch)
            except Exception as exc:
                # The next round comes before these leases end, if this was only a moment's trouble.
                logger.warning(
                    "The leases of %d messages of %s could not be renewed: %s: %s",
                    len(batch),
                    batch[0].queue,
                    type(exc).__name__,
                    exc,
                    extra={"action": "lease-not-renewed", "queue": batch[0].queue},
                )

    def _renew(self, batch: Sequence[Held]) -> None:
        now = self._clock()
        wanted = []
        for held in batch:
            left_s = held.received_at + MAX_HIDDEN_S - now
            if left_s < 1:
                self._lost(held, "it was held for 12 hours, the most that SQS allows")
            else:
                wanted.append((held, min(self._lease_s, left_s)))
        if not wanted:
            return
        reply = self._sqs.change_message_visibility_batch(
            QueueUrl=batch[0].url,
            Entries=[
                {"Id": str(n), "ReceiptHandle": held.handle, "VisibilityTimeout": int(hidden_s)}
                for n, (held, hidden_s) in enumerate(wanted)
            ],
        )
        failures = {id(failure.item): failure for failure in failed_entries(reply, [held for held, _ in wanted])}
        for held, hidden_s in wanted:
            failure = failures.get(id(held))
            if failure is None:
                held.hidden_until = now + hidden_s
            elif failure.final and self._messages.find(held.handle) is not None:  # not settled meanwhile
                self._lost(held, failure.reason)

    def _lost(self, held: Held, reason: str) -> None:
        held.hidden_until = float("inf")  # not to be renewed again
        logger.warning(
            "The lease of message %s of %s is lost (%s): another worker may do the same work now",
            held.message_id,
            held.queue,
            reason,
            extra={"action": "lease-lost", "message_id": held.message_id, "queue": held.queue},
        )


def _batches(messages: Sequence[Held]) -> Iterator[list[Held]]:
    """Of one queue each, at most as many as a batch call takes."""
    for url in {held.url for held in messages}:
        yield from batches((held for held in messages if held.url == url), MAX_ENTRIES)


class Pulse:
    """Whether an event loop still turns: asks it to call back, and looks how long it takes.

    ``call_soon`` must be safe to be called from another thread.
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


class Leases(SQS.Channel):
    """Receives under a lease, and keeps it for what is held.

    Transport options: ``message_lease_s``, and ``lease_stalled_after_s``, which must be above the longest time that
    the event loop may be busy (with the solo pool that is the longest task).
    """

    @cached_property
    def lease_s(self) -> int:
        return int(self.transport_options.get("message_lease_s", DEFAULT_LEASE_S))

    @cached_property
    def keeper(self) -> LeaseKeeper:
        stalled_after_s = self.transport_options.get("lease_stalled_after_s", DEFAULT_STALLED_AFTER_S)
        is_alive = (lambda: True) if self.hub is None else Pulse(self.hub.call_soon, stalled_after_s)
        return LeaseKeeper(self.held, clients.sqs(long_poll=False), self.lease_s, is_alive=is_alive)

    def _get_from_sqs(
        self, queue_name: str, queue_url: str, connection: Any, count: int = 1, callback: Any = None
    ) -> Any:
        """Without a lease where messages are not acknowledged (control queues hide them for good)."""
        leased = queue_name not in self._noack_queues
        return connection.receive_message(
            queue_name,
            queue_url,
            number_messages=count,
            visibility_timeout=self.lease_s if leased else None,
            wait_time_seconds=self.wait_time_seconds,
            callback=callback,
        )

    def hold(self, url: str, message: dict[str, Any]) -> None:
        """Keeps a received message hidden until it is settled."""
        now = time.monotonic()
        if not self.held:
            self.reserve.begin(now)
        self.held.add(Held(url, message, received_at=now, hidden_until=now + self.lease_s))
        self.keeper.ensure_started()

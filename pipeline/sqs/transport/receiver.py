"""Long polls, each in a thread of its own, so that the event loop neither waits for SQS nor speaks HTTP itself.

boto3 receives, as it also sends, so both use the same credentials, certificates and proxies. (kombu receives through
curl, which ignores AWS_CA_BUNDLE and a profile's settings.) Each receive ends with messages, with none, or with an
error, at most REPLY_MARGIN_S after its long poll.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol

from pipeline.sqs.transport.inflight import InFlightMessage

#: Seconds that a reply may take beyond the long poll that it ends.
REPLY_MARGIN_S = 10


@dataclass(frozen=True, slots=True)
class Received:
    """The result of one receive."""

    url: str
    messages: list[dict[str, Any]]  # as ReceiveMessage returned them
    are_settled: bool = True  # False: nobody acknowledges them, since their queue is a control queue


class Receive(Protocol):
    """One ReceiveMessage; called in the queue's thread. May raise anything."""

    def __call__(self, queue: str, count: int) -> Received: ...


@dataclass(frozen=True, slots=True)
class ReceiveJob:
    count: int
    on_received: Callable[[Received], None]
    on_failed: Callable[[Exception], None]


class Receiver:
    """Receives from queues, one receive of a queue at a time.

    ``call_soon`` calls back in the event loop, and must be thread-safe. ``taken`` is called in the queue's thread with
    the received messages, before the event loop gets them; if it returns False, the event loop gets nothing.
    """

    def __init__(
        self,
        receive: Receive,
        *,
        call_soon: Callable[..., object],
        taken: Callable[[str, Received], bool],
    ) -> None:
        self._receive = receive
        self._call_soon = call_soon
        self._taken = taken
        self._jobs: dict[str, SimpleQueue[ReceiveJob | None]] = {}

    def start(self, queue: str, job: ReceiveJob) -> None:
        """Begins one receive; its end calls one of the job's callbacks in the event loop."""
        if queue not in self._jobs:
            jobs: SimpleQueue[ReceiveJob | None] = SimpleQueue()
            self._jobs[queue] = jobs
            threading.Thread(target=self._run, args=(queue, jobs), name=f"sqs-receive-{queue}", daemon=True).start()
        self._jobs[queue].put(job)

    def close(self) -> None:
        """Ends each thread after its current receive."""
        jobs, self._jobs = self._jobs, {}
        for each in jobs.values():
            each.put(None)

    def _run(self, queue: str, jobs: SimpleQueue[ReceiveJob | None]) -> None:
        while (job := jobs.get()) is not None:
            try:
                received = self._receive(queue, job.count)
                if self._taken(queue, received):
                    self._call_soon(job.on_received, received)
            except Exception as exc:
                self._call_soon(job.on_failed, exc)


def in_flight(received: Received, now: float, visibility_timeout_s: float) -> list[InFlightMessage]:
    return [
        InFlightMessage(received.url, message, received_at=now, hidden_until=now + visibility_timeout_s)
        for message in received.messages
    ]

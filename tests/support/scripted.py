"""A channel without a network: its polls are answered by the test, and what it settles is recorded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from kombu import Connection

from pipeline.sqs.transport.channel import Channel
from pipeline.sqs.transport.parts import Parts
from pipeline.sqs.transport.polling import Poller
from pipeline.sqs.transport.receiver import Received, ReceiveJob
from pipeline.sqs.transport.redrive_policy import RedrivePolicy

URL = "http://127.0.0.1:9/123456789012/p-tasks"
MAX_RECEIVES = 5


class FakeHub:
    """Runs nothing by itself: keeps what is to be called soon, and what later."""

    def __init__(self) -> None:
        self.soon: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.later: list[tuple[float, Callable[..., Any], tuple[Any, ...]]] = []

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> None:
        self.soon.append((callback, args))

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any) -> None:
        self.later.append((delay, callback, args))

    def run_soon(self) -> None:
        due, self.soon = self.soon, []
        for callback, args in due:
            callback(*args)

    def run_later(self) -> float:
        (delay, callback, args), *self.later = self.later
        callback(*args)
        return delay


class Recorder(list[Any]):
    """Stands in for a ``Batcher``."""

    def put(self, item: Any) -> None:
        self.append(item)

    def close(self) -> None:
        """Nothing to send."""


class ScriptedChannel(Channel):
    hub: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.asked: list[ReceiveJob] = []
        self.deletes, self.releases, self.moves = Recorder(), Recorder(), Recorder()
        super().__init__(*args, **kwargs)

    @cached_property
    def parts(self) -> Parts:
        made = super().parts
        settlement: Any = made.settlement
        settlement.deletes, settlement.releases, settlement.moves = self.deletes, self.releases, self.moves
        extender: Any = made.extender
        extender.watch = lambda: None  # no thread
        return made

    @cached_property
    def poller(self) -> Poller:
        made = super().poller
        receiver: Any = made
        receiver._receiver = self
        return made

    # As a ``Receiver`` is: nothing is sent.

    def start(self, queue: str, job: ReceiveJob) -> None:
        self.asked.append(job)

    def answer(self, *messages: dict[str, Any]) -> None:
        """Answers the open receive."""
        job = self.asked.pop()
        received = Received(URL, list(messages))
        if self.delivery.taken("tasks", received):
            job.on_received(received)
        self.hub.run_soon()

    def fail(self, exc: Exception) -> None:
        self.asked.pop().on_failed(exc)

    @property
    def reasons(self) -> list[str]:
        """Of what is on its way to the dead-letter queue."""
        return [move.reason for move in self.moves if move.delay_s is None]

    def consume(self, callback: Callable[[Any], Any] | None = None) -> list[Any]:
        """Starts to consume the queue ``tasks``; returns the list that received messages are added to."""
        received: list[Any] = []
        self.basic_consume(
            "tasks", no_ack=False, callback=received.append if callback is None else callback, consumer_tag="c"
        )
        self.hub.run_soon()
        return received


@contextmanager
def scripted_channel(**options: Any) -> Iterator[ScriptedChannel]:
    connection = Connection(
        "sqs://",
        transport="pipeline.sqs.transport.transport:Transport",
        transport_options={"queue_name_prefix": "p-", **options},
    )
    transport = connection.transport
    transport._queue_cache["p-tasks"] = URL
    made = ScriptedChannel(transport)
    made.hub = FakeHub()
    made.parts.redrive._known[URL] = RedrivePolicy(f"{URL}-dlq", MAX_RECEIVES)
    try:
        yield made
    finally:
        made.close()


def sqs_message(number: int, receives: int = 1, **headers: Any) -> dict[str, Any]:
    """A task message as ReceiveMessage returns it."""
    body = {
        "body": "[[], {}, {}]",
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "t", "id": str(number), **headers},
        "properties": {"delivery_info": {"exchange": "", "routing_key": "tasks"}, "body_encoding": "utf-8"},
    }
    return {
        "MessageId": f"m{number}",
        "ReceiptHandle": f"h{number}",
        "Body": json.dumps(body),
        "Attributes": {"ApproximateReceiveCount": str(receives)},
    }

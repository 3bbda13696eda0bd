"""A service that fails, seen from the channel and from Celery's requests: what is received, and what is sent again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import Reject
from celery.worker import state
from celery.worker.request import create_request_cls
from kombu.asynchronous.semaphore import LaxBoundedSemaphore

from pipeline.aws.backoff import Backoff
from pipeline.sqs.outage.gate import FAILURES, Gate, GateState
from pipeline.sqs.outage.patience import Patience
from pipeline.sqs.settled import Settled, Unavailable
from pipeline.sqs.transport.batcher import BatchFailure
from pipeline.sqs.transport.inflight import receives
from pipeline.sqs.transport.polling import PollState
from pipeline.sqs.transport.publishing import PublishEntry, PublishError
from pipeline.sqs.transport.settlement import changed
from pipeline.sqs.worker.heartbeat import is_consuming
from pipeline.sqs.worker.outage import GateOfChannel, GateStep
from pipeline.sqs.worker.request import Request
from tests.support.scripted import ScriptedChannel, scripted_channel, sqs_message
from tests.unit.test_broker_endings import Pool, info
from tests.unit.test_broker_settling import Work

PROCESSES = 2


class Worker:
    """Its tasks are in processes as soon as they are received; the test says how each ends."""

    def __init__(self, channel: ScriptedChannel) -> None:
        self.channel, self.running, self.now = channel, {}, 0.0  # type: ignore[var-annotated]
        channel.gate = Gate(backoff=Backoff(10, 40), clock=lambda: self.now)
        channel.basic_qos(0, PROCESSES, False)
        self._app = Celery(set_as_current=False, broker="memory://")

        @self._app.task(name="t", shared=False)
        def task() -> None:
            """Never run."""

        self._task = task
        channel.consume(self._begin)

    def _begin(self, message: Any) -> None:
        pool = Pool()
        eventer = SimpleNamespace(enabled=False, send=lambda *_, **__: None)
        made: Any = create_request_cls(Request, self._task, pool, "h", eventer, app=self._app)
        options: dict[str, Any] = dict.fromkeys(("on_ack", "on_reject"), lambda *_: None)
        request = made(
            message, app=self._app, task=self._task, hostname="h", eventer=eventer, connection_errors=(), **options
        )
        request.execute_using_pool(pool)
        self.running[request.id] = pool

    def receive(self, *messages: dict[str, Any]) -> None:
        self.channel.answer(*messages)

    def end(self, number: int, exc: BaseException | None = None) -> None:
        callback = self.running.pop(str(number)).callback
        callback((0, "'done'", 0.1) if exc is None else (1, info(exc), 0.1))
        self.channel.hub.run_soon()

    def fail(self, *numbers: int) -> None:
        for number in numbers:
            self.receive(sqs_message(number))
            self.end(number, away(number))

    @property
    def copies(self) -> list[dict[str, Any]]:
        """Headers of what is sent again, as it will be."""
        moves = [move for move in self.channel.moves if move.delay_s is not None]
        return [json.loads(changed(move.message.message["Body"], move.headers))["headers"] for move in moves]


def away(number: int) -> Unavailable:
    return Unavailable("S3 is away", 30, subject=f"s3://in/{number}.jpg")


def unpublished(*, is_refusal: bool = False) -> PublishError:
    entry = PublishEntry("url", {}, 1, "tasks.thumbnail", "id", "root")
    return PublishError([BatchFailure(entry, "SQS answered 503", final=is_refusal)])


@pytest.fixture
def worker() -> Iterator[Worker]:
    with scripted_channel() as channel:
        yield Worker(channel)


def test_a_failure_costs_neither_a_receive_nor_a_try(worker: Worker) -> None:
    worker.fail(1)
    (copy,) = worker.copies
    assert copy["deferrals"] == 1
    assert copy.get("retries", 0) == 0
    assert abs(copy["failed_at"] - time.time()) < 60
    assert worker.channel.releases == []
    assert worker.channel.reasons == []


@pytest.mark.parametrize(("failed_at", "counted"), [(None, "deferrals"), (0.0, "retries"), (9e9, "deferrals")])
def test_it_costs_a_try_where_others_succeeded_since_it_failed_last(
    worker: Worker, failed_at: float | None, counted: str
) -> None:
    worker.receive(sqs_message(1, failed_at=failed_at, retries=2, deferrals=2), sqs_message(2))
    worker.end(2)
    worker.end(1, away(1))
    (copy,) = worker.copies
    assert {name: copy[name] for name in ("retries", "deferrals")} == {"retries": 2, "deferrals": 2} | {counted: 3}


def test_a_dead_letter_that_is_redriven_is_tried_as_if_it_were_new(worker: Worker) -> None:
    worker.receive(sqs_message(1, failing_since=5.0, failed_at=9.0, retries=5, deferrals=80), sqs_message(2, retries=3))
    for number in (1, 2):
        worker.end(number, Reject("it waited for too long", requeue=False))
    sent = [json.loads(changed(move.message.message["Body"], move.headers)) for move in worker.channel.moves]
    assert [Patience.of(letter["headers"]) for letter in sent] == [Patience(), Patience(retries=3)]


def test_while_a_service_fails_for_everybody_nothing_is_received(worker: Worker) -> None:
    worker.fail(*range(FAILURES))
    assert worker.channel.gate.state is GateState.CLOSED
    worker.receive()  # the poll that was open brings nothing
    assert worker.channel.asked == []
    poll = worker.channel.poller.polls["tasks"]
    assert poll.state is PollState.FULL
    worker.channel.poller.resume()
    worker.now += 4
    worker.channel.poller.resume()
    assert worker.channel.asked == []
    assert is_consuming(worker.channel, 45), "it is healthy: it waits for a service"
    worker.now += 40
    assert not is_consuming(worker.channel, 45), "nobody has asked for the probe"


def test_probes_are_of_one_message_until_one_succeeds(worker: Worker) -> None:
    worker.fail(*range(FAILURES))
    for number in range(10, 13):
        worker.now += 40
        worker.channel.poller.resume()
        assert [job.count for job in worker.channel.asked] == [1]
        worker.receive(sqs_message(number))
        assert worker.channel.asked == [], "no second one beside it"
        worker.end(number, away(number))
        assert worker.channel.asked == []
    worker.now += 40
    worker.channel.poller.resume()
    worker.receive(sqs_message(20))
    worker.end(20)
    assert [job.count for job in worker.channel.asked] > [1]
    assert [copy["deferrals"] for copy in worker.copies] == [1] * (FAILURES + 3)
    assert len(worker.channel.deletes) == 1
    assert worker.channel.reasons == worker.channel.releases == []


def test_a_malformed_message_is_no_probe(worker: Worker) -> None:
    worker.fail(*range(FAILURES))
    worker.now += 40
    worker.channel.poller.resume()
    worker.receive({**sqs_message(10), "Body": "no message of Celery's"})
    assert len(worker.channel.releases) == 1
    assert [job.count for job in worker.channel.asked] == [1], "the next one is"


def test_what_an_open_poll_still_brings_goes_back_as_new(worker: Worker) -> None:
    worker.receive(*(sqs_message(number) for number in range(FAILURES)))
    for number in range(FAILURES):
        worker.end(number, away(number))
    assert len(worker.channel.asked) == 1, "the poll was open before"
    worker.receive(sqs_message(10), sqs_message(11, receives=3))
    assert worker.running == {}
    moved = {move.message.message_id: move for move in worker.channel.moves if move.delay_s == 0}
    assert set(moved) == {"m10", "m11"}
    assert [receives(moved[name].message.message) for name in sorted(moved)] == [1, 3]
    assert not any(move.was_begun or move.headers for move in moved.values())
    assert len(worker.channel.parts.in_flight) == 0


def test_a_failure_that_is_recorded_closes_nothing(worker: Worker) -> None:
    for number in range(3 * FAILURES):
        worker.receive(sqs_message(number))
        worker.running[str(number)].callback((1, info(away(number), Settled("failed", "record")), 0.1))
        worker.channel.hub.run_soon()
    assert worker.channel.gate.state is GateState.OPEN
    assert worker.copies == []


@pytest.mark.parametrize("shown", [lambda exc: exc, lambda exc: Reject(exc, requeue=False)])  # Celery's, for a retry
def test_what_can_t_be_published_keeps_its_receives_for_hours_and_closes_the_gate(worker: Worker, shown: Any) -> None:
    for number in range(FAILURES):
        worker.receive(sqs_message(number, receives=min(number + 1, 4)))
        worker.end(number, shown(unpublished()))
    assert [release.after_s for release in worker.channel.releases] == [2, 32, 512, 8192, 8192]
    assert worker.channel.gate.state is GateState.CLOSED


def test_what_sqs_refuses_for_what_it_is_closes_nothing(worker: Worker) -> None:
    for number in range(3 * FAILURES):
        worker.receive(sqs_message(number))
        worker.end(number, unpublished(is_refusal=True))
    assert worker.channel.gate.state is GateState.OPEN


def test_what_no_process_has_begun_goes_back_as_new_and_is_not_begun(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, begun = worker.channel, list[Any]()
    processes = LaxBoundedSemaphore(1)
    messages = channel.consume()
    worker.receive(sqs_message(1), sqs_message(2), sqs_message(3))
    running, waiting, limited = (Work(each, None) for each in messages)
    for request in (running, waiting):
        processes.acquire(begun.append, request)
    running._apply_result = object()
    bucket = SimpleNamespace(contents=[(limited, 1)])
    bucket.clear_pending = bucket.contents.clear
    monkeypatch.setattr(state, "reserved_requests", {running, waiting})
    monkeypatch.setattr(state, "active_requests", {running})
    monkeypatch.setattr(state, "task_ready", lambda request: None)
    consumer = SimpleNamespace(task_buckets={"a": None, "b": bucket}, task_consumer=SimpleNamespace(channel=channel))
    made: Any = SimpleNamespace(consumer=consumer, semaphore=processes, hub=channel.hub, app=None)
    step = GateStep(made)
    GateOfChannel(made).start(SimpleNamespace(controller=made, task_consumer=consumer.task_consumer))
    assert channel.gate is made.gate

    for number in range(FAILURES):
        channel.gate.failed(f"{number}", "S3 is away")
    channel.hub.run_soon()
    assert {move.message.message_id: move.delay_s for move in channel.moves} == {"m2": 0, "m3": 0}
    assert not any(move.was_begun or move.headers for move in channel.moves)
    processes.release()
    assert (begun, bucket.contents, processes.value) == ([running], [], 1)
    assert [message.message_id for message in channel.parts.in_flight.select()] == ["m1"]

    step._look()
    assert [job.count for job in channel.asked] == [], "the gate is closed"

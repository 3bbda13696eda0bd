"""Reports about what is received: polling, visibility, foreign messages, shutdown, pools."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from botocore.exceptions import ClientError, ReadTimeoutError

from pipeline.aws.plain_errors import ConfigError
from pipeline.sqs import install
from pipeline.sqs.settled import on_raise
from pipeline.sqs.transport.inflight import InFlightMessage, InFlightMessages
from pipeline.sqs.transport.polling import PollState
from pipeline.sqs.transport.visibility import VisibilityExtender
from pipeline.sqs.worker.heartbeat import is_consuming
from pipeline.sqs.worker.startup import PoolCheck
from tests.public_reports.registry import report
from tests.public_reports.test_sending import Side, made_app, sides
from tests.support.scripted import MAX_RECEIVES, ScriptedChannel, scripted_channel, sqs_message

__all__ = ["sides"]


@pytest.fixture
def channel() -> Iterator[ScriptedChannel]:
    with scripted_channel() as made:
        yield made


def refused(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "ReceiveMessage")  # type: ignore[typeddict-item]


def polls_again(channel: ScriptedChannel, exc: Exception) -> None:
    received = channel.consume()
    channel.fail(exc)
    assert channel.poller.polls["tasks"].state is PollState.BACKING_OFF
    channel.hub.run_later()
    channel.answer(sqs_message(1))
    assert len(received) == 1


@report("celery/kombu#1937", "a receive is answered with 403", "the worker polls again, with back-off")
def test_a_refused_receive_is_not_the_last(channel: ScriptedChannel) -> None:
    polls_again(channel, refused("AccessDenied", 403))


@report("celery/kombu#2031, #2217, #1459", "the credentials expire", "the worker polls again, with back-off")
def test_expired_credentials_are_not_the_end(channel: ScriptedChannel) -> None:
    polls_again(channel, refused("ExpiredToken", 403))


@report(
    "celery/celery#4115, #8243",
    "a receive is never answered, and the worker silently stops consuming",
    "the receive times out, and the worker polls again",
)
def test_a_receive_without_an_answer_is_not_the_last(channel: ScriptedChannel) -> None:
    assert channel.reply_timeout_s < 60
    polls_again(channel, ReadTimeoutError(endpoint_url="http://sqs"))


@report(
    "celery/celery#3712",
    "100 % CPU while the worker holds as many messages as it may prefetch",
    "the worker waits until a message is settled",
)
def test_a_full_worker_does_nothing(channel: ScriptedChannel) -> None:
    messages = channel.consume()
    channel.qos.prefetch_count = 1
    channel.answer(sqs_message(1))
    assert channel.poller.polls["tasks"].state is PollState.FULL
    assert (channel.asked, channel.hub.soon, channel.hub.later) == ([], [], [])
    messages[0].ack()
    channel.hub.run_soon()
    assert len(channel.asked) == 1


@report(
    "celery/kombu#2421, #1181, #1180",
    "a message that Celery did not write",
    "becomes a dead letter with the reason; the receive's other messages are processed",
    "a parse error ends the whole receive",
)
def test_a_foreign_message_costs_no_other(channel: ScriptedChannel, sides: tuple[Side, Side]) -> None:
    foreign = {**sqs_message(1), "Body": json.dumps({"properties": 5})}
    received = channel.consume()
    channel.answer(foreign, sqs_message(3))
    assert len(channel.reasons) == 1
    assert "not a Celery message" in channel.reasons[0]
    assert [message.delivery_tag for message in received][-1] == "h3"
    _, stock = sides
    url = stock.server.client().get_queue_url(QueueName=f"{stock.prefix}tasks")["QueueUrl"]
    stock.server.client().send_message(QueueUrl=url, MessageBody=foreign["Body"])
    with stock.app.connection_for_read() as opened, pytest.raises(AttributeError, match="setdefault"):
        opened.default_channel.basic_get("tasks")


@report(
    "celery/celery#4797",
    "a task kills its process on every run",
    "its message becomes a dead letter on the last delivery, with the reason",
    "lost: the message is deleted before the task starts",
)
def test_the_last_delivery_is_a_dead_letter_with_its_reason(channel: ScriptedChannel) -> None:
    (message,) = consumed(channel, receives=MAX_RECEIVES)
    channel.parts.settlement.fail(message, "its process was lost")
    assert channel.reasons == [f"delivered {MAX_RECEIVES} times, at last: its process was lost"]
    ours, stock = made_app(), made_app()
    install(ours)
    assert (ours.conf.task_acks_late, stock.conf.task_acks_late) == (True, False)


@report(
    "celery/celery#4797 (a task that raises)",
    "its message is acknowledged all the same",
    "delivered again: a message is deleted only with proof that its work is safe",
    "deleted, even with `task_acks_late`",
)
def test_an_exception_is_no_proof() -> None:
    with pytest.raises(MemoryError) as caught:
        b"x" * 2**62
    info = ExceptionInfo((caught.type, caught.value, caught.tb))
    assert on_raise(info).effect.value == "released"
    ours, stock = made_app(), made_app()
    install(ours)
    assert (ours.conf.task_acks_on_failure, stock.conf.task_acks_on_failure_or_timeout) == (False, True)


@report(
    "celery/kombu#1819, #1835, celery/celery#10172, #8875",
    "messages that a worker has prefetched when it shuts down",
    "released: other workers see them at once",
)
def test_a_stop_strands_nothing(channel: ScriptedChannel) -> None:
    consumed(channel)
    channel.let_go()
    assert [release.message.handle for release in channel.releases] == ["h1"]
    assert [release.after_s for release in channel.releases] == [0]


@report(
    "bbc/sqs-consumer#373, aws/aws-sdk-ruby#1490",
    "messages that an open receive brings while the worker shuts down",
    "released as they arrive",
)
def test_what_arrives_at_a_stop_is_released(channel: ScriptedChannel) -> None:
    received = channel.consume()
    channel.poller.stop()
    channel.answer(sqs_message(1))
    assert received == []
    assert [release.message.handle for release in channel.releases] == ["h1"]


def consumed(channel: ScriptedChannel, receives: int = 1) -> list[InFlightMessage]:
    channel.consume()
    channel.answer(sqs_message(1, receives=receives))
    return channel.parts.in_flight.select()


class Visibility:
    """An SQS that refuses some entries of a batch."""

    def __init__(self, *refused: str) -> None:
        self.refused = refused
        self.extended: list[str] = []

    def change_message_visibility_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        failed = [entry for entry in Entries if entry["ReceiptHandle"] in self.refused]
        self.extended += [entry["ReceiptHandle"] for entry in Entries if entry not in failed]
        return {"Failed": [{"Id": entry["Id"], "Code": "InternalError"} for entry in failed]}


def extended(sqs: Visibility, *handles: str, age_s: float = 60, timeout_s: float = 90) -> list[str]:
    messages = InFlightMessages()
    messages.add(
        InFlightMessage("http://q", {"ReceiptHandle": handle}, received_at=0, hidden_until=timeout_s)
        for handle in handles
    )
    client: Any = sqs
    VisibilityExtender(messages, lambda: client, timeout_s, is_alive=lambda: True, clock=lambda: age_s).extend()
    return sqs.extended


@report(
    "celery/celery#3270, #4766",
    "a task that takes longer than the visibility time-out",
    "its message stays hidden: the time-out is extended while it runs",
)
def test_a_long_task_stays_hidden() -> None:
    assert extended(Visibility(), "h1") == ["h1"]
    assert extended(Visibility(), "h1", age_s=10) == []


@report("celery/celery#7742", "messages that wait in the worker behind a long task", "stay hidden too")
def test_what_waits_stays_hidden() -> None:
    handles = [f"h{number}" for number in range(25)]
    assert sorted(extended(Visibility(), *handles)) == sorted(handles)


@report(
    "aws-sdk-js-v3#2983",
    "ChangeMessageVisibilityBatch fails for some entries",
    "the others are extended, and the failed ones are tried again",
)
def test_a_partial_failure_costs_no_other() -> None:
    sqs = Visibility("h2")
    assert extended(sqs, "h1", "h2", "h3") == ["h1", "h3"]


@report(
    "dramatiq_sqs#59, taskiq-aio-sqs#54, awspring#1430",
    "a task of several hours",
    "its message stays hidden for the 12 hours that SQS allows; then the log says so",
)
def test_twelve_hours_are_the_most(caplog: pytest.LogCaptureFixture) -> None:
    assert extended(Visibility(), "h1", age_s=12 * 3600 - 60, timeout_s=12 * 3600 - 30) == ["h1"]
    assert extended(Visibility(), "h1", age_s=12 * 3600, timeout_s=12 * 3600) == []
    assert "the most that SQS allows" in caplog.text


@report(
    "celery/celery#6727",
    "a health check of workers",
    "a heartbeat file that only progress touches; a queue that is not polled is unhealthy",
)
def test_a_queue_that_nobody_polls_is_not_healthy(channel: ScriptedChannel) -> None:
    channel.consume()
    assert is_consuming(channel, 45)
    channel.poller.polls["tasks"].since -= 60
    assert not is_consuming(channel, 45)


def refusal(pool: str, *, loop: bool) -> str:
    worker = SimpleNamespace(
        pool_cls=type("TaskPool", (), {"__module__": f"celery.concurrency.{pool}"}), use_eventloop=loop
    )
    with pytest.raises(ConfigError) as caught:
        PoolCheck(worker).start(worker)
    return str(caught.value)


@report(
    "celery/celery#4182, #3819",
    "gevent: tasks that are done run again, or nothing is consumed",
    "refused at start, in one sentence",
)
def test_gevent_is_refused() -> None:
    assert refusal("gevent", loop=False).startswith("pool gevent is not supported: ")


@report("celery/celery#5158, #2999", "eventlet stalls", "refused at start, in one sentence")
def test_eventlet_is_refused() -> None:
    assert refusal("eventlet", loop=False).startswith("pool eventlet is not supported: ")

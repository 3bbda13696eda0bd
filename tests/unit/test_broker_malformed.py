"""What Celery hands to our consumer and request classes, and what they make of it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import InvalidTaskError
from celery.worker import consumer as stock_consumer

from pipeline.core.errors import ConfigError
from pipeline.sqs.transport.inflight import InFlightMessage
from pipeline.sqs.transport.redrive_policy import RedrivePolicy, redrive_policy
from pipeline.sqs.transport.settlement import MAX_REASON_CHARS, clean, with_reason
from pipeline.sqs.worker.consumer import STOCK_REQUEST, Consumer
from pipeline.sqs.worker.request import Request
from tests.support.scripted import URL, ScriptedChannel, scripted_channel, sqs_message


@pytest.fixture(scope="module")
def app() -> Celery:
    app = Celery("malformed", set_as_current=False, broker="memory://")

    @app.task(name="t.two", shared=False)
    def two(a: int, b: int = 0) -> int:
        return a + b

    @app.task(name="t.bound", bind=True, shared=False)
    def bound(self: Any, a: int) -> int:
        return a

    app.finalize()
    return app


@pytest.fixture
def channel() -> Iterator[ScriptedChannel]:
    with scripted_channel() as made:
        yield made


def message(channel: ScriptedChannel, task: str, body: Any) -> Any:
    raw = sqs_message(1, task=task)
    envelope = json.loads(raw["Body"])
    envelope["body"] = json.dumps(body)
    received = channel.consume()
    channel.answer({**raw, "Body": json.dumps(envelope)})
    return received[0]


@pytest.mark.parametrize("body", [[[1], {}, {}], [[1, 2], {}, {}], [[], {"a": 1, "b": 2}, {}]])
def test_arguments_that_fit_are_taken(app: Celery, channel: ScriptedChannel, body: Any) -> None:
    assert Request(message(channel, "t.two", body), app=app).name == "t.two"


def test_self_is_not_counted(app: Celery, channel: ScriptedChannel) -> None:
    assert Request(message(channel, "t.bound", [[1], {}, {}]), app=app).args == [1]


@pytest.mark.parametrize(
    "body",
    [
        [[], {}, {}],
        [[1, 2, 3], {}, {}],
        [[1], {"c": 1}, {}],
        [[1], {}],
        [1],
        {"a": 1},
        [3, {}, {}],
        [[1], "kwargs", {}],
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_a_process_gets_them(
    app: Celery, channel: ScriptedChannel, body: Any
) -> None:
    with pytest.raises(InvalidTaskError):
        Request(message(channel, "t.two", body), app=app)


class ConsumerUnderTest(Consumer):
    """The handlers alone, without a blueprint."""

    def __init__(self, app: Celery) -> None:
        self.app, self.connection_errors = app, ()
        self.strategies: dict[str, Any] = {}
        self.on_task_message: set[Any] = set()
        self.event_dispatcher = None
        self._maximum_prefetch_restored = True

    def call_soon_ack(self, promise: Any, *_args: Any) -> Any:
        return promise


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"Body": "hello"}, "not a Celery message: it names no task"),
        ({"Body": '{"Records": []}'}, "not a Celery message: it names no task"),
        (sqs_message(1, task="t.unknown"), "unknown task t.unknown"),
    ],
)
def test_malformed_is_moved_with_its_reason(
    app: Celery, channel: ScriptedChannel, raw: dict[str, Any], reason: str
) -> None:
    channel.consume(ConsumerUnderTest(app).create_task_handler())
    channel.answer({**sqs_message(1), **raw})
    assert channel.reasons == [reason]
    assert len(channel.parts.in_flight) == 0


@pytest.mark.parametrize("body", ["3", "null", '"text"', "true"])
def test_a_body_that_celery_would_choke_on_is_malformed_too(app: Celery, channel: ScriptedChannel, body: str) -> None:
    raw = sqs_message(1, task="t.two")
    envelope = json.loads(raw["Body"])
    envelope["body"] = body
    channel.consume(ConsumerUnderTest(app).create_task_handler())
    channel.answer({**raw, "Body": json.dumps(envelope)})
    assert channel.reasons == ["malformed task message: its body is no list"]


def test_a_defect_of_ours_costs_the_message_nothing_but_time(app: Celery, channel: ScriptedChannel) -> None:
    consumer = ConsumerUnderTest(app)

    def choke(*_: Any) -> None:
        raise KeyError("id")

    consumer.strategies["t.two"] = choke
    channel.consume(consumer.create_task_handler())
    channel.answer(sqs_message(1, task="t.two"))
    assert channel.moves == []
    assert [item.after_s for item in channel.releases] == [2]


def test_a_body_that_cannot_be_decoded_is_not_acknowledged(app: Celery, channel: ScriptedChannel) -> None:
    consumer = ConsumerUnderTest(app)
    received = message(channel, "t.two", [])
    consumer.on_decode_error(received, ValueError("bad utf-8"))
    assert channel.deletes == []
    assert channel.reasons == ["the body can't be decoded: bad utf-8"]


def test_reasons_fit_into_a_message_attribute() -> None:
    assert clean("a\x00b\ud800c") == "a\ufffdb\ufffdc"
    assert len(clean("x" * 5000)) == MAX_REASON_CHARS
    assert clean("") != ""


class FakeSqs:
    class exceptions:  # noqa: N801 - as a client has it
        class QueueDoesNotExist(Exception):
            pass

    def __init__(self, policy: dict[str, Any] | None, known: bool = True) -> None:
        self._policy, self._known = policy, known

    def get_queue_attributes(self, **_: Any) -> dict[str, Any]:
        return {} if self._policy is None else {"Attributes": {"RedrivePolicy": json.dumps(self._policy)}}

    def get_queue_url(self, QueueName: str) -> dict[str, Any]:  # noqa: N803
        if not self._known:
            raise self.exceptions.QueueDoesNotExist
        return {"QueueUrl": f"https://sqs/1/{QueueName}"}


POLICY = {"deadLetterTargetArn": "arn:aws:sqs:eu-central-1:1:p-tasks-dlq", "maxReceiveCount": 5}


def test_finds_the_dead_letter_queue() -> None:
    assert redrive_policy(FakeSqs(POLICY), "https://sqs/1/p-tasks") == RedrivePolicy(  # type: ignore[arg-type]
        "https://sqs/1/p-tasks-dlq", 5
    )


@pytest.mark.parametrize(
    ("sqs", "text"),
    [
        (FakeSqs(None), "queue p-tasks has no dead-letter queue.*RedrivePolicy"),
        (FakeSqs(POLICY, known=False), "p-tasks-dlq of queue p-tasks does not exist"),
    ],
)
def test_a_queue_without_one_is_an_error_that_says_what_to_do(sqs: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        redrive_policy(sqs, "https://sqs/1/p-tasks")


def test_the_places_in_celery_that_malformed_is_fastened_to(app: Celery) -> None:
    assert app.Task.Request == STOCK_REQUEST
    assert app.conf.worker_consumer == "celery.worker.consumer:Consumer"
    assert "self.strategies[name] = task.start_strategy(self.app, self)" in inspect.getsource(
        stock_consumer.Consumer.update_strategies
    )
    source = inspect.getsource(stock_consumer.Consumer.create_task_handler)
    for name in ("on_unknown_message", "on_unknown_task", "on_invalid_task", "on_decode_error"):
        assert f"self.{name}" in source
        handler = inspect.getsource(getattr(stock_consumer.Consumer, name))
        assert ("message.ack()" if name == "on_decode_error" else "message.reject_log_error(") in handler


def test_a_dead_letter_keeps_what_its_sender_gave_it() -> None:
    text = {"DataType": "String", "StringValue": "00-4bf9"}
    message = {
        "Body": "hello",
        "Attributes": {"ApproximateReceiveCount": "2", "MessageGroupId": "tenant"},
        "MessageAttributes": {
            "reason": {"DataType": "String", "StringValue": "an earlier one"},
            "traceparent": text,
            "bytes": {"DataType": "Binary", "BinaryValue": "AAE="},
        },
    }
    sent = with_reason(InFlightMessage(URL, message), "rejected by t.two")
    assert (sent["MessageBody"], sent["MessageGroupId"]) == ("hello", "tenant")
    assert sent["MessageAttributes"] == {
        "reason": {"DataType": "String", "StringValue": "rejected by t.two"},
        "traceparent": text,
        "bytes": {"DataType": "Binary", "BinaryValue": b"\0\1"},
    }


def test_a_reason_finds_room_among_ten_attributes() -> None:
    full = {f"a{n}": {"DataType": "String", "StringValue": "x"} for n in range(10)}
    sent = with_reason(InFlightMessage(URL, {"Body": "hello", "MessageAttributes": full}), "not JSON")
    assert len(sent["MessageAttributes"]) == 10
    assert sent["MessageAttributes"]["reason"]["StringValue"] == "not JSON"

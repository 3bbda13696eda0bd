"""The poll loop by itself, and the places in kombu that it is fastened to."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kombu import Connection
from kombu.asynchronous import Hub, set_event_loop
from kombu.asynchronous.aws.connection import AsyncHTTPSConnection
from kombu.asynchronous.aws.sqs.connection import AsyncSQSConnection
from kombu.asynchronous.http.base import Request
from kombu.transport import SQS, virtual
from vine import promise

from pipeline import aws
from pipeline.broker.polling import MAX_BACKOFF_S, PollState
from pipeline.broker.receiving import ReceiveError, SQSConnection
from pipeline.broker.transport import Channel

URL = "http://127.0.0.1:1/123456789012/p-tasks"


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


class ScriptedChannel(Channel):
    """Its polls are recorded instead of sent; a test answers them."""

    do_restore = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.asked: list[tuple[int, Any]] = []
        super().__init__(*args, **kwargs)

    def _get_from_sqs(self, *_args: Any, count: int = 1, callback: Any = None, **_kwargs: Any) -> None:
        self.asked.append((count, callback))

    def asynsqs(self, queue: str | None = None) -> None:
        """No client: nothing is sent."""

    def answer(self, *messages: dict[str, Any]) -> None:
        self.asked.pop()[1]({"Messages": list(messages)} if messages else {})

    def fail(self, exc: Exception) -> None:
        self.asked.pop()[1].throw(exc)


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedChannel]:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, value)
    aws.forget_clients()
    connection = Connection(
        "sqs://", transport="pipeline.broker.transport:Transport", transport_options={"queue_name_prefix": "p-"}
    )
    transport = connection.transport
    transport._queue_cache["p-tasks"] = URL
    made = ScriptedChannel(transport)
    made.hub = FakeHub()
    yield made
    transport.channels.clear()
    aws.forget_clients()


def consume(channel: ScriptedChannel) -> list[Any]:
    received: list[Any] = []
    channel.basic_consume("tasks", no_ack=False, callback=received.append, consumer_tag="c")
    channel.hub.run_soon()
    return received


def sqs_message(number: int) -> dict[str, Any]:
    body = {
        "body": "[[], {}, {}]",
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "t", "id": str(number)},
        "properties": {"delivery_info": {"exchange": "", "routing_key": "tasks"}, "body_encoding": "utf-8"},
    }
    return {"MessageId": f"m{number}", "ReceiptHandle": f"h{number}", "Body": json.dumps(body)}


def test_each_answer_leads_to_the_next_poll(channel: ScriptedChannel) -> None:
    received = consume(channel)
    for number in range(3):
        channel.answer(sqs_message(number))
        channel.hub.run_soon()
    channel.answer()
    channel.hub.run_soon()
    assert [message.headers["id"] for message in received] == ["0", "1", "2"]
    assert len(channel.asked) == 1


@pytest.mark.parametrize("exc", [ReceiveError("HTTP 500"), OSError("no route"), RuntimeError("a bug")])
def test_each_failure_leads_to_the_next_poll(channel: ScriptedChannel, exc: Exception) -> None:
    consume(channel)
    channel.fail(exc)
    assert channel.polls["tasks"].state is PollState.BACKING_OFF
    assert 0.5 <= channel.hub.run_later() <= 1
    assert len(channel.asked) == 1


def test_a_poll_that_cannot_even_be_sent_is_a_failure_like_others(
    channel: ScriptedChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError("no credentials")

    with monkeypatch.context() as patch:
        patch.setattr(channel, "_get_from_sqs", refuse)
        consume(channel)
    channel.hub.run_later()
    assert len(channel.asked) == 1


def test_backs_off_with_jitter_and_logs_the_first_failure_and_the_recovery(
    channel: ScriptedChannel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "pipeline")
    consume(channel)
    delays = []
    for _ in range(40):
        channel.fail(ReceiveError("HTTP 503 ServiceUnavailable"))
        delays.append(channel.hub.run_later())
    assert all(0.5 * min(2.0**n, MAX_BACKOFF_S) <= d <= MAX_BACKOFF_S for n, d in enumerate(delays))
    assert len(set(delays[-10:])) > 1
    channel.answer()
    channel.hub.run_soon()
    channel.answer()
    assert [record.action for record in caplog.records] == ["poll-failed", "poll-recovered"]  # type: ignore[attr-defined]
    assert caplog.records[1].failures == 40  # type: ignore[attr-defined]


def test_polls_only_while_there_is_room_and_again_when_there_is(channel: ScriptedChannel) -> None:
    channel.basic_qos(prefetch_count=1)
    consume(channel)
    ((asked, _),) = channel.asked
    channel.answer(*(sqs_message(number) for number in range(asked)))
    channel.hub.run_soon()
    while channel.asked:  # whatever it holds in reserve
        ((count, _),) = channel.asked
        channel.answer(*(sqs_message(100 + asked + n) for n in range(count)))
        asked += count
        channel.hub.run_soon()
    assert channel.polls["tasks"].state is PollState.FULL
    for tag in list(channel.qos._delivered):
        channel.qos.ack(tag)
    assert len(channel.asked) == 1


def test_one_loop_a_queue_even_when_it_is_consumed_anew(channel: ScriptedChannel) -> None:
    consume(channel)
    channel.basic_cancel("c")
    consume(channel)
    assert len(channel.asked) == 1
    channel.answer()
    channel.hub.run_soon()
    assert len(channel.asked) == 1


def test_a_consumer_that_raises_costs_neither_the_other_messages_nor_the_poll(
    channel: ScriptedChannel, caplog: pytest.LogCaptureFixture
) -> None:
    seen = []

    def receive(message: Any) -> None:
        seen.append(message.headers["id"])
        if message.headers["id"] == "0":
            raise RuntimeError("a bug")

    channel.basic_consume("tasks", no_ack=False, callback=receive, consumer_tag="c")
    channel.hub.run_soon()
    channel.answer(sqs_message(0), sqs_message(1))
    channel.hub.run_soon()
    assert seen == ["0", "1"]
    assert len(channel.asked) == 1
    assert "m0" in caplog.text


def test_stops_polling_when_told_to(channel: ScriptedChannel) -> None:
    consume(channel)
    channel.stop_polling()
    channel.answer()
    channel.hub.run_soon()
    assert channel.asked == []


class _Reply:
    def __init__(self, status: int, body: bytes = b"", reason: str = "") -> None:
        self.status, self.reason, self._body = status, reason, body

    def read(self) -> bytes:
        return self._body


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (_Reply(500, b'{"__type":"com.amazonaws.sqs#InternalError"}'), "HTTP 500 InternalError"),
        (_Reply(403, b'{"__type":"AccessDeniedException"}'), "HTTP 403 AccessDeniedException"),
        (_Reply(503, b"<html>", "Service Unavailable"), "HTTP 503 Service Unavailable"),
        (_Reply(599, reason="timed out"), "no reply: timed out"),
    ],
)
def test_every_reply_but_200_is_an_error_that_says_what_came(reply: _Reply, text: str) -> None:
    connection = SQSConnection.__new__(SQSConnection)
    with pytest.raises(ReceiveError, match=f"^{text}$"):
        connection._on_list_ready(None, [], "ReceiveMessage", reply)


def test_the_places_in_kombu_that_polling_is_fastened_to() -> None:
    assert "self.hub.call_soon(self._schedule_queue, queue)" in inspect.getsource(SQS.Channel.basic_consume)
    assert list(inspect.signature(SQS.Channel._get_from_sqs).parameters) == [
        "self", "queue_name", "queue_url", "connection", "count", "callback",
    ]  # fmt: skip
    assert list(inspect.signature(SQS.Channel._message_to_python).parameters) == [
        "self", "message", "queue_name", "q_url",
    ]  # fmt: skip
    assert list(inspect.signature(SQS.Channel._release_messages).parameters) == ["self", "queue", "qname", "messages"]
    assert "connection._callbacks[queue] = _callback" in inspect.getsource(virtual.Channel.basic_consume)
    assert list(inspect.signature(AsyncSQSConnection._on_list_ready).parameters) == [
        "self", "parent", "markers", "operation", "response",
    ]  # fmt: skip
    failed: list[Any] = []
    promise(lambda *_: 1 / 0, ("queue", "url"), on_error=lambda *args: failed.append(args))({})
    assert failed[0][:2] == ("queue", "url")
    assert isinstance(failed[0][2], ZeroDivisionError)


def test_every_request_gets_a_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    set_event_loop(hub)
    try:
        connection = SQSConnection(None, reply_timeout_s=30).get_http_connection()
        assert isinstance(connection, AsyncHTTPSConnection)
        request = connection.getrequest()
        assert isinstance(request, Request)
        options: dict[int, int] = {}

        class Curl:
            def setopt(self, option: int, value: int) -> None:
                options[option] = value

        request.on_prepare(Curl())
        import pycurl

        assert options[pycurl.TIMEOUT_MS] == 30_000
        assert options[pycurl.CONNECTTIMEOUT] == 5
        source = inspect.getsource(type(connection.http_client)._setup_request)
        assert source.rstrip().endswith("request.on_prepare(curl)")
    finally:
        hub._current_http_client.close()
        hub.close()
        set_event_loop(None)

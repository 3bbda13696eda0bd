"""The poll loop by itself, and the places in kombu that it is fastened to."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from celery.worker.consumer import Consumer
from kombu.asynchronous import Hub, get_event_loop, set_event_loop
from kombu.asynchronous.aws.connection import AsyncHTTPSConnection
from kombu.asynchronous.aws.sqs.connection import AsyncSQSConnection
from kombu.asynchronous.http.base import Request
from kombu.transport import SQS, virtual
from vine import promise

from pipeline.sqs.transport.polling import MAX_BACKOFF_S, PollState
from pipeline.sqs.transport.receiving import ReceiveError, SQSConnection
from tests.support.scripted import ScriptedChannel, scripted_channel, sqs_message


@pytest.fixture
def channel() -> Iterator[ScriptedChannel]:
    with scripted_channel() as made:
        yield made


def test_each_answer_leads_to_the_next_poll(channel: ScriptedChannel) -> None:
    received = channel.consume()
    for number in range(3):
        channel.answer(sqs_message(number))
        channel.answer()
    assert [message.headers["id"] for message in received] == ["0", "1", "2"]
    assert len(channel.asked) == 1


@pytest.mark.parametrize("exc", [ReceiveError("HTTP 500"), OSError("no route"), RuntimeError("a bug")])
def test_each_failure_leads_to_the_next_poll(channel: ScriptedChannel, exc: Exception) -> None:
    channel.consume()
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
        channel.consume()
    channel.hub.run_later()
    assert len(channel.asked) == 1


def test_backs_off_with_jitter_and_logs_the_first_failure_and_the_recovery(
    channel: ScriptedChannel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "pipeline")
    channel.consume()
    delays = []
    for _ in range(40):
        channel.fail(ReceiveError("HTTP 503 ServiceUnavailable"))
        delays.append(channel.hub.run_later())
    assert all(0.5 * min(2.0**n, MAX_BACKOFF_S) <= d <= MAX_BACKOFF_S for n, d in enumerate(delays))
    assert len(set(delays[-10:])) > 1
    channel.answer()
    channel.answer()
    assert [record.action for record in caplog.records] == ["poll-failed", "poll-recovered"]  # type: ignore[attr-defined]
    assert caplog.records[1].failures == 40  # type: ignore[attr-defined]


def test_polls_only_while_there_is_room_and_again_when_there_is(channel: ScriptedChannel) -> None:
    channel.basic_qos(prefetch_count=2)
    channel.consume()
    assert [count for count, _ in channel.asked] == [2]
    channel.answer(sqs_message(0), sqs_message(1))
    assert channel.polls["tasks"].state is PollState.FULL
    assert channel.asked == []
    channel.basic_ack("h0")
    assert len(channel.asked) == 1


def test_one_loop_a_queue_even_when_it_is_consumed_anew(channel: ScriptedChannel) -> None:
    channel.consume()
    channel.basic_cancel("c")
    channel.consume()
    assert len(channel.asked) == 1
    channel.answer()
    assert len(channel.asked) == 1


def test_a_consumer_that_raises_costs_neither_the_other_messages_nor_the_poll(
    channel: ScriptedChannel, caplog: pytest.LogCaptureFixture
) -> None:
    seen = []

    def receive(message: Any) -> None:
        seen.append(message.headers["id"])
        if message.headers["id"] == "0":
            raise RuntimeError("a bug")

    channel.consume(receive)
    channel.answer(sqs_message(0), sqs_message(1))
    assert seen == ["0", "1"]
    assert len(channel.asked) == 1
    assert "m0" in caplog.text


def test_stops_polling_when_told_to(channel: ScriptedChannel) -> None:
    channel.consume()
    channel.stop_polling()
    channel.answer()
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


def test_a_reset_loop_is_the_current_one_again_for_the_next_connection() -> None:
    hub = Hub()
    set_event_loop(hub)
    try:
        hub.reset()
        assert get_event_loop() is None  # so that a new channel finds no loop, and does not poll
        with scripted_channel() as made:
            made.connection.channels.append(made)
            made.connection.register_with_event_loop(made.connection, hub)
            assert get_event_loop() is hub
            assert made.hub is hub
        source = inspect.getsource(Consumer.connect)
        assert "conn.transport.register_with_event_loop(conn.connection, self.hub)" in source
    finally:
        hub.close()
        set_event_loop(None)


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

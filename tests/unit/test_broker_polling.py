"""The poll loop by itself, and the places in kombu that it is fastened to."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from celery.worker.consumer import Consumer
from kombu.asynchronous import Hub, get_event_loop, set_event_loop
from kombu.transport import SQS, virtual

from pipeline.aws import clients
from pipeline.sqs.transport.polling import BACKOFF, PollState
from pipeline.sqs.transport.receiver import Received, ReceiveJob, Receiver
from tests.support.scripted import URL, ScriptedChannel, scripted_channel, sqs_message
from tests.support.waiting import DEADLINE_S, wait_until


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


@pytest.mark.parametrize(
    "exc",
    [ClientError({}, "ReceiveMessage"), OSError("no route"), RuntimeError("a bug")],
)
def test_each_failure_leads_to_the_next_poll(channel: ScriptedChannel, exc: Exception) -> None:
    channel.consume()
    channel.fail(exc)
    assert channel.poller.polls["tasks"].state is PollState.BACKING_OFF
    assert 0.5 <= channel.hub.run_later() <= 1
    assert len(channel.asked) == 1


def test_a_receive_that_cannot_even_be_sent_is_a_failure_like_others() -> None:
    def refuse(_queue: str, _count: int) -> Received:
        raise RuntimeError("no credentials")

    told: list[tuple[Any, ...]] = []
    receiver = Receiver(refuse, call_soon=lambda *call: told.append(call), taken=lambda *_: True)
    job = ReceiveJob(1, lambda _: None, lambda _: None)
    for number in range(2):  # its thread lives on
        receiver.start("tasks", job)
        wait_until(lambda n=number: len(told) > n, "the failure is told")  # type: ignore[misc]
    receiver.close()
    assert all(call[0] is job.on_failed and isinstance(call[1], RuntimeError) for call in told)


def test_each_queue_is_received_from_in_a_thread_of_its_own_which_ends_when_closed() -> None:
    gate, told = threading.Event(), SimpleQueue[tuple[Any, ...]]()

    def receive(queue: str, count: int) -> Received:
        if queue == "slow":
            assert gate.wait(10)
        return Received(URL, [{"Body": queue}] * count)

    seen: list[str] = []

    def taken(queue: str, _received: Received) -> bool:
        seen.append(queue)
        return not gate.is_set()

    receiver = Receiver(receive, call_soon=lambda *call: told.put(call), taken=taken)
    job = ReceiveJob(2, lambda _: None, lambda _: None)
    receiver.start("slow", job)
    receiver.start("quick", job)
    assert told.get(timeout=DEADLINE_S) == (job.on_received, Received(URL, [{"Body": "quick"}] * 2))
    receiver.close()
    gate.set()
    names = ("sqs-receive-slow", "sqs-receive-quick")
    wait_until(lambda: not [t for t in threading.enumerate() if t.name in names], "both threads have ended")
    assert seen == ["quick", "slow"]
    assert told.empty()  # what came too late is nobody's any more


def test_backs_off_with_jitter_and_logs_the_first_failure_and_the_recovery(
    channel: ScriptedChannel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "pipeline")
    channel.consume()
    delays = []
    for _ in range(40):
        channel.fail(EndpointConnectionError(endpoint_url="sqs"))
        delays.append(channel.hub.run_later())
    assert all(0.5 * min(2.0**n, BACKOFF.most_s) <= d <= BACKOFF.most_s for n, d in enumerate(delays))
    assert len(set(delays[-10:])) > 1
    channel.answer()
    channel.answer()
    assert [record.action for record in caplog.records] == ["sqs_unavailable", "sqs_recovered"]  # type: ignore[attr-defined]
    assert caplog.records[1].failures == 40  # type: ignore[attr-defined]


def test_polls_only_while_there_is_room_and_again_when_there_is(channel: ScriptedChannel) -> None:
    channel.basic_qos(prefetch_count=2)
    channel.consume()
    assert [job.count for job in channel.asked] == [2]
    channel.answer(sqs_message(0), sqs_message(1))
    assert channel.poller.polls["tasks"].state is PollState.FULL
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
    channel.poller.stop()
    channel.answer()
    assert channel.asked == []


def test_the_places_in_kombu_that_polling_is_fastened_to() -> None:
    assert "self.hub.call_soon(self._schedule_queue, queue)" in inspect.getsource(SQS.Channel.basic_consume)
    assert list(inspect.signature(SQS.Channel._message_to_python).parameters) == [
        "self", "message", "queue_name", "q_url",
    ]  # fmt: skip
    assert "connection._callbacks[queue] = _callback" in inspect.getsource(virtual.Channel.basic_consume)
    assert "threading.get_ident() != self._loop_thread" in inspect.getsource(Hub.call_soon)  # it wakes the loop


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


def test_a_receive_is_tried_once_and_has_a_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    with scripted_channel(wait_time_seconds=20) as channel:
        assert channel.reply_timeout_s == 30
        config = clients.sqs_receiver(channel.reply_timeout_s).meta.config
    assert (config.connect_timeout, config.read_timeout) == (5, 30)
    assert config.retries["total_max_attempts"] == 1

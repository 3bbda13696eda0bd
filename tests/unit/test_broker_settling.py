"""What becomes of a held message: deleted, given back, moved. And the places in kombu and Celery for it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker import request, state
from kombu.message import Message
from kombu.transport import SQS, virtual

from pipeline.sqs.transport.pool import requests_in_pool, waiting_requests
from pipeline.sqs.transport.returning import Return
from pipeline.sqs.transport.transport import Channel, Transport
from tests.support.scripted import URL, ScriptedChannel, scripted_channel, sqs_message


@pytest.fixture
def channel() -> Iterator[ScriptedChannel]:
    with scripted_channel() as made:
        yield made


class Work:
    """Like Celery's request; ``result`` is set once a process has it."""

    def __init__(self, message: Any, result: object | None) -> None:
        self.message, self._apply_result = message, result


def test_what_waits_is_told_from_what_a_process_has(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, handed_over, waiting, limited = (Work(None, result) for result in (object(), object(), None, None))
    monkeypatch.setattr(state, "reserved_requests", {begun, handed_over, waiting})
    monkeypatch.setattr(state, "active_requests", {begun})
    bucket = SimpleNamespace(contents=[(limited, 1)])
    consumer = SimpleNamespace(task_buckets={"a": None, "b": bucket})
    assert set(requests_in_pool()) == {begun, handed_over}
    assert set(waiting_requests(consumer)) == {waiting, limited}


def received(channel: ScriptedChannel, *numbers: int) -> list[Any]:
    messages = channel.consume()
    channel.answer(*(sqs_message(number) for number in numbers))
    return messages


def test_an_acknowledged_message_is_deleted_once(channel: ScriptedChannel) -> None:
    (message,) = received(channel, 1)
    message.ack()
    channel.basic_ack("h1")
    assert [held.message_id for held in channel.deletes] == ["m1"]
    assert len(channel.held) == 0


def test_a_message_that_was_given_back_is_not_deleted_by_a_late_acknowledgement(channel: ScriptedChannel) -> None:
    (message,) = received(channel, 1)
    assert channel.give_back(channel.held.select(lambda held: True)) == 1
    message.ack()
    assert channel.deletes == []
    assert [(item.held.message_id, item.after_s) for item in channel.returns] == [("m1", 0)]


def test_a_rejected_message_is_moved_with_the_first_reason(channel: ScriptedChannel) -> None:
    (message,) = received(channel, 1)
    channel.explain(message.delivery_tag, "unknown task x")
    channel.explain(message.delivery_tag, "something later")
    message.reject()
    assert [(held.message_id, held.reason) for held in channel.burials] == [("m1", "unknown task x")]
    assert channel.deletes == []  # only after it was sent


@pytest.mark.parametrize(("receives", "pause_s"), [(1, 2), (2, 4), (5, 32), (30, 60)])
def test_a_requeued_message_comes_back_after_a_growing_pause(
    channel: ScriptedChannel, receives: int, pause_s: int
) -> None:
    messages = channel.consume()
    channel.answer(sqs_message(1, receives=receives))
    messages[0].requeue()
    assert [item.after_s for item in channel.returns] == [pause_s]
    assert channel.burials == []


def test_recovering_gives_everything_back_and_sends_no_copy(channel: ScriptedChannel) -> None:
    received(channel, 1, 2)
    channel.basic_recover(requeue=True)
    assert sorted(item.held.message_id for item in channel.returns) == ["m1", "m2"]
    assert len(channel.held) == 0


def test_every_way_to_settle_makes_room(channel: ScriptedChannel) -> None:
    channel.basic_qos(prefetch_count=3)
    messages = received(channel, 1, 2, 3)
    assert channel.asked == []
    messages[0].ack()
    assert len(channel.asked) == 1
    messages[1].reject()
    messages[2].requeue()
    assert len(channel.held) == 0


def test_a_closing_channel_gives_back_what_no_process_has_begun(
    channel: ScriptedChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = received(channel, 1, 2, 3)
    begun, handed_over = Work(messages[0], object()), Work(messages[1], object())
    monkeypatch.setattr(state, "reserved_requests", {begun, handed_over})
    monkeypatch.setattr(state, "active_requests", {begun})
    channel.close()
    assert sorted(item.held.message_id for item in channel.returns) == ["m2", "m3"]
    messages[0].ack()  # done after the connection was lost: deleted all the same
    assert [held.message_id for held in channel.deletes] == ["m1"]


def test_what_a_poll_brings_after_the_consumer_has_gone_is_given_back(channel: ScriptedChannel) -> None:
    channel.consume()
    channel.basic_cancel("c")
    channel.answer(sqs_message(1), sqs_message(2))
    assert [(item.held.handle, item.held.url, item.after_s) for item in channel.returns] == [
        ("h1", URL, 0),
        ("h2", URL, 0),
    ]


def test_what_a_poll_brings_while_the_worker_stops_is_given_back(channel: ScriptedChannel) -> None:
    messages = channel.consume()
    channel.stop_polling()
    channel.answer(sqs_message(1))
    assert messages == []
    assert [item.held.message_id for item in channel.returns] == ["m1"]
    assert isinstance(channel.returns[0], Return)


def test_what_is_not_even_a_message_goes_to_the_dead_letters(channel: ScriptedChannel) -> None:
    messages = channel.consume()
    channel.answer({**sqs_message(1), "Body": '{"properties": []}'}, sqs_message(2))
    assert [message.headers["id"] for message in messages] == ["2"]
    assert [held.message_id for held in channel.burials] == ["m1"]
    assert channel.burials[0].reason.startswith("not a Celery message: ")


def test_the_places_in_kombu_and_celery_that_settling_is_fastened_to() -> None:
    assert "self.channel.basic_ack(self.delivery_tag" in inspect.getsource(Message.ack)
    assert "self.channel.basic_reject(self.delivery_tag" in inspect.getsource(Message.reject)
    assert "requeue=True" in inspect.getsource(Message.requeue)
    assert "self.qos.append(message, message.delivery_tag)" in inspect.getsource(virtual.Channel.basic_consume)
    assert "restore_unacked_once" in inspect.getsource(virtual.Channel.close)
    assert "props['delivery_tag'] = message['ReceiptHandle']" in inspect.getsource(SQS.Channel._envelope_payload)
    assert "'sqs_message': message" in inspect.getsource(SQS.Channel._envelope_payload)
    assert request.Request._apply_result is None
    assert "self._apply_result = maybe(ref, result)" in inspect.getsource(request.Request.execute_using_pool)
    assert Transport.Channel is Channel
    assert Transport.implements.asynchronous

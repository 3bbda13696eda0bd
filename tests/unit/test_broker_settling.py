"""What becomes of a message in flight: deleted, released, moved. And the places in kombu and Celery for it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker import request, state
from kombu.message import Message
from kombu.transport import SQS, virtual

from pipeline.aws.backoff import Backoff
from pipeline.sqs.transport import batcher
from pipeline.sqs.transport.channel import Channel
from pipeline.sqs.transport.inflight import InFlightMessage, InFlightMessages
from pipeline.sqs.transport.pool import requests_in_pool, waiting_requests
from pipeline.sqs.transport.redrive_policy import RedrivePolicies, RedrivePolicy
from pipeline.sqs.transport.settlement import Settlement, changed
from pipeline.sqs.transport.transport import Transport
from tests.support.scripted import MAX_RECEIVES, URL, ScriptedChannel, scripted_channel, sqs_message
from tests.support.waiting import wait_until


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
    assert [message.message_id for message in channel.deletes] == ["m1"]
    assert len(channel.parts.in_flight) == 0


@pytest.mark.parametrize("end", ["ack", "release", "fail", "dead_letter", "defer"])
def test_a_message_is_settled_once_and_the_first_way_counts(channel: ScriptedChannel, end: str) -> None:
    (message,) = received(channel, 1)
    settlement = channel.parts.settlement
    (found,) = channel.parts.in_flight.select()
    getattr(settlement, end)(found, *{"fail": ["why"], "dead_letter": ["why"], "defer": [3]}.get(end, []))
    wanted = [list(each) for each in (channel.deletes, channel.releases, channel.moves)]
    assert sum(map(len, wanted)) == 1
    message.ack()
    assert not any([settlement.ack(found), settlement.release(found), settlement.dead_letter(found, "again")])
    assert not settlement.defer(found, 3)
    settlement.fail(found, "again")
    assert [channel.deletes, channel.releases, channel.moves] == wanted


def test_a_rejected_message_is_moved_and_deleted_only_after_that(channel: ScriptedChannel) -> None:
    (message,) = received(channel, 1)
    message.reject()
    assert [move.message.message_id for move in channel.moves] == ["m1"]
    assert channel.deletes == []


@pytest.mark.parametrize(("receives", "pause_s"), [(1, 2), (2, 4), (4, 16)])
def test_a_requeued_message_comes_back_after_a_growing_pause(
    channel: ScriptedChannel, receives: int, pause_s: int
) -> None:
    messages = channel.consume()
    channel.answer(sqs_message(1, receives=receives))
    messages[0].requeue()
    assert [item.after_s for item in channel.releases] == [pause_s]
    assert channel.moves == []


@pytest.mark.parametrize(("receives", "policy"), [(5, True), (9, True), (9, False)])
def test_what_sqs_delivers_no_more_is_moved_with_its_reason(
    channel: ScriptedChannel, receives: int, policy: bool
) -> None:
    if not policy:
        channel.parts.redrive._known.clear()  # how often SQS delivers it is not known yet: it does it itself
    channel.consume()
    channel.answer(sqs_message(1, receives=receives))
    channel.parts.settlement.fail(channel.parts.in_flight.select()[0], "ValueError: bad")
    assert channel.reasons == ([f"delivered {receives} times, at last: ValueError: bad"] if policy else [])
    assert [item.after_s for item in channel.releases] == ([] if policy else [60])


def test_recovering_releases_everything_and_sends_no_copy(channel: ScriptedChannel) -> None:
    received(channel, 1, 2)
    channel.basic_recover(requeue=True)
    assert sorted(item.message.message_id for item in channel.releases) == ["m1", "m2"]
    assert len(channel.parts.in_flight) == 0


def test_every_way_to_settle_makes_room(channel: ScriptedChannel) -> None:
    channel.basic_qos(prefetch_count=3)
    messages = received(channel, 1, 2, 3)
    assert channel.asked == []
    messages[0].ack()
    assert len(channel.asked) == 1
    messages[1].reject()
    messages[2].requeue()
    assert len(channel.parts.in_flight) == 0


def test_a_closing_channel_releases_what_no_process_has_begun(
    channel: ScriptedChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = received(channel, 1, 2, 3)
    begun, handed_over = Work(messages[0], object()), Work(messages[1], object())
    monkeypatch.setattr(state, "reserved_requests", {begun, handed_over})
    monkeypatch.setattr(state, "active_requests", {begun})
    channel.close()
    assert sorted(item.message.message_id for item in channel.releases) == ["m2", "m3"]
    messages[0].ack()  # done after the connection was lost: deleted all the same
    assert [message.message_id for message in channel.deletes] == ["m1"]


@pytest.mark.parametrize(
    "leave",
    [lambda channel: channel.basic_cancel("c"), lambda channel: channel.poller.stop(), ScriptedChannel.close],
    ids=["cancelled", "stopped", "closed"],
)
def test_what_nobody_began_is_sent_anew_after_its_last_receive(
    channel: ScriptedChannel, leave: Callable[[ScriptedChannel], None]
) -> None:
    """SQS would move it to the dead-letter queue when it is next received, though its work was never tried."""
    channel.consume()
    leave(channel)
    channel.answer(sqs_message(1, receives=MAX_RECEIVES - 1), sqs_message(2, receives=MAX_RECEIVES))
    assert [item.message.message_id for item in channel.releases] == ["m1"]
    assert [(move.message.message_id, move.delay_s) for move in channel.moves] == [("m2", 0)]


def test_what_a_receive_brings_after_the_consumer_has_gone_is_released(channel: ScriptedChannel) -> None:
    channel.consume()
    channel.basic_cancel("c")
    channel.answer(sqs_message(1), sqs_message(2))
    assert [(item.message.handle, item.message.url, item.after_s) for item in channel.releases] == [
        ("h1", URL, 0),
        ("h2", URL, 0),
    ]


def test_what_a_receive_brings_while_the_worker_shuts_down_is_released(channel: ScriptedChannel) -> None:
    messages = channel.consume()
    channel.poller.stop()
    channel.answer(sqs_message(1))
    assert messages == []
    assert [item.message.message_id for item in channel.releases] == ["m1"]


def test_what_a_receive_brings_after_the_channel_has_closed_is_released(channel: ScriptedChannel) -> None:
    channel.consume()
    channel.close()
    channel.answer(sqs_message(1))
    assert [item.message.message_id for item in channel.releases] == ["m1"]
    assert len(channel.parts.in_flight) == 0


def test_what_is_not_even_a_message_goes_to_the_dead_letters(channel: ScriptedChannel) -> None:
    messages = channel.consume()
    channel.answer({**sqs_message(1), "Body": '{"properties": []}'}, sqs_message(2))
    assert [message.headers["id"] for message in messages] == ["2"]
    assert [move.message.message_id for move in channel.moves] == ["m1"]
    assert channel.reasons[0].startswith("not a Celery message: ")


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


class Sqs:
    """Notes what is sent; refuses what the test says."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.refuse: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        def call(**request: Any) -> dict[str, Any]:
            self.calls.append((name, request))
            if name in self.refuse:
                raise OSError("no route")
            return {}

        return call


@pytest.fixture
def sqs(monkeypatch: pytest.MonkeyPatch) -> Sqs:
    monkeypatch.setattr(batcher, "BACKOFF", Backoff(0.01, 0.01))
    return Sqs()


def made(sqs: Sqs) -> tuple[Settlement, InFlightMessage]:
    client: Any = sqs
    messages, redrive = InFlightMessages(), RedrivePolicies(lambda: client)
    redrive._known[URL] = RedrivePolicy(f"{URL}-dlq", 5)
    message = InFlightMessage(URL, sqs_message(1))
    messages.add([message])
    settlement = Settlement(messages, redrive, lambda: client, visibility_timeout_s=30, on_settled=lambda *_: None)
    return settlement, message


@pytest.mark.parametrize(("visibility_timeout_s", "waits_s"), [(2, 0.5), (90, 1.5), (43_200, 2.0)])
def test_a_deletion_waits_for_a_small_part_of_the_visibility_timeout(
    visibility_timeout_s: float, waits_s: float
) -> None:
    messages, redrive = InFlightMessages(), RedrivePolicies(Sqs)  # type: ignore[arg-type]
    made = Settlement(
        messages,
        redrive,
        Sqs,  # type: ignore[arg-type]
        visibility_timeout_s=visibility_timeout_s,
        on_settled=lambda *_: None,
    )
    assert made.deletes._linger_s == waits_s


def test_a_copy_is_sent_before_its_original_is_deleted(sqs: Sqs) -> None:
    for end, target in (("dead_letter", f"{URL}-dlq"), ("defer", URL)):
        settlement, message = made(sqs)
        getattr(settlement, end)(message, {"dead_letter": "why", "defer": 2.4}[end])
        settlement.close()
        (sent, copy), (deleted, batch) = sqs.calls
        sqs.calls.clear()
        assert (sent, copy["QueueUrl"], deleted, batch["QueueUrl"]) == (
            "send_message",
            target,
            "delete_message_batch",
            URL,
        )
        assert copy["MessageBody"] == message.message["Body"]
        assert copy.get("DelaySeconds") == {"dead_letter": None, "defer": 3}[end]


@pytest.mark.parametrize("end", ["dead_letter", "defer"])
def test_what_could_not_be_copied_is_not_deleted(sqs: Sqs, end: str, caplog: pytest.LogCaptureFixture) -> None:
    sqs.refuse = {"send_message"}
    settlement, message = made(sqs)
    getattr(settlement, end)(message, {"dead_letter": "why", "defer": 2.4}[end])
    settlement.close()
    assert {name for name, _ in sqs.calls} == {"send_message"}
    wait_until(lambda: caplog.records, "it is told")
    assert [record.action for record in caplog.records] == [f"{end}_failed"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("was_begun", "receives", "wanted"), [(False, 1, None), (True, 1, True), (False, 2, True)])
def test_the_copy_of_what_was_begun_says_so(sqs: Sqs, was_begun: bool, receives: int, wanted: bool | None) -> None:
    settlement, message = made(sqs)
    message.message["Attributes"]["ApproximateReceiveCount"] = str(receives)
    settlement.defer(message, 3, was_begun=was_begun)
    settlement.close()
    envelope = json.loads(sqs.calls[0][1]["MessageBody"])
    assert envelope["properties"]["delivery_info"].get("redelivered") is wanted
    assert envelope["headers"]["id"] == "1"


def test_a_dead_letter_may_have_other_headers(sqs: Sqs) -> None:
    settlement, message = made(sqs)
    settlement.dead_letter(message, "why", headers={"retries": 0})
    settlement.close()
    envelope = json.loads(sqs.calls[0][1]["MessageBody"])
    assert (envelope["headers"]["retries"], envelope["headers"]["id"]) == (0, "1")
    assert "redelivered" not in envelope["properties"]["delivery_info"]


@pytest.mark.parametrize("body", ["hello", "[]", '{"properties": 5}', "{}"])
def test_what_is_no_task_message_is_copied_as_it_is(body: str) -> None:
    assert changed(body, {"retries": 1}) == body

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from pipeline.aws import clients
from pipeline.sqs.transport.inflight import InFlightMessage, InFlightMessages
from pipeline.sqs.transport.visibility import MAX_HIDDEN_S, Pulse, VisibilityExtender
from tests.support.scripted import URL, scripted_channel, sqs_message
from tests.support.waiting import wait_until

TIMEOUT_S = 90


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeSqs:
    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.failed: list[dict[str, Any]] = []
        self.error: Exception | None = None

    def change_message_visibility_batch(self, **request: Any) -> dict[str, Any]:
        self.calls.append(request)
        if self.error is not None:
            raise self.error
        return {"Failed": self.failed}


class Stand:
    """An extender whose rounds the test makes."""

    def __init__(self) -> None:
        self.clock, self.sqs, self.messages, self.alive = Clock(), FakeSqs(), InFlightMessages(), True
        self.extender = VisibilityExtender(
            self.messages,
            lambda: self.sqs,  # type: ignore[arg-type,return-value]
            TIMEOUT_S,
            is_alive=lambda: self.alive,
            clock=self.clock,
        )

    def receive(self, number: int, url: str = URL) -> InFlightMessage:
        message = InFlightMessage(url, sqs_message(number), self.clock.now, self.clock.now + TIMEOUT_S)
        self.messages.add([message])
        return message

    def extended(self) -> list[str]:
        return [entry["ReceiptHandle"] for call in self.sqs.calls for entry in call["Entries"]]


@pytest.fixture
def stand() -> Stand:
    return Stand()


def test_extends_when_half_of_the_time_out_is_over_and_not_before(stand: Stand) -> None:
    message = stand.receive(1)
    stand.clock.now += TIMEOUT_S / 2 - 1
    stand.extender.extend()
    assert stand.sqs.calls == []
    stand.clock.now += 1
    stand.extender.extend()
    assert stand.sqs.calls == [
        {"QueueUrl": URL, "Entries": [{"Id": "0", "ReceiptHandle": "h1", "VisibilityTimeout": TIMEOUT_S}]}
    ]
    assert message.hidden_until == stand.clock.now + TIMEOUT_S
    stand.extender.extend()
    assert len(stand.sqs.calls) == 1


def test_extends_in_tens_for_each_queue(stand: Stand) -> None:
    for number in range(12):
        stand.receive(number)
    stand.receive(99, URL.replace("p-tasks", "p-other"))
    stand.clock.now += TIMEOUT_S / 2
    stand.extender.extend()
    assert sorted((call["QueueUrl"][-7:], len(call["Entries"])) for call in stand.sqs.calls) == [
        ("p-other", 1),
        ("p-tasks", 2),
        ("p-tasks", 10),
    ]


def test_what_is_settled_is_not_extended(stand: Stand) -> None:
    stand.messages.take(stand.receive(1))
    stand.clock.now += TIMEOUT_S
    stand.extender.extend()
    assert stand.sqs.calls == []


def test_lost_visibility_is_logged_and_not_extended_again(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "pipeline")
    stand.receive(1)
    stand.receive(2)
    stand.sqs.failed = [{"Id": "0", "Code": "InvalidParameterValue", "SenderFault": True, "Message": "not available"}]
    stand.clock.now += TIMEOUT_S / 2
    stand.extender.extend()
    assert [record.action for record in caplog.records] == ["visibility_lost"]  # type: ignore[attr-defined]
    assert "m1" in caplog.text
    stand.sqs.failed = []
    stand.clock.now += TIMEOUT_S / 2
    stand.extender.extend()
    assert stand.extended() == ["h1", "h2", "h2"]


@pytest.mark.parametrize("trouble", ["entry", "call"])
def test_an_extension_that_failed_is_tried_again_in_time(
    stand: Stand, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    stand.receive(1)
    if trouble == "entry":
        stand.sqs.failed = [{"Id": "0", "Code": "InternalError", "SenderFault": False}]
    else:
        stand.sqs.error = OSError("no route")
    stand.clock.now += TIMEOUT_S / 2
    stand.extender.extend()
    stand.sqs.failed, stand.sqs.error = [], None
    stand.clock.now += TIMEOUT_S / 6
    stand.extender.extend()
    assert stand.extended() == ["h1", "h1"]
    assert "visible to other workers again" not in caplog.text


def test_stops_at_the_twelve_hours_that_sqs_allows(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    stand.receive(1)
    while not caplog.records:
        stand.clock.now += TIMEOUT_S / 2
        stand.extender.extend()
    assert stand.clock.now - 1000 >= MAX_HIDDEN_S - 1
    assert "12 hours" in caplog.text
    for call in stand.sqs.calls[-2:]:
        assert 1 <= call["Entries"][0]["VisibilityTimeout"] <= TIMEOUT_S
    calls = len(stand.sqs.calls)
    stand.clock.now += TIMEOUT_S
    stand.extender.extend()
    assert len(stand.sqs.calls) == calls


def test_a_loop_that_does_not_answer_for_too_long_is_not_alive() -> None:
    clock = Clock()
    asked: list[Any] = []
    pulse = Pulse(asked.append, 10, clock)
    assert pulse()
    clock.now += 10
    assert pulse()
    clock.now += 1
    assert not pulse()
    assert len(asked) == 1
    asked.pop()()  # it turns again
    assert pulse()
    assert len(asked) == 1


class Sqs:
    """Notes what it is asked for."""

    class exceptions:  # noqa: N801 - as a client has it
        class QueueDoesNotExist(Exception):
            pass

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[dict[str, Any]] = []
        self.error = error

    def get_queue_url(self, QueueName: str) -> dict[str, str]:  # noqa: N803
        return {"QueueUrl": URL.replace("p-tasks", QueueName)}

    def receive_message(self, **wanted: Any) -> dict[str, Any]:
        self.asked.append(wanted)
        if self.error is not None:
            raise self.error
        return {}


def test_receives_under_its_own_time_out_but_control_queues_under_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    sqs = Sqs()
    monkeypatch.setattr(clients, "sqs_receiver", lambda timeout_s: sqs)
    monkeypatch.setattr(clients, "sqs", lambda **_: sqs)
    with scripted_channel(visibility_timeout_s=7, wait_time_seconds=3) as channel:
        channel._noack_queues.add("pidbox")
        for queue in ("tasks", "pidbox"):
            assert channel.reader.receive(queue, 4).messages == []
    assert [wanted.get("VisibilityTimeout") for wanted in sqs.asked] == [7, None]
    assert sqs.asked[0] == {
        "QueueUrl": URL,
        "MaxNumberOfMessages": 4,
        "WaitTimeSeconds": 3,
        "VisibilityTimeout": 7,
        "MessageSystemAttributeNames": ["ApproximateReceiveCount", "MessageGroupId"],
        "MessageAttributeNames": ["All"],
    }


def test_a_queue_that_is_gone_is_looked_up_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "sqs_receiver", lambda timeout_s: Sqs(Sqs.exceptions.QueueDoesNotExist()))
    with scripted_channel() as channel:
        with pytest.raises(Sqs.exceptions.QueueDoesNotExist):
            channel.reader.receive("tasks", 1)
        assert "p-tasks" not in channel._queue_cache


def test_a_receive_that_fails_tells_whether_it_alone_does(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Sqs(OSError("denied"))
    others = FakeSqs()
    monkeypatch.setattr(clients, "sqs_receiver", lambda timeout_s: receiver)
    monkeypatch.setattr(clients, "sqs", lambda **_: others)
    with scripted_channel() as channel:
        with pytest.raises(OSError, match="denied"):
            channel.reader.receive("tasks", 1)
        assert channel.reader.refused == set()  # nothing is answered
        monkeypatch.setattr(others, "get_queue_attributes", lambda **_: {}, raising=False)
        with pytest.raises(OSError, match="denied"):
            channel.reader.receive("tasks", 1)
        assert channel.reader.refused == {"tasks"}
        receiver.error = None
        channel.reader.receive("tasks", 1)
        assert channel.reader.refused == set()


def test_the_thread_lives_while_there_are_messages_in_flight() -> None:
    messages, sqs = InFlightMessages(), FakeSqs()
    message = InFlightMessage(URL, sqs_message(1))
    messages.add([message])
    extender = VisibilityExtender(messages, lambda: sqs, 0.06, is_alive=lambda: True)  # type: ignore[arg-type,return-value]
    extender.watch()
    extender.watch()
    wait_until(lambda: sqs.calls, "it extends")
    assert len([thread for thread in threading.enumerate() if thread.name == "sqs-visibility"]) == 1
    messages.take(message)
    wait_until(lambda: extender._thread is None, "its thread ends")
    messages.add([message])
    extender.watch()
    wait_until(lambda: len(sqs.calls) > 1, "another one extends")
    messages.take(message)

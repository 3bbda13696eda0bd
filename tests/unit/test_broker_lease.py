from __future__ import annotations

import logging
from typing import Any

import pytest

from pipeline.sqs.transport.inflight import Held, HeldMessages
from pipeline.sqs.transport.visibility import MAX_HIDDEN_S, LeaseKeeper, Pulse
from tests.support.scripted import URL, scripted_channel, sqs_message

LEASE_S = 90


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
    """A keeper whose rounds the test makes."""

    def __init__(self) -> None:
        self.clock, self.sqs, self.messages, self.alive = Clock(), FakeSqs(), HeldMessages(), True
        self.keeper = LeaseKeeper(self.messages, self.sqs, LEASE_S, is_alive=lambda: self.alive, clock=self.clock)  # type: ignore[arg-type]

    def hold(self, number: int, url: str = URL) -> Held:
        held = Held(url, sqs_message(number), self.clock.now, self.clock.now + LEASE_S)
        self.messages.add(held)
        return held

    def renewed(self) -> list[str]:
        return [entry["ReceiptHandle"] for call in self.sqs.calls for entry in call["Entries"]]


@pytest.fixture
def stand() -> Stand:
    return Stand()


def test_renews_when_half_of_the_lease_is_over_and_not_before(stand: Stand) -> None:
    held = stand.hold(1)
    stand.clock.now += LEASE_S / 2 - 1
    stand.keeper.renew()
    assert stand.sqs.calls == []
    stand.clock.now += 1
    stand.keeper.renew()
    assert stand.sqs.calls == [
        {"QueueUrl": URL, "Entries": [{"Id": "0", "ReceiptHandle": "h1", "VisibilityTimeout": LEASE_S}]}
    ]
    assert held.hidden_until == stand.clock.now + LEASE_S
    stand.keeper.renew()
    assert len(stand.sqs.calls) == 1


def test_renews_in_tens_for_each_queue(stand: Stand) -> None:
    for number in range(12):
        stand.hold(number)
    stand.hold(99, URL.replace("p-tasks", "p-other"))
    stand.clock.now += LEASE_S / 2
    stand.keeper.renew()
    assert sorted((call["QueueUrl"][-7:], len(call["Entries"])) for call in stand.sqs.calls) == [
        ("p-other", 1),
        ("p-tasks", 2),
        ("p-tasks", 10),
    ]


def test_what_is_settled_is_not_renewed(stand: Stand) -> None:
    stand.hold(1)
    stand.messages.take("h1")
    stand.clock.now += LEASE_S
    stand.keeper.renew()
    assert stand.sqs.calls == []


def test_a_lost_lease_is_logged_and_not_renewed_again(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "pipeline")
    stand.hold(1)
    stand.hold(2)
    stand.sqs.failed = [{"Id": "0", "Code": "InvalidParameterValue", "SenderFault": True, "Message": "not available"}]
    stand.clock.now += LEASE_S / 2
    stand.keeper.renew()
    assert [record.action for record in caplog.records] == ["lease-lost"]  # type: ignore[attr-defined]
    assert "m1" in caplog.text
    stand.sqs.failed = []
    stand.clock.now += LEASE_S / 2
    stand.keeper.renew()
    assert stand.renewed() == ["h1", "h2", "h2"]


@pytest.mark.parametrize("trouble", ["entry", "call"])
def test_a_failed_renewal_is_tried_again_while_the_lease_lasts(
    stand: Stand, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    stand.hold(1)
    if trouble == "entry":
        stand.sqs.failed = [{"Id": "0", "Code": "InternalError", "SenderFault": False}]
    else:
        stand.sqs.error = OSError("no route")
    stand.clock.now += LEASE_S / 2
    stand.keeper.renew()
    stand.sqs.failed, stand.sqs.error = [], None
    stand.clock.now += LEASE_S / 6
    stand.keeper.renew()
    assert stand.renewed() == ["h1", "h1"]
    assert "lost" not in caplog.text


def test_stops_at_the_twelve_hours_that_sqs_allows(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    stand.hold(1)
    while not caplog.records:
        stand.clock.now += LEASE_S / 2
        stand.keeper.renew()
    assert stand.clock.now - 1000 >= MAX_HIDDEN_S - 1
    assert "12 hours" in caplog.text
    for call in stand.sqs.calls[-2:]:
        assert 1 <= call["Entries"][0]["VisibilityTimeout"] <= LEASE_S
    calls = len(stand.sqs.calls)
    stand.clock.now += LEASE_S
    stand.keeper.renew()
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


def test_receives_under_the_lease_but_control_queues_without() -> None:
    with scripted_channel(message_lease_s=7) as channel:
        calls: list[Any] = []

        class Connection:
            def receive_message(self, *args: Any, **kwargs: Any) -> None:
                calls.append(kwargs["visibility_timeout"])

        channel._noack_queues.add("pidbox")
        for queue in ("tasks", "pidbox"):
            super(type(channel), channel)._get_from_sqs(queue, URL, Connection())
        assert calls == [7, None]

"""The gate: when it closes, what it lets through then, and when it opens; without a worker, by a clock of the test."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

import pytest

from pipeline.aws.backoff import Backoff
from pipeline.sqs.outage.gate import BACKOFF, FAILURES, MOST_S, Gate, GateState
from pipeline.sqs.outage.patience import Patience

NO_JITTER = Backoff(8, 32)
TASK = "tasks.resize"


@dataclass
class Stand:
    now: float = 1000.0
    closings: int = 0
    gate: Gate = field(init=False)

    def __post_init__(self) -> None:
        self.gate = Gate(on_closed=self.on_closed, failures=3, backoff=NO_JITTER, clock=lambda: self.now)

    def on_closed(self) -> None:
        self.closings += 1

    def fail(self, *subjects: str) -> None:
        for subject in subjects:
            self.gate.failed(subject, "S3 is away")

    def close(self) -> None:
        self.fail("a", "b", "c")
        assert self.gate.state is GateState.CLOSED

    def probe(self, name: str = "probe") -> None:
        self.now += NO_JITTER.most_s
        assert self.gate.room(10) == 1
        assert self.gate.admit([name, "another"]) == 1
        assert self.gate.room(10) == 0, "one at a time"


@pytest.fixture
def stand() -> Stand:
    return Stand()


def test_an_open_gate_lets_everything_through(stand: Stand) -> None:
    assert stand.gate.room(7) == 7
    assert stand.gate.admit(["a", "b"]) == 2
    stand.fail("a", "b")
    assert (stand.gate.state, stand.gate.room(7)) == (GateState.OPEN, 7)


def test_it_closes_when_different_work_fails_in_a_row_and_says_so_once(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        stand.fail("a", "b", "c", "d", "e")
        assert (stand.gate.room(10), stand.gate.admit(["x"]), stand.closings) == (0, 0, 1)
        for _ in range(50):
            stand.probe()
            stand.gate.failed("a", "S3 is away", "probe")
        stand.probe()
        stand.gate.worked(TASK)
    assert stand.closings == 1
    assert [record.action for record in caplog.records] == [  # type: ignore[attr-defined]
        "service_unavailable",
        "service_recovered",
    ]
    assert "S3 is away" in caplog.records[0].getMessage()


def test_one_object_s_trouble_never_closes_it(stand: Stand) -> None:
    stand.fail(*["a"] * 100)
    stand.fail("b")
    assert stand.gate.state is GateState.OPEN


def test_any_number_of_bad_objects_among_good_ones_does_not_close_it(stand: Stand) -> None:
    for number in range(100):
        stand.fail(f"{number}", f"{number}b")
        stand.gate.worked(TASK)
    assert (stand.gate.state, stand.closings) == (GateState.OPEN, 0)


def test_it_probes_with_growing_pauses_and_opens_at_the_first_success(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.uniform", lambda least, most: most)
    stand.close()
    for pause_s in (8, 16, 32, 32):
        stand.now += pause_s - 1
        assert stand.gate.room(1) == 0
        stand.now += 1
        assert stand.gate.state is GateState.PROBING
        assert stand.gate.admit(["probe"]) == 1
        stand.gate.failed("any", "S3 is away", "probe")
        stand.gate.ended("probe")
        assert stand.gate.state is GateState.CLOSED
    stand.probe()
    stand.gate.worked(TASK)
    stand.gate.ended("probe")
    assert (stand.gate.state, stand.gate.room(10)) == (GateState.OPEN, 10)
    stand.fail("a", "b")
    assert stand.gate.state is GateState.OPEN, "it begins to count anew"


def test_what_began_before_it_closed_counts_only_where_it_succeeds(stand: Stand) -> None:
    stand.close()
    stand.fail("late")
    stand.probe()
    stand.gate.failed("late too", "S3 is away", "began before")
    assert stand.gate.state is GateState.PROBING
    stand.gate.worked(TASK)
    assert stand.gate.state is GateState.OPEN


def test_a_probe_that_tells_nothing_makes_room_for_the_next_and_some_of_them_open_it(stand: Stand) -> None:
    """It was malformed, or its process was lost."""
    stand.close()
    stand.probe("0")
    for number in range(1, 3):
        stand.gate.ended(f"{number - 1}")
        assert stand.gate.room(10) == 1
        assert stand.gate.admit([f"{number}"]) == 1
    stand.gate.ended("no probe at all")
    assert stand.gate.state is GateState.PROBING
    stand.gate.ended("2")
    assert stand.gate.state is GateState.OPEN


def test_a_hundred_bad_objects_in_front_delay_a_good_one_by_so_many_probes(stand: Stand) -> None:
    """Each is sent again behind the others, so every probe is another one."""
    stand.close()
    began = stand.now
    for number in range(97):
        stand.probe(f"{number}")
        stand.gate.failed(f"{number}", "503", f"{number}")
    stand.probe("good")
    stand.gate.worked(TASK)
    assert stand.gate.state is GateState.OPEN
    assert stand.now - began < 3600


def test_an_outage_without_an_end_opens_it_until_the_next_success(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    """Or the messages would wait until their queue drops them."""
    stand.close()
    stand.now += MOST_S - 1
    assert stand.gate.state is GateState.PROBING
    stand.now += 2
    assert (stand.gate.state, stand.gate.room(10)) == (GateState.OPEN, 10)
    assert caplog.records[-1].action == "service_given_up"  # type: ignore[attr-defined]
    stand.fail(*map(str, range(100)))
    assert stand.gate.state is GateState.OPEN
    stand.gate.worked(TASK)
    stand.close()


def test_somebody_has_to_ask_for_the_probe(stand: Stand) -> None:
    """Otherwise the worker is not healthy."""
    assert not stand.gate.is_waiting(5)
    stand.close()
    assert stand.gate.is_waiting(5)
    stand.now += NO_JITTER.most_s + 6
    assert not stand.gate.is_waiting(5)


def test_it_knows_which_work_has_succeeded_lately(stand: Stand) -> None:
    before = time.time() - 1
    assert not stand.gate.has_worked_since(TASK, before)
    stand.gate.worked(TASK)
    assert stand.gate.has_worked_since(TASK, before)
    assert not stand.gate.has_worked_since(TASK, time.time() + 1)
    assert not stand.gate.has_worked_since("another", before)


def test_the_probes_of_an_hour_are_few() -> None:
    least_s, number = 0.0, 0
    while least_s < 3600:
        number += 1
        least_s += BACKOFF.ceiling_s(number) / 2
    assert number < 250
    assert FAILURES >= 3


def test_a_message_says_how_often_and_since_when_it_is_tried() -> None:
    fresh = Patience.of({"retries": 0, "task": "t"})
    assert (fresh.tries, fresh.failed_at, fresh.waited_s(50)) == (0, None, 0)
    first = fresh.after(100.0, costs_a_try=False)
    assert first == {"deferrals": 1, "failing_since": 100.0, "failed_at": 100.0}
    second = Patience.of(first).after(160.0, costs_a_try=True)
    assert second == {"retries": 1, "failing_since": 100.0, "failed_at": 160.0}
    both = Patience.of(first | second)
    assert (both.tries, both.waited_s(200.0)) == (2, 100.0)


@pytest.mark.parametrize("odd", ["5", None, [], {}, True, -1, float("nan"), float("inf")])
def test_headers_that_are_no_numbers_count_as_absent(odd: object) -> None:
    assert Patience.of(dict.fromkeys(("retries", "deferrals", "failing_since", "failed_at"), odd)) == Patience()

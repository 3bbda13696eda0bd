"""Trouble with one object is that object's; trouble of the service costs time, and no message a receive."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from bridge.bounded import MOST_LEFT, BoundedCalls
from bridge.consumer import Bridge
from bridge.disposition import ASK_A_WORKER_AT, EventOutcome
from pipeline.core.errors import NotReadable, ServiceUnavailable, TransientError
from pipeline.core.routes import Output, Route, Routes
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.enqueue import Assignment, NotEnqueued, Purpose
from pipeline.sqs.outage.gate import BACKOFF, FAILURES, Gate
from tests.support.events_queue import EventsQueueModel
from tests.support.waiting import wait_until
from tests.unit.test_s3_event import s3_record

SETTINGS = Settings.from_env({"INPUT_BUCKET": "in", "OUTPUT_BUCKET": "out"})


def event(key: str, name: str = "ObjectCreated:Put", bucket: str = "in") -> str:
    return json.dumps({"Records": [s3_record(key, name, bucket=bucket)]})


class World:
    """A bridge on the model of its queues, with a route that goes by a rule for the content."""

    def __init__(
        self,
        rule: Callable[[Source], bool] = lambda _: True,
        publish: Callable[[Sequence[Assignment]], None] = lambda _: None,
        settings: Settings = SETTINGS,
        bounded: BoundedCalls | None = None,
    ) -> None:
        self.queue = EventsQueueModel()
        self.sent: list[Assignment] = []
        self.done_at: dict[str, float] = {}
        self._refuse = publish
        route = Route(name="r", tasks=("t",), outputs=(Output(folder="r/"),), content=rule)
        queue: Any = self.queue
        self.bridge = Bridge(
            settings, queue, self._publish, routes=Routes(settings, [route]), pause=self._pause, bounded=bounded
        )

    def _publish(self, due: Sequence[Assignment]) -> None:
        self._refuse(due)
        self.sent += due
        for each in due:
            self.done_at.setdefault(each.source.key, self.queue.clock)

    def _pause(self, seconds: float) -> None:
        self.queue.pause(seconds)
        if self.queue.clock > 4 * 3600:
            self.bridge.stop()

    def sent_to(self, purpose: Purpose) -> list[str]:
        return [each.source.key for each in self.sent if each.purpose is purpose]

    def until_empty(self) -> None:
        while self.queue.count():
            self.bridge.step()
            assert self.queue.clock < 4 * 3600


@pytest.mark.parametrize("percent", [5, 30])
def test_objects_whose_rule_raises_hold_up_nobody(percent: int) -> None:
    bad = {f"{n}.own" for n in range(2000) if n % 100 < percent}

    def rule(source: Source) -> bool:
        if source.key in bad:
            raise ValueError("a defect of the rule")
        return True

    world, well = World(rule), World()
    for each in (world, well):
        each.queue.put(*(event(f"{n}.own") for n in range(2000)))
        each.until_empty()
    good = [f"{n}.own" for n in range(2000) if f"{n}.own" not in bad]
    # A batch costs one request more, for the visibility of those that have to wait.
    assert max(world.done_at[key] for key in good) <= 1.6 * max(well.done_at.values())
    assert sorted(world.sent_to(Purpose.PROCESS)) == sorted(good)
    assert sorted(world.sent_to(Purpose.FIND_ROUTE)) == sorted(bad)
    assert not world.queue.dead.counts()["ApproximateNumberOfMessages"]
    assert set(world.queue.receives.values()) == {1, ASK_A_WORKER_AT}


def test_a_hundred_denied_objects_and_five_good_ones() -> None:
    def rule(source: Source) -> bool:
        if source.key.startswith("denied"):
            raise TransientError("not allowed (AccessDenied)")
        return True

    world = World(rule)
    world.queue.put(*(event(f"denied/{n}.jpg") for n in range(100)), *(event(f"good/{n}.jpg") for n in range(5)))
    world.until_empty()
    assert max(world.done_at[f"good/{n}.jpg"] for n in range(5)) < 5
    assert len(world.sent_to(Purpose.FIND_ROUTE)) == 100
    assert world.queue.clock < 120


def test_an_archived_object_is_given_to_a_worker_at_once() -> None:
    def archived(source: Source) -> bool:
        raise NotReadable(f"{source.uri} is archived, so it can't be read.")

    world = World(archived)
    world.queue.put(event("a.jpg"))
    assert world.bridge.step() == [EventOutcome.DISPATCHED]
    assert world.sent_to(Purpose.FIND_ROUTE) == ["a.jpg"]


def test_objects_whose_rule_hangs_hold_up_nobody() -> None:
    """No time passes here: a rule's is over when it hangs."""
    go_on, hanging = threading.Event(), threading.Event()

    def rule(source: Source) -> bool:
        if source.key.startswith("hangs"):
            hanging.set()
            go_on.wait()
        return True

    def wait(thread: threading.Thread) -> None:
        wait_until(lambda: not thread.is_alive() or hanging.is_set(), "an end of the rule, or of its time")
        hanging.clear()

    world = World(rule, bounded=BoundedCalls(wait))
    bad = [f"hangs/{n}.own" for n in range(MOST_LEFT)]
    world.queue.put(*map(event, bad[:-1]), event("good.own"), event(bad[-1]), event("late.own"))
    try:
        world.until_empty()
        assert world.sent_to(Purpose.PROCESS) == ["good.own"]
        # While so many rules hang, none is begun any more: a worker has the time.
        assert sorted(world.sent_to(Purpose.FIND_ROUTE)) == sorted([*bad, "late.own"])
        assert set(world.queue.receives.values()) == {1}
    finally:
        go_on.set()
    wait_until(lambda: not [each for each in threading.enumerate() if each.name == "rule"], "the rules have ended")
    world.queue.put(event("later.own"))
    world.until_empty()
    assert world.sent_to(Purpose.PROCESS) == ["good.own", "later.own"]


def test_a_rule_that_recovers_is_asked_again_after_a_while() -> None:
    asked: Counter[str] = Counter()

    def rule(source: Source) -> bool:
        asked[source.key] += 1
        if asked[source.key] == 1:
            raise TransientError("for a moment")
        return True

    world = World(rule)
    world.queue.put(event("a.jpg"))
    assert world.bridge.step() == [EventOutcome.RETRY]
    world.until_empty()
    assert world.sent_to(Purpose.PROCESS) == ["a.jpg"]
    assert 5 <= world.done_at["a.jpg"] <= 11


def test_while_the_service_fails_for_everybody_workers_are_asked_and_the_service_hardly() -> None:
    """They wait for it; the bridge costs no message a second receive, but for the few that tell it."""
    asked, is_away = Counter[str](), True

    def rule(source: Source) -> bool:
        asked[source.key] += 1
        if is_away:
            raise ServiceUnavailable("could not read: AWS answered 503")
        return True

    world = World(rule, bounded=BoundedCalls(gate=Gate(clock=lambda: world.queue.clock)))
    world.queue.put(*(event(f"{n}.own") for n in range(1000)))
    world.until_empty()
    assert asked.total() < FAILURES + 20
    assert len(world.sent_to(Purpose.FIND_ROUTE)) == 1000
    assert max(world.queue.receives.values()) <= ASK_A_WORKER_AT
    assert sum(count > 1 for count in world.queue.receives.values()) < FAILURES + 20
    assert not world.queue.dead.counts()["ApproximateNumberOfMessages"]
    is_away = False
    world.queue.clock += BACKOFF.most_s
    world.queue.put(*(event(f"later/{n}.own") for n in range(20)))
    world.until_empty()
    assert len(world.sent_to(Purpose.PROCESS)) == 20


def test_while_publishing_fails_no_message_is_received_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour of it; the receipt handles of what is held are good in the end, since it stayed hidden."""

    def publish(due: Sequence[Assignment]) -> None:
        if world.queue.clock < 3600:
            raise NotEnqueued([each.source for each in due], "SQS answered 503", is_outage=True)
        if len(world.sent) + len(due) == 50:
            world.bridge.stop()

    world = World(publish=publish)
    monkeypatch.setattr("bridge.consumer.monotonic", lambda: world.queue.clock)
    world.queue.put(*(event(f"{n}.jpg") for n in range(50)))
    world.bridge.run()
    assert sorted(world.sent_to(Purpose.PROCESS)) == sorted(f"{n}.jpg" for n in range(50))
    assert world.queue.count() == 0
    assert set(world.queue.receives.values()) == {1}
    assert world.done_at["0.jpg"] - 3600 < 31
    assert world.queue.requests["change visibility"] < 100


def test_while_sqs_itself_is_away_it_backs_off_and_uses_up_no_receives(caplog: pytest.LogCaptureFixture) -> None:
    world = World(publish=lambda _: world.bridge.stop())
    world.queue.put(event("a.jpg"))
    world.queue.is_away = True
    pause = world.bridge._pause

    def until_it_is_back(seconds: float) -> None:
        pause(seconds)
        world.queue.is_away = world.queue.clock < 600

    world.bridge._pause = until_it_is_back
    with caplog.at_level(logging.INFO):
        world.bridge.run()
    assert world.sent_to(Purpose.PROCESS) == ["a.jpg"]
    assert set(world.queue.receives.values()) == {1}
    assert world.queue.requests["receive"] < 40
    actions = Counter(record.__dict__.get("action") for record in caplog.records)
    assert (actions["sqs_unavailable"], actions["sqs_recovered"]) == (1, 1)


def test_one_message_that_the_queue_refuses_waits_alone_and_ends_as_a_dead_letter() -> None:
    def publish(due: Sequence[Assignment]) -> None:
        world.sent += [each for each in due if each.source.key != "bad.jpg"]
        for each in due:
            if each.source.key == "bad.jpg":
                raise NotEnqueued([each.source], "SQS does not take it")

    world = World(publish=publish)
    world.queue.put(event("bad.jpg"))
    world.bridge.step()
    world.queue.put(event("good.jpg"))
    assert world.bridge.step() == [EventOutcome.DISPATCHED]
    world.until_empty()
    assert world.queue.dead.counts()["ApproximateNumberOfMessages"] == 1


@pytest.mark.parametrize("name", ["ObjectCreated:Put", "ObjectRemoved:Delete"])
@pytest.mark.parametrize(("bucket", "why"), [("elsewhere", "INPUT_BUCKET=in"), ("out", "INPUT_BUCKET=in")])
def test_an_event_of_another_bucket_is_dead_lettered_with_the_reason(name: str, bucket: str, why: str) -> None:
    world = World()
    world.queue.put(event("inv/old.jpg", name, bucket))
    assert world.bridge.step() == [EventOutcome.REJECTED]
    assert world.sent == []
    (letter,) = world.queue.dead.ready
    reason = letter.attributes["reason"]["StringValue"]
    assert f"s3://{bucket}/inv/old.jpg" in reason
    assert why in reason


def test_where_no_input_bucket_is_set_all_but_the_output_bucket_are(caplog: pytest.LogCaptureFixture) -> None:
    world = World(settings=Settings.from_env({"OUTPUT_BUCKET": "out"}), publish=lambda _: world.bridge.stop())
    world.queue.put(event("a.jpg", bucket="out"), event("a.jpg", bucket="any"))
    world.bridge.run()
    assert [each.source.bucket for each in world.sent] == ["any"]
    assert len(world.queue.dead.ready) == 1
    assert "INPUT_BUCKET is not set" in caplog.text


def test_of_a_message_about_several_objects_the_good_ones_are_done_before_it_is_rejected() -> None:
    world = World()
    records = [s3_record("a.jpg"), s3_record("b.jpg", bucket="elsewhere")]
    world.queue.put(json.dumps({"Records": records}))
    assert world.bridge.step() == [EventOutcome.REJECTED]
    assert world.sent_to(Purpose.PROCESS) == ["a.jpg"]
    assert len(world.queue.dead.ready) == 1


def test_each_object_has_a_line_with_its_key(caplog: pytest.LogCaptureFixture) -> None:
    world = World(lambda source: source.key != "no.jpg")
    records = [s3_record("a b.jpg"), s3_record("no.jpg"), s3_record("c.jpg", "ObjectRemoved:Delete")]
    world.queue.put(json.dumps({"Records": records}))
    with caplog.at_level(logging.DEBUG):
        world.bridge.step()
    lines = [(record.__dict__["action"], record.__dict__["key"]) for record in caplog.records]
    assert lines == [("dispatched", "a b.jpg"), ("skipped", "no.jpg"), ("dispatched", "c.jpg")]
    shown = [record.__dict__["key"] for record in caplog.records if record.levelno >= logging.INFO]
    assert shown == ["no.jpg"], "a worker tells of the others"


def test_a_reason_that_sqs_would_not_take_as_it_is_reaches_the_dead_letter_queue() -> None:
    world = World()
    world.queue.put(event("a\x01\uffff.jpg", bucket="elsewhere"))
    world.bridge.step()
    (letter,) = world.queue.dead.ready
    assert "a\ufffd\ufffd.jpg" in letter.attributes["reason"]["StringValue"]

"""The outbox: gathers, keeps what can't be delivered, and never blocks who puts something in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pipeline.aws.backoff import Backoff
from pipeline.sqs.monitoring import outbox
from pipeline.sqs.monitoring.outbox import Event, Outbox, split
from tests.support.waiting import DEADLINE_S


class Post:
    """Where events are delivered; ``broken`` makes it refuse them, ``shut`` makes it hang."""

    def __init__(self) -> None:
        self.delivered: list[list[int]] = []
        self.tries = 0
        self.broken = False
        self.shut = threading.Event()
        self.shut.set()
        self._changed = threading.Condition()

    @contextmanager
    def open(self) -> Iterator[Callable[[list[Event]], None]]:
        yield self.deliver

    def deliver(self, batch: list[Event]) -> None:
        assert self.shut.wait(DEADLINE_S)
        with self._changed:
            self.tries += 1
            self._changed.notify_all()
            if self.broken:
                raise ConnectionError("no way")
            self.delivered.append([event["n"] for event in batch])

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, DEADLINE_S)

    @property
    def numbers(self) -> list[int]:
        return [number for batch in self.delivered for number in batch]


@pytest.fixture
def post() -> Post:
    return Post()


def make(post: Post, *, interval_s: float = 0, **kwargs: Any) -> Outbox:
    kwargs.setdefault("first_s", interval_s)
    return Outbox(post.open, lambda event: event if event["n"] >= 0 else None, interval_s=interval_s, **kwargs)


def failing_times(box: Outbox, number: int) -> float:
    box._failures = number
    return box._pause_s()


def test_events_of_an_interval_go_out_together_and_in_order(post: Post) -> None:
    box = make(post, interval_s=3600)
    for number in range(300):
        box.put({"n": number})
    box.put({"n": 300}, hurry=True)
    post.wait_for(lambda: bool(post.delivered))
    assert box.close(DEADLINE_S) == []
    assert post.numbers == list(range(301))
    assert len(post.delivered) <= 2  # the thread may have woken before the last was in


def test_after_a_pause_the_first_event_goes_out_at_once_and_the_next_ones_together(post: Post) -> None:
    box = make(post, interval_s=3600, first_s=0)
    box.put({"n": 1})
    post.wait_for(lambda: bool(post.delivered))
    assert post.numbers == [1]
    assert 3000 < box._pause_s() <= 3600
    box.put({"n": 2})
    box.put({"n": 3})
    assert box.close(DEADLINE_S) == []
    assert post.delivered == [[1], [2, 3]]


def test_closing_sends_what_is_left_without_waiting_for_the_interval(post: Post) -> None:
    box = make(post, interval_s=3600)
    box.put({"n": 1})
    assert box.close(DEADLINE_S) == []
    assert post.numbers == [1]


def test_what_is_not_to_be_delivered_is_not(post: Post) -> None:
    box = make(post)
    for number in (1, -2, 3):
        box.put({"n": number})
    box.close(DEADLINE_S)
    assert post.numbers == [1, 3]


def test_a_failure_keeps_the_events_and_a_recovery_sends_them_once_in_order(
    post: Post, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox, "BACKOFF", Backoff(0, 0))
    post.broken = True
    box = make(post)
    box.put({"n": 1})
    post.wait_for(lambda: post.tries >= 3)
    box.put({"n": 2})
    post.broken = False
    post.wait_for(lambda: len(post.numbers) >= 2)
    box.close(DEADLINE_S)
    assert post.numbers == [1, 2]
    assert [record.levelname for record in caplog.records].count("WARNING") == 1  # the first failure, not every try


def test_the_pause_between_tries_grows_to_a_limit_however_long_it_lasts(post: Post) -> None:
    box = make(post, interval_s=1)
    assert failing_times(box, 0) == 1
    for number, most_s in ((1, 2), (2, 4), (3, 8), (10, outbox.BACKOFF.most_s), (5000, outbox.BACKOFF.most_s)):
        assert most_s / 2 <= failing_times(box, number) <= most_s


def test_an_event_that_cannot_be_prepared_costs_no_other(post: Post, caplog: pytest.LogCaptureFixture) -> None:
    box = make(post)
    box.put({"type": "bad"})  # it has no number
    box.put({"n": 1})
    box.close(DEADLINE_S)
    assert post.numbers == [1]
    assert "bad" in caplog.text


def test_putting_never_waits_for_a_delivery_that_hangs_and_closing_gives_up(post: Post) -> None:
    post.shut.clear()
    box = make(post)
    for number in range(5):
        box.put({"n": number})
    left = box.close(0.05)
    assert [event["n"] for event in left] == list(range(5))
    post.shut.set()
    post.wait_for(lambda: len(post.numbers) == 5)


def test_the_oldest_are_dropped_when_too_many_wait(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_KEPT", 3)
    monkeypatch.setattr(outbox, "BACKOFF", Backoff(0, 0))
    post.broken = True
    box = make(post)
    for number in range(10):
        box.put({"n": number})
    post.wait_for(lambda: post.tries >= 2)
    post.broken = False
    box.close(DEADLINE_S)
    assert post.numbers == [7, 8, 9]


def test_idle_work_is_called_at_the_end_too(post: Post) -> None:
    calls: list[bool] = []
    box = make(post, idle=calls.append)
    box.put({"n": 1})
    box.close(DEADLINE_S)
    assert calls[-1] is True


def test_a_batch_is_split_to_what_one_message_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_BYTES", 1000)
    events = [{"n": number, "text": "x" * 90} for number in range(100)]
    parts = list(split(events))
    assert [event for part in parts for event in part] == events
    assert all(len(outbox.dumps(part)) <= 1000 for part in parts)
    assert list(split([])) == []
    assert list(split([{"text": "x" * 5000}])) == [[{"text": "x" * 5000}]]

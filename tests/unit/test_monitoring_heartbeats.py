"""Heartbeats: rare when idle, fresh when busy, and never a message too many."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.sqs.monitoring.heartbeats import Heartbeats

TICK_S = 2  # Celery's own interval


class Worker:
    """A worker's heartbeats on a clock of its own; ``messages`` is what it sends."""

    def __init__(self, interval_s: float) -> None:
        self.now = 0.0
        self.heartbeats = Heartbeats(interval_s, clock=lambda: self.now)
        self.messages: list[list[dict[str, Any]]] = []

    def tick(self, *, active: int, events: int = 0) -> None:
        """Two seconds pass: one heartbeat, and so many events of tasks that are sent together."""
        self.now += TICK_S
        batch: list[dict[str, Any]] = [{"type": "task-started"} for _ in range(events)]
        heartbeat = {"type": "worker-heartbeat", "active": active}
        if self.heartbeats.is_due(heartbeat):
            batch.append(heartbeat)
        if batch:
            passenger = self.heartbeats.passenger(batch)
            self.messages.append(batch if passenger is None else [*batch, passenger])


def test_an_idle_worker_sends_one_an_interval() -> None:
    worker = Worker(interval_s=30)
    for _ in range(1800):  # an hour
        worker.tick(active=0)
    assert len(worker.messages) == 120


def test_a_busy_worker_sends_no_message_for_a_heartbeat_but_one_with_every_message() -> None:
    worker = Worker(interval_s=30)
    for _ in range(50):
        worker.tick(active=3, events=5)
    assert len(worker.messages) == 50
    assert all([event["type"] for event in batch].count("worker-heartbeat") == 1 for batch in worker.messages)


def test_after_the_last_task_one_heartbeat_says_that_none_is_active() -> None:
    worker = Worker(interval_s=30)
    worker.tick(active=1, events=2)
    worker.tick(active=0)
    worker.tick(active=0)
    assert [batch[-1]["active"] for batch in worker.messages] == [1, 0]


def test_a_worker_with_a_long_task_says_so_more_often_than_an_idle_one() -> None:
    worker = Worker(interval_s=30)
    worker.tick(active=1, events=2)
    worker.tick(active=1)
    sent = len(worker.messages)
    for _ in range(900):  # half an hour
        worker.tick(active=1)
    assert len(worker.messages) - sent == 300  # every third tick


def test_a_worker_is_overdue_after_twice_the_longest_pause_that_it_makes() -> None:
    heartbeats = Heartbeats(30, gathered_s=1)
    assert heartbeats.freq_s({"active": 0}) == heartbeats.freq_s({}) == 31
    assert heartbeats.freq_s({"active": 2}) == 6
    assert Heartbeats(2, gathered_s=1).freq_s({"active": 2}) == 3


@pytest.mark.parametrize("active", [[0] * 500, [2] * 500, [0, 1, 1, 1, 0, 0, 2, 0, 0, 0, 0] * 50])
@pytest.mark.parametrize("events", [0, 3])
def test_the_next_heartbeat_comes_before_its_worker_is_taken_for_lost(active: list[int], events: int) -> None:
    worker = Worker(interval_s=30)
    expires = float("inf")
    for running in active:
        before = len(worker.messages)
        worker.tick(active=running, events=events if running else 0)
        assert worker.now < expires
        for batch in worker.messages[before:]:
            for beat in (event for event in batch if event["type"] == "worker-heartbeat"):
                expires = worker.now + 2 * worker.heartbeats.freq_s(beat)

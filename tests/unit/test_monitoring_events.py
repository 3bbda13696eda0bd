"""The dispatcher: which events are published, counted and named. Its outbox is replaced by a list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.celery import make_app
from pipeline.core.settings import Settings
from pipeline.sqs.monitoring import events
from pipeline.sqs.monitoring.events import Dispatcher
from tests.support.cluster import TOPIC_ARN_PREFIX


class Box:
    """Prepares at once what is put in, as the outbox's thread would."""

    def __init__(self, _open: object, prepare: Callable[[dict[str, Any]], dict[str, Any] | None], **_: object) -> None:
        self._prepare = prepare
        self.sent: list[dict[str, Any]] = []
        self.hurried = 0

    def put(self, event: dict[str, Any], *, hurry: bool = False) -> None:
        self.hurried += hurry
        prepared = self._prepare(event)
        if prepared is not None:
            self.sent.append(prepared)

    def close(self, _timeout_s: float) -> list[dict[str, Any]]:
        return self.sent  # as if nothing could be sent


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setattr(events, "Outbox", Box)

    def made(*, groups: list[str] | None = None, **settings: Any) -> Any:
        app = make_app(Settings(**{"topic_arn_prefix": TOPIC_ARN_PREFIX, **settings}))
        return app.events.Dispatcher(app.connection(), hostname="w@test", groups=groups)

    return made


def sent(dispatcher: Dispatcher) -> list[str]:
    box: Any = dispatcher._outbox
    return [] if box is None else [event["type"] for event in box.sent]


def run_a_task(dispatcher: Dispatcher, task_id: str = "1") -> None:
    dispatcher.send("task-received", uuid=task_id, name="tasks.resize", args="a/b.jpg")
    dispatcher.send("task-started", uuid=task_id)
    dispatcher.send("task-succeeded", uuid=task_id, runtime=0.1, result='{"outcome": "superseded"}')


ALL = ["task-received", "task-started", "task-succeeded"]


def test_the_app_makes_this_dispatcher(make: Callable[..., Any]) -> None:
    assert isinstance(make(), Dispatcher)


@pytest.mark.parametrize(
    ("settings", "groups", "types"),
    [
        ({}, None, ALL),
        ({}, ["worker"], []),
        ({"events": "off"}, None, []),
        ({"topic_arn_prefix": None}, None, []),
        ({"events": "off", "metrics_namespace": "X"}, None, []),
    ],
)
def test_which_events_of_tasks_are_published(
    make: Callable[..., Any], settings: dict[str, Any], groups: list[str] | None, types: list[str]
) -> None:
    dispatcher = make(groups=groups, **settings)
    run_a_task(dispatcher)
    assert sent(dispatcher) == types


def test_remote_control_switches_the_events_of_tasks(make: Callable[..., Any]) -> None:
    dispatcher = make(groups=["worker"])
    dispatcher.groups.add("task")
    run_a_task(dispatcher)
    dispatcher.groups.discard("task")
    run_a_task(dispatcher, "2")
    assert sent(dispatcher) == ALL


def test_the_end_of_a_task_says_its_name_and_outcome_and_no_name_is_kept(make: Callable[..., Any]) -> None:
    dispatcher = make()
    run_a_task(dispatcher)
    dispatcher.send("task-failed", uuid="unheard-of", exception="X()")
    end, stranger = dispatcher._outbox.sent[-2:]
    assert (end["name"], end["outcome"], end["result"]) == ("tasks.resize", "superseded", "superseded")
    assert "name" not in stranger  # None would erase what a consumer knows
    assert dispatcher._names == {}


def test_names_of_tasks_that_never_end_are_bounded(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_NAMES", 3)
    dispatcher = make()
    for number in range(10):
        dispatcher.send("task-received", uuid=str(number), name="n")
    assert list(dispatcher._names) == ["7", "8", "9"]


@pytest.mark.parametrize("settings", [{}, {"events": "off"}, {"topic_arn_prefix": None}])
def test_metrics_count_every_end_whether_events_are_published_or_not(
    make: Callable[..., Any], settings: dict[str, Any]
) -> None:
    dispatcher = make(metrics_namespace="X", **settings)
    run_a_task(dispatcher)
    assert list(dispatcher._metrics._ends) == [("tasks.resize", "superseded", "")]


def test_what_could_not_be_sent_goes_over_to_the_next_dispatcher_and_is_counted_once(make: Callable[..., Any]) -> None:
    first, second = make(metrics_namespace="X"), make(metrics_namespace="X")
    run_a_task(first)
    first.close()
    second.extend_buffer(first)
    assert sent(second) == ALL
    assert second._outbox.sent[-1]["outcome"] == "superseded"
    assert not second._metrics._ends


def test_heartbeats_say_how_often_they_come_and_answers_are_sent_at_once(make: Callable[..., Any]) -> None:
    dispatcher = make(heartbeat_s=45)
    dispatcher.send("worker-online", freq=2.0, active=0)
    dispatcher.send("worker-heartbeat", freq=2.0, active=0)  # the first is due
    dispatcher._heartbeats.passenger(dispatcher._outbox.sent)
    dispatcher.send("worker-heartbeat", freq=2.0, active=0)  # the next is not
    dispatcher.send("worker-heartbeat", freq=5)  # asked for by a consumer that has just started
    assert sent(dispatcher) == ["worker-online", "worker-heartbeat", "worker-heartbeat"]
    assert {event["freq"] for event in dispatcher._outbox.sent} == {45 + 1}  # as late as EVENTS_INTERVAL_S
    assert dispatcher._outbox.hurried == 2


def test_a_closed_or_disabled_dispatcher_takes_nothing(make: Callable[..., Any]) -> None:
    dispatcher = make()
    dispatcher.close()
    run_a_task(dispatcher)
    assert sent(dispatcher) == []
    dispatcher.enable()
    run_a_task(dispatcher)
    assert sent(dispatcher) == ALL

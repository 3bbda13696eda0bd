"""Workers consume queues of tasks, and no others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker import control

from pipeline.celery import app
from pipeline.core.errors import ConfigError
from pipeline.sqs.monitoring import commands
from pipeline.sqs.worker.startup import DeadLetterCheck
from pipeline.sqs.worker.task_queues import check_task_queue

OTHERS = [
    "events",
    "events-dlq",
    "tasks-dlq",
    "results",
    "0123456789abcdef0123-pidbox",
    "celeryev-0123456789abcdef0123",
]


@pytest.mark.parametrize("queue", OTHERS)
def test_what_is_not_for_tasks_is_refused_with_a_sentence(queue: str) -> None:
    with pytest.raises(ConfigError, match=f"^{queue} is not a queue of tasks: "):
        check_task_queue(queue, app.sqs)


@pytest.mark.parametrize("queue", ["tasks", "priority", "my-events"])
def test_what_may_be_for_tasks_is_not(queue: str) -> None:
    check_task_queue(queue, app.sqs)


def test_remote_control_answers_with_the_sentence() -> None:
    assert control.Panel.data["add_consumer"] is commands.add_consumer
    consumer = SimpleNamespace(call_soon=lambda *_: pytest.fail("it is not consumed"))
    answer: Any = commands.add_consumer(SimpleNamespace(consumer=consumer, app=app), "events")
    assert answer["error"].startswith("events is not a queue of tasks: ")


def test_a_worker_does_not_start_on_one() -> None:
    task_consumer = SimpleNamespace(queues=[SimpleNamespace(name="events")], channel=None)
    with pytest.raises(ConfigError, match="not a queue of tasks"):
        DeadLetterCheck(SimpleNamespace()).start(SimpleNamespace(task_consumer=task_consumer, app=app))

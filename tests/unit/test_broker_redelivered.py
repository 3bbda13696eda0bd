"""That a message was delivered before reaches the task."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from celery import Celery
from celery.worker.request import Request

from tests.support.scripted import scripted_channel, sqs_message


def work() -> None:
    """Never run."""


@pytest.mark.parametrize(("receives", "wanted"), [(1, False), (2, True), (9, True)])
def test_the_task_sees_it(receives: int, wanted: bool) -> None:
    app = Celery("test", set_as_current=False)
    task = app.task(work, name="t", lazy=False, shared=False)
    with scripted_channel() as channel:
        received = channel.consume()
        channel.answer(sqs_message(1, receives=receives))
        request = Request(received[0], app=app, task=task, hostname="h", eventer=SimpleNamespace())
        assert request.delivery_info["redelivered"] is wanted

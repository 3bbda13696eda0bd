"""``install(app, …)``: what it makes of an app, and what it refuses."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.worker import state

from pipeline.sqs import BatchEnded, ConfigError, batched, install
from pipeline.sqs.worker import shutdown
from tests.public_reports.test_sending import Side, made_app, ours, sides

__all__ = ["ours", "sides"]


def test_only_the_app_that_is_given_changes() -> None:
    other, app = made_app(), made_app()
    install(app, queue_prefix="shop-", health_folder="/var/run")
    assert app.conf.broker_transport == "pipeline.sqs.transport.transport:Transport"
    assert app.conf.broker_transport_options["queue_name_prefix"] == "shop-"
    assert app.conf.task_acks_late
    assert other.conf.broker_transport is None
    assert not other.conf.task_acks_late
    assert not [step for step in other.steps["worker"] if str(step).startswith("pipeline")]


@pytest.mark.parametrize("configured", [False, True])
def test_it_counts_whatever_the_app_was_configured_with(configured: bool) -> None:
    app = Celery("reports", set_as_current=False, broker="redis://elsewhere")
    app.conf.task_acks_late = False
    app.conf.task_time_limit = 1000
    if configured:
        assert app.conf.broker_url == "redis://elsewhere"
    install(app)
    assert app.conf.task_acks_late is True
    assert app.conf.broker_transport_options["stalled_after_s"] == 1090
    assert app.connection().transport_cls == "pipeline.sqs.transport.transport:Transport"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"queue_prefix": "a b"}, "queue_prefix='a b': "),
        ({"poll_wait_s": 21}, "poll_wait_s=21: must be less than or equal to 20"),
        ({"prefix": "x"}, "prefix='x': there is no such setting"),
        ({"topic_arn_prefix": "here"}, "topic_arn_prefix='here': "),
    ],
)
def test_a_wrong_value_is_a_sentence(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        install(made_app(), **values)
    assert str(caught.value).startswith(says)


def test_twice_is_once_too_often() -> None:
    app = made_app()
    install(app)
    with pytest.raises(ConfigError, match="was called for it before"):
        install(app)


def test_a_fifo_queue_is_refused(ours: Side) -> None:
    with ours.app.connection_for_write() as connection, pytest.raises(ConfigError, match="is a FIFO queue"):
        connection.default_channel._new_queue("orders.fifo")


def test_what_outlives_a_batch_is_told_so(ours: Side) -> None:

    async def late(ended: asyncio.Event) -> None:
        await ended.wait()
        ours.send("late")

    async def program() -> None:
        ended = asyncio.Event()
        with batched(ours.app):
            ours.send("in time")
            task = asyncio.create_task(late(ended))
            await asyncio.sleep(0)
        ended.set()
        await task

    with pytest.raises(BatchEnded, match="has ended"):
        asyncio.run(program())
    assert ours.arguments() == [["in time"]]


def test_another_thread_with_this_one_s_context_publishes_by_itself(ours: Side) -> None:

    async def program() -> None:
        with batched(ours.app):
            await asyncio.to_thread(ours.send, "at once")
            assert ours.depth()[0] == 1

    asyncio.run(program())


def test_threads_that_exceed_the_shutdown_time_out_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "should_stop", None)
    running = [SimpleNamespace(name="t", id="1")]
    monkeypatch.setattr(shutdown, "requests_in_pool", lambda: running)
    pool = type("TaskPool", (), {"__module__": "celery.concurrency.thread"})
    settings = SimpleNamespace(shutdown_timeout_s=0)
    worker = SimpleNamespace(app=SimpleNamespace(sqs=SimpleNamespace(settings=settings)), pool_cls=pool)
    step = shutdown.GracefulShutdown(worker)
    step._deadline = 0.0  # long over
    step._check()
    assert state.should_stop is None
    running.clear()
    step._check()
    assert state.should_stop == 0
    step._woken.close()
    step._waker.close()

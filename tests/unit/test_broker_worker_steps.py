"""Draining, scale-in protection and the heartbeat, each by itself, and what they lean on in Celery."""

from __future__ import annotations

import inspect
import os
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import bootsteps, platforms
from celery.apps import worker as worker_program
from celery.worker import WorkController, components, control, loops, request, state
from click.testing import CliRunner
from kombu.asynchronous import semaphore

from pipeline.__main__ import cli
from pipeline.celery import WORKER_STEPS, make_app
from pipeline.core.role import Role
from pipeline.core.settings import Settings
from pipeline.sqs import installing
from pipeline.sqs.health import Heartbeat, Unhealthy, check, heartbeat_path, role_here
from pipeline.sqs.transport.polling import PollState
from pipeline.sqs.worker import heartbeat, shutdown
from pipeline.sqs.worker.heartbeat import is_consuming
from pipeline.sqs.worker.scale_in_protection import RETRY_S, ScaleInProtection
from tests.support.scripted import scripted_channel, sqs_message


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Agent:
    def __init__(self) -> None:
        self.clock, self.works = Clock(), True
        self.calls: list[tuple[float, bool]] = []
        self.protection = ScaleInProtection(self.put, expires_min=15, linger_s=10, clock=self.clock)

    def put(self, protected: bool) -> bool:
        self.calls.append((self.clock.now, protected))
        return self.works

    def run(self, seconds: int, busy: bool) -> list[bool]:
        """Looks once a second; returns what was called meanwhile."""
        before = len(self.calls)
        for _ in range(seconds):
            self.protection.look(busy)
            self.clock.now += 1
        return [protected for _, protected in self.calls[before:]]


def test_protects_while_busy_and_releases_when_idle() -> None:
    agent = Agent()
    assert agent.run(5, busy=False) == [False]  # whatever it was before
    assert agent.run(60, busy=True) == [True]
    assert agent.run(9, busy=False) == []
    assert agent.run(60, busy=False) == [False]


def test_a_trickle_of_work_is_one_protection() -> None:
    agent = Agent()
    calls = []
    for _ in range(20):
        calls += agent.run(1, busy=True) + agent.run(8, busy=False)
    assert calls == [True]


def test_renews_long_before_it_expires() -> None:
    agent = Agent()
    agent.run(3600, busy=True)
    times = [at for at, protected in agent.calls if protected]
    assert len(agent.calls) == len(times)
    assert 240 <= max(b - a for a, b in pairwise(times)) <= 330


def test_failures_are_tried_again_after_a_while_only() -> None:
    agent = Agent()
    agent.works = False
    assert len(agent.run(120, busy=True)) == 120 / RETRY_S
    agent.works = True
    assert agent.run(60, busy=True) == [True]


def test_releases_at_the_end() -> None:
    agent = Agent()
    agent.run(1, busy=True)
    agent.protection.release()
    agent.protection.release()
    assert [protected for _, protected in agent.calls] == [True, False]


def test_health_reads_the_age_of_the_last_progress(tmp_path: Path) -> None:
    with pytest.raises(Unhealthy, match="not running"):
        check(tmp_path, Role.WORKER, 45)
    beat = Heartbeat(tmp_path, Role.WORKER)
    beat.touch()
    assert check(tmp_path, Role.WORKER, 45) < 30
    with pytest.raises(Unhealthy, match="the bridge is not running"):
        check(tmp_path, Role.BRIDGE, 45)
    past = time.time() - 46
    os.utime(heartbeat_path(tmp_path, Role.WORKER), (past, past))
    with pytest.raises(Unhealthy, match="no progress for 46 s"):
        check(tmp_path, Role.WORKER, 45)
    beat.touch()
    beat.remove()
    with pytest.raises(Unhealthy, match="not running"):
        check(tmp_path, Role.WORKER, 45)


@pytest.mark.parametrize("arguments", [["health"], ["health", "worker"]])
def test_the_health_command_exits_with_what_it_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("HEALTH_FOLDER", str(tmp_path))
    missing = CliRunner().invoke(cli, arguments)
    assert (missing.exit_code, "has begun" in missing.output or "has not begun" in missing.output) == (1, True)
    Heartbeat(tmp_path, Role.WORKER).touch()
    healthy = CliRunner().invoke(cli, arguments)
    assert (healthy.exit_code, "healthy: the worker" in healthy.output) == (0, True)
    assert healthy.output.endswith(" s ago\n")
    beat = Heartbeat(tmp_path, Role.WORKER)
    for note, end in (("it waits", "; it waits\n"), ("", " s ago\n")):
        beat.touch(note)
        noted = CliRunner().invoke(cli, arguments)
        assert (noted.exit_code, noted.output.endswith(end)) == (0, True), noted.output
    past = time.time() - 60
    os.utime(heartbeat_path(tmp_path, Role.WORKER), (past, past))
    stale = CliRunner().invoke(cli, arguments)
    assert (stale.exit_code, "no progress for 60 s" in stale.output) == (1, True)


def test_of_two_hearts_the_weaker_one_counts(tmp_path: Path) -> None:
    for role, age_s in ((Role.WORKER, 5), (Role.BRIDGE, 500)):
        Heartbeat(tmp_path, role).touch()
        past = time.time() - age_s
        os.utime(heartbeat_path(tmp_path, role), (past, past))
    assert role_here(tmp_path) == Role.BRIDGE


def test_consuming_is_told_from_pretending(monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[object] = []
    monkeypatch.setattr(heartbeat, "requests_in_pool", lambda: running)
    with scripted_channel(wait_time_seconds=20) as channel:
        channel.basic_qos(prefetch_count=1)
        channel.consume()
        poll = channel.poller.polls["tasks"]
        assert poll.state is PollState.OPEN
        assert is_consuming(channel, 45)
        poll.since -= 34
        assert is_consuming(channel, 45)
        poll.since -= 2  # its time-out should have ended it
        assert not is_consuming(channel, 45)
        channel.answer(sqs_message(1))
        assert poll.state is PollState.FULL
        assert not is_consuming(channel, 45)  # full of what? nothing runs
        running.append(object())
        poll.since -= 10_000
        assert is_consuming(channel, 45)  # one long task
        poll.enter(PollState.BACKING_OFF)
        assert is_consuming(channel, 45)
        poll.since -= 16
        assert not is_consuming(channel, 45)
        channel.poller.polls.clear()
        assert not is_consuming(channel, 45)


def test_a_receive_that_alone_is_refused_is_not_healthy_for_long() -> None:
    with scripted_channel() as channel:
        channel.consume()
        channel.fail(OSError("denied"))
        poll = channel.poller.polls["tasks"]
        channel.reader.refused.add("tasks")
        assert is_consuming(channel, 45)
        poll.failing_since -= 46
        assert not is_consuming(channel, 45)
        channel.reader.refused.clear()  # nothing else is answered either: an outage
        assert is_consuming(channel, 45)
        channel.reader.refused.add("tasks")
        channel.hub.run_later()
        assert not is_consuming(channel, 45), "also while it is tried again"
        channel.answer()
        assert is_consuming(channel, 45)


def test_an_app_has_the_steps() -> None:
    app = make_app(Settings())
    try:
        assert app.steps["worker"] >= {*WORKER_STEPS, *installing.WORKER_STEPS}
        assert app.steps["consumer"] >= set(installing.CONSUMER_STEPS)
    finally:
        app.close()


def test_remote_shutdown_is_ours() -> None:
    assert control.Panel.data["shutdown"] is shutdown.shutdown
    asked = []
    worker = SimpleNamespace(graceful_shutdown=SimpleNamespace(begin=lambda: asked.append(1)))
    shutdown.shutdown(SimpleNamespace(consumer=SimpleNamespace(controller=worker)))
    assert asked == [1]


def test_the_places_in_celery_that_stopping_is_fastened_to() -> None:
    start = inspect.getsource(bootsteps.Blueprint.start)
    assert start.index("self.on_start()") < start.index("step.start(parent)")  # so ours replace its signal handlers
    assert "self.install_platform_tweaks(self)" in inspect.getsource(worker_program.Worker.on_start)
    assert "platforms.signals[sig] = _handle_request" in inspect.getsource(worker_program._shutdown_handler)
    assert platforms.EX_OK == 0
    loop = inspect.getsource(loops.asynloop)
    assert "state.maybe_shutdown()" in loop
    assert "obj.controller.register_with_event_loop(hub)" in loop
    assert state.should_stop is None
    assert "'register_with_event_loop', args=(hub,)" in inspect.getsource(WorkController.register_with_event_loop)
    assert "w.semaphore = LaxBoundedSemaphore(procs)" in inspect.getsource(components.Pool.create)
    assert list(inspect.signature(request.Request.cancel).parameters) == ["self", "pool", "signal", "emit_retry"]
    cancel = inspect.getsource(request.Request._announce_cancelled)
    assert "acknowledge" not in cancel
    held: Any = semaphore.LaxBoundedSemaphore(1)
    ran: list[str] = []
    held.acquire(ran.append, "first")
    held.acquire(ran.append, "second")
    held.clear()
    held.release()
    assert ran == ["first"]


def test_a_look_after_the_worker_has_stopped_leaves_no_heartbeat(tmp_path: Path) -> None:
    worker: Any = SimpleNamespace(
        app=SimpleNamespace(
            sqs=SimpleNamespace(settings=SimpleNamespace(health_stale_s=60, health_folder=str(tmp_path)))
        ),
        graceful_shutdown=SimpleNamespace(draining=True),
        consumer=SimpleNamespace(task_consumer=None),
        use_eventloop=True,
    )
    step = heartbeat.HeartbeatStep(worker)
    looks: list[Any] = []
    step.register_with_event_loop(worker, SimpleNamespace(call_repeatedly=lambda _s, *call: looks.append(call)))
    ((look, *arguments),) = looks
    look(*arguments)
    assert check(tmp_path, Role.WORKER) < 60
    step.stop(worker)
    look(*arguments)
    with pytest.raises(Unhealthy):
        check(tmp_path, Role.WORKER)

"""SIGTERM: what waits is free at once, what runs ends or is handed on, and the exit status is 0."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.aws_process import AwsServer
from tests.support.stage import Stage, made_stage
from tests.support.waiting import wait_until
from tests.support.worker import Worker

HELD = 10
#: What is visible again within a test was released, and is not just late.
PATIENT = {"PREFETCH_S": "300", "MESSAGE_VISIBILITY_TIMEOUT_S": "600"}


def holding_ten(stage: Stage, worker: Worker) -> None:
    """Two tasks run and eight are prefetched."""
    worker.wait_ready()
    stage.send_many("note", *((f"quick-{n}",) for n in range(4)))
    wait_until(lambda: len(worker.done()) == 4, "the worker has seen that tasks are quick")
    wait_until(stage.empty, "they are gone")
    stage.send_many("hold", *((f"t{n}", str(stage.folder / "release")) for n in range(HELD)))
    wait_until(lambda: sum(worker.started().values()) == 2, "two tasks run")
    wait_until(lambda: stage.depth() == (0, HELD, 0), "eight more are prefetched")


def hands_back_eight(stage: Stage, worker: Worker) -> None:
    """A whole shutdown: what waits is visible again while the two tasks still run, and then they end."""
    holding_ten(stage, worker)
    worker.send_signal(signal.SIGTERM)
    wait_until(lambda: stage.depth() == (8, 2, 0), "eight are free for another worker")
    (stage.folder / "release").touch()
    assert worker.wait_exit() == 0


def test_hands_back_what_waits_finishes_what_runs_and_exits_clean(stage: Stage) -> None:
    with stage.worker("-c", "2", **PATIENT) as worker:
        hands_back_eight(stage, worker)
        assert stage.depth() == (8, 0, 0)
        assert sum(worker.done().values()) == 4 + 2
        assert sum(worker.started().values()) == 2


def test_stopping_again_and_again_makes_no_dead_letters(
    aws_server: AwsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker that puts a message back has used up a receive of it; here there is only one."""
    with made_stage(aws_server, tmp_path, monkeypatch, max_receives=1) as stage:
        with stage.worker("-c", "2", **PATIENT) as worker:
            hands_back_eight(stage, worker)
        with stage.worker("-c", "2", name="next") as worker:
            wait_until(stage.empty, "all are done")
            assert stage.dead() == []
            assert sum(worker.started().values()) == HELD


def test_hands_on_what_does_not_end_within_the_budget(stage: Stage) -> None:
    with stage.worker("-c", "2", **PATIENT, SHUTDOWN_TIMEOUT_S="1") as worker:
        holding_ten(stage, worker)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait_exit() == 0
        assert stage.depth() == (10, 0, 0)
        assert "did not finish in time" in worker.log()


def test_a_second_signal_hurries_it(stage: Stage) -> None:
    with stage.worker("-c", "2", **PATIENT) as worker:
        holding_ten(stage, worker)
        worker.send_signal(signal.SIGTERM)
        wait_until(lambda: stage.depth() == (8, 2, 0), "the worker drains")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait_exit() == 0
        assert stage.depth() == (10, 0, 0)


def test_stopping_under_load_loses_and_strands_nothing(stage: Stage) -> None:
    names = [f"t{n}" for n in range(300)]
    stage.send_many("note", *((name,) for name in names))
    for number in range(2):
        with stage.worker("-c", "2", name=f"worker{number}") as worker:
            before = len(worker.done())
            wait_until(lambda w=worker, b=before: len(w.done()) > b + 5, "it works")  # type: ignore[misc]
            worker.send_signal(signal.SIGTERM if number % 2 else signal.SIGINT)
            assert worker.wait_exit() == 0
            visible, flying, delayed = stage.depth()
            assert (flying, delayed) == (0, 0)
            assert visible == 300 - len(worker.done())
    assert all(count == 1 for count in worker.done().values())

"""Processes that die: the work is done all the same, and nothing is left in flight."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.support.aws_process import AwsServer
from tests.support.stage import Stage, made_stage
from tests.support.waiting import wait_until


def test_a_killed_pool_process_costs_a_moment_and_poison_ends_in_the_dead_letter_queue(
    aws_server: AwsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = tmp_path / "release"
    with made_stage(aws_server, tmp_path, monkeypatch, max_receives=2) as stage, stage.worker("-c", "2") as worker:
        worker.wait_ready()
        stage.send("hold", "killed-once", str(release))
        wait_until(lambda: worker.started()["killed-once"] == 1, "the task has begun")
        os.kill(worker.pid_of("killed-once"), signal.SIGKILL)
        wait_until(lambda: worker.started()["killed-once"] == 2, "it is begun again by another process")
        # Not before: when two processes die in the same moment, billiard may start the second one's task once more.
        stage.send("die", "poison")
        release.touch()
        wait_until(lambda: worker.done()["killed-once"] == 1, "it is done")
        wait_until(lambda: aws_server.depth(stage.dead_letters)[0] == 1, "the poison is a dead letter")
        assert worker.started()["poison"] == 2
        lines = [json.loads(line) for line in worker.log().splitlines() if "exited with" in line]
        killed = [line for line in lines if line.get("action") == "process_lost"]
        assert len(killed) == 3
        assert all(line["level"] == "ERROR" and "SIGKILL" in line["message"] for line in killed)
        (letter,) = stage.dead()
        assert "delivered 2 times, at last: tiny.die: WorkerLostError" in str(letter["MessageAttributes"]["reason"])
        stage.send("note", "healthy")
        wait_until(lambda: worker.done()["healthy"] == 1, "the worker lives on")
        wait_until(stage.empty, "nothing is left behind")


def test_the_work_of_a_killed_worker_is_done_by_another_within_a_visibility_time_out(stage: Stage) -> None:
    release = stage.folder / "release"
    names = [f"t{n}" for n in range(12)]
    stage.send_many("hold", *((name, str(release)) for name in names))
    with stage.worker("-c", "2", name="first", MESSAGE_VISIBILITY_TIMEOUT_S="3") as first:
        wait_until(lambda: sum(first.started().values()) == 2, "two tasks have begun")
        first.kill()
    release.touch()
    with stage.worker("-c", "2", name="second", MESSAGE_VISIBILITY_TIMEOUT_S="3") as second:
        wait_until(lambda: len(second.done()) == 12, "all is done")
        wait_until(stage.empty, "nothing is left behind")
        assert set(second.done()) == set(names)
        assert all(count == 1 for count in second.done().values())


def test_long_work_stays_hidden_and_lost_visibility_is_logged_and_harmless(stage: Stage) -> None:
    release = stage.folder / "release"
    with (
        stage.worker("-c", "1", name="first", MESSAGE_VISIBILITY_TIMEOUT_S="2") as first,
        stage.worker("-c", "1", name="second", MESSAGE_VISIBILITY_TIMEOUT_S="2") as second,
    ):
        first.wait_ready()
        second.wait_ready()
        stage.send("hold", "long", str(release))
        wait_until(lambda: stage.count("ChangeMessageVisibilityBatch") >= 3, "its visibility was extended often")
        stage.send("note", "other")
        wait_until(lambda: first.done()["other"], "the idle worker is not bothered")
        assert first.started()["long"] == 1  # though it took longer than its visibility time-out

        stage.server.fault(
            "ChangeMessageVisibilityBatch", queue=stage.queue, kind="entries", status=400, code="InvalidParameterValue"
        )
        wait_until(lambda: first.started()["long"] == 2, "its visibility is lost, and another worker does it too")
        assert "is visible to other workers again" in first.log() + second.log()
        release.touch()
        wait_until(lambda: first.done()["long"] == 2, "both come to their end")
        wait_until(stage.empty, "nothing is left behind")

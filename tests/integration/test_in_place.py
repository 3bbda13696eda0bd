"""A real worker goes on with a chain in place: one message for all of it, and nothing lost when it is interrupted."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from typing import Any

import pytest
from celery import chain

from tests.support.stage import Stage, aws_server, stage
from tests.support.waiting import wait_until
from tests.support.worker import Worker

__all__ = ["aws_server", "stage"]


def steps(stage: Stage, number: int) -> Any:
    return chain(
        stage.app.signature("tiny.note", (f"a{number}",)),
        stage.app.signature("tiny.follow", (f"b{number}",)),
        stage.app.signature("tiny.follow", (f"c{number}",)),
    )


def told(worker: Worker, what: str) -> Counter[str]:
    lines = [json.loads(line) for line in worker.log().splitlines() if line.startswith("{")]
    return Counter(line["task"] for line in lines if what in line["message"] and "task" in line)


def test_a_chain_is_one_message_and_each_of_its_tasks_is_told(stage: Stage) -> None:
    for number in range(12):
        stage.send_chain(steps(stage, number))
    with stage.worker("-c", "2") as worker:
        worker.wait_ready()
        wait_until(lambda: all(worker.done()[f"c{n}"] for n in range(12)), "all chains are done")
        wait_until(stage.empty, "nothing is left behind")
        assert stage.count("SendMessage") == 0
        assert set(worker.done().values()) == {1}
        assert told(worker, "succeeded") == {"tiny.note": 12, "tiny.follow": 24}


def test_without_it_each_task_is_a_message(stage: Stage) -> None:
    stage.send_chain(steps(stage, 1))
    with stage.worker("-c", "1", GO_ON_IN_PLACE="false") as worker:
        worker.wait_ready()
        wait_until(lambda: worker.done()["c1"], "it is done")
        wait_until(stage.empty, "nothing is left behind")
        assert stage.count("SendMessage") == 2


def test_a_process_that_dies_in_the_second_task_costs_only_that(stage: Stage) -> None:
    """What is done is not done again: the second task is published for itself."""
    release = stage.folder / "release"
    stage.send_chain(
        chain(
            stage.app.signature("tiny.note", ("a",)),
            stage.app.signature("tiny.hold", ("b", str(release)), immutable=True),
        )
    )
    with stage.worker("-c", "1") as worker:
        worker.wait_ready()
        wait_until(lambda: worker.started()["b"], "the second runs")
        os.kill(worker.pid_of("b"), signal.SIGKILL)
        release.touch()
        wait_until(lambda: worker.done()["b"], "it is done in the end")
        wait_until(stage.empty, "nothing is left behind")
    assert (worker.done()["a"], worker.started()["b"]) == (1, 2)
    assert stage.dead() == []


@pytest.mark.parametrize("how", ["killed", "terminated"])
def test_a_worker_that_ends_between_two_tasks_loses_none(stage: Stage, how: str) -> None:
    release = stage.folder / "release"
    stage.send_chain(
        chain(
            stage.app.signature("tiny.note", ("a",)),
            stage.app.signature("tiny.hold", ("b", str(release)), immutable=True),
            stage.app.signature("tiny.note", ("c",), immutable=True),
        )
    )
    with stage.worker("-c", "1", MESSAGE_VISIBILITY_TIMEOUT_S="2") as worker:
        worker.wait_ready()
        wait_until(lambda: worker.started()["b"], "the second runs")
        if how == "killed":
            worker.kill()
        else:
            worker.send_signal()
            wait_until(lambda: "Shutting down" in worker.log(), "it drains")
        release.touch()
        if how == "terminated":
            assert worker.wait_exit() == 0
            assert worker.done()["b"] == 1
            assert stage.count("SendMessage") == 1, "the third is published"
    with stage.worker("-c", "1", name="other") as other:
        other.wait_ready()
        wait_until(lambda: other.done()["c"], "another worker goes on")
        wait_until(stage.empty, "nothing is left behind")
    assert stage.dead() == []

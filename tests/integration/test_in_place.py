"""A real worker goes on with a chain in place: one message for all of it, and nothing lost when it is interrupted."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import chain, signals
from celery.app.trace import trace_task_ret

from pipeline.aws import clients
from pipeline.celery import app
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.local.stack import INPUT_BUCKET, OUTPUT_BUCKET
from pipeline.s3.storage import Found, Stored
from pipeline.sqs import carried
from pipeline.sqs.worker import in_place
from tasks import handover, renditions
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


# --- what a task leaves for the next one in its process ---


def in_one_process(key: str, *, keeps: bool) -> tuple[Any, list[str]]:
    """``resize`` and then ``thumbnail`` of an object, as a pool's process runs them; and the keys that were read."""
    assert renditions.resize.name in app.tasks
    client, read = clients.s3(), []
    event = "before-parameter-build.s3.GetObject"

    def note(params: Any, **_: Any) -> None:
        read.append(params["Key"])

    client.meta.events.register(event, note)
    in_place.connect()
    try:
        etag = client.head_object(Bucket=INPUT_BUCKET, Key=key)["ETag"].strip('"')
        argument: Any = {"bucket": INPUT_BUCKET, "key": key, "etag": etag, "sequencer": "01"}
        steps: list[Any] = [{"task": "tasks.thumbnail", "args": [], "kwargs": {}, "options": {}, "subtask_type": None}]
        parent = "r"
        for name, task_id, chain_ in (("tasks.resize", "r", steps), ("tasks.thumbnail", "t", [])):
            request = {"id": task_id, "parent_id": parent, "root_id": "r", "delivery_info": {"routing_key": "tasks"}}
            body = json.dumps([[argument], {}, {"chain": chain_}])
            _, told, _ = in_place.trace(
                trace_task_ret, name, task_id, request, body, "application/json", "utf-8", app=app
            )
            if chain_:
                assert isinstance(told, in_place.Successor)
                ((argument,), _, _) = json.loads(json.loads(told.body)["body"])
                if not keeps:
                    carried._kept.task_id = None
    finally:
        client.meta.events.unregister(event, note)
        signals.task_prerun.disconnect(in_place.prepare)
    return argument, read


def stored_of(key: str) -> tuple[bytes, dict[str, str], str]:
    found = clients.s3().get_object(Bucket=OUTPUT_BUCKET, Key=key)
    return found["Body"].read(), found["Metadata"], found["ContentType"]


def test_the_thumbnail_reads_nothing_back_and_is_the_same_to_the_byte(
    stack: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "settings", stack)
    photo = (Path(__file__).parents[2] / "samples" / "rocket.jpg").read_bytes()
    for key in ("kept.jpg", "read.jpg"):
        clients.s3().put_object(Bucket=INPUT_BUCKET, Key=key, Body=photo)
    _, read = in_one_process("kept.jpg", keeps=True)
    assert read == ["kept.jpg"]
    _, read = in_one_process("read.jpg", keeps=False)
    assert read == ["read.jpg", "resized/read.jpg"]
    kept, back = stored_of("thumbs/kept.jpg"), stored_of("thumbs/read.jpg")
    when = ("source-modified",)
    assert (kept[0], kept[2]) == (back[0], back[2])
    assert {name: value for name, value in kept[1].items() if name not in when} == {
        name: value for name, value in back[1].items() if name not in when
    }


def test_only_the_next_task_finds_it_and_only_once_and_nothing_large_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def task(task_id: str, parent_id: str = "") -> Any:
        return SimpleNamespace(request=SimpleNamespace(id=task_id, parent_id=parent_id))

    monkeypatch.setattr(in_place, "may_go_on", lambda task_id: task_id != "alone")
    carried.carry(task("a"), "value", 10)
    assert carried.carried(task("x", "other")) is None
    assert [carried.carried(task("b", "a")), carried.carried(task("b", "a"))] == ["value", None]
    carried.carry(task("a"), "large", carried.MAX_BYTES + 1)
    assert carried.carried(task("b", "a")) is None
    carried.carry(task("alone"), "value", 10)
    assert carried.carried(task("b", "alone")) is None


def test_what_is_left_is_of_one_version_of_one_object() -> None:
    """What was left is of another ETag than the one that the next task is to read: it reads."""
    left = handover.Handover("out", Stored(b"x", Found("resized/a", "old", 1, datetime.now(UTC)), {}), seen_at=0.0)
    assert left.is_of(Source(bucket="out", key="resized/a", etag="old"))
    assert not left.is_of(Source(bucket="out", key="resized/a", etag="new"))
    assert not left.is_of(Source(bucket="in", key="resized/a", etag="old"))

"""The transport, and the whole pipeline, on AWS servers that nobody here wrote.

Where they differ from what AWS documents, and so show nothing of it: moto 5.2 takes characters that are not allowed
in a message; ministack 1.5 takes a delay above 900 s, a visibility time-out above 12 hours and a second purge within a
minute; both take 11 attributes, and at once the name of a queue that was just deleted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import pytest
from celery import chain
from click.testing import CliRunner

from pipeline.__main__ import cli
from pipeline.aws import clients
from pipeline.celery import make_app
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.local.stack import INPUT_BUCKET, OUTPUT_BUCKET, PREFIX, TOPIC_ARN_PREFIX, Emulator, make_resources
from pipeline.s3 import storage
from pipeline.s3.shortcut import Shortcut
from pipeline.sqs.monitoring.process_queues import owned
from tests.support.aws_process import ROOT
from tests.support.flower import PASSWORD, Flower
from tests.support.other_servers import OtherServer, ministack
from tests.support.processes import owned_processes
from tests.support.queues import take_all
from tests.support.stage import Stage, made_stage
from tests.support.waiting import DEADLINE_S, wait_until
from tests.support.worker import Worker


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtherServer]:
    with owned_processes(), ministack(tmp_path_factory.mktemp("ministack")) as server:
        yield server


@pytest.fixture(autouse=True)
def own_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3's keeps the credentials of an earlier test, which ministack takes for another account."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)


@pytest.fixture(params=["moto", "ministack"])
def server(request: pytest.FixtureRequest, emulator: Emulator, second: OtherServer) -> OtherServer:
    return second if request.param == "ministack" else OtherServer(emulator.endpoint)


@pytest.fixture
def stage(server: OtherServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with made_stage(server, tmp_path, monkeypatch, max_receives=2) as made:  # type: ignore[arg-type]
        yield made


def test_the_transport(stage: Stage) -> None:
    """One worker for all of it, because starting one takes longer than the rest."""
    options = ("-c", "2", "--prefetch-multiplier", "1")
    with stage.worker(*options, POLL_WAIT_S="1", MESSAGE_VISIBILITY_TIMEOUT_S="2") as worker:
        worker.wait_ready()
        long_work_stays_hidden_and_is_done_once(stage, worker)
        batches_and_chains_are_done(stage, worker)
        delays_wait_in_sqs(stage, worker)
        dead_letters_have_their_reasons(stage, worker)
        done_before = worker.done().total()
        stage.send("hold", "last", str(stage.folder / "end"))
        stage.send_many("hold", *((f"waits{number}", str(stage.folder / "end")) for number in range(8)))
        wait_until(lambda: worker.started()["last"], "a task runs")
        worker.send_signal()
        wait_until(lambda: stage.depth()[0] >= 7, "what was prefetched is visible at once")
        (stage.folder / "end").touch()
        assert worker.wait_exit() == 0
    wait_until(lambda: not stage.depth()[1], "nothing is hidden from other workers")
    assert stage.depth()[0] + worker.done().total() == done_before + 9


def long_work_stays_hidden_and_is_done_once(stage: Stage, worker: Worker) -> None:
    """For the rest of the test: several times the visibility time-out, and ``max_receives`` of it."""
    stage.send("hold", "long", str(stage.folder / "release"))
    wait_until(lambda: worker.started()["long"], "it runs")


def batches_and_chains_are_done(stage: Stage, worker: Worker) -> None:
    names = [f"n{number}" for number in range(23)]
    stage.send_many("note", *((name,) for name in names))
    signature = stage.app.signature
    stage.send_chain(chain(signature("tiny.note", ["first"]), signature("tiny.follow", ["second"])))
    wait_until(lambda: {*names, "first", "second"} <= set(worker.done()), "all are done")
    assert {worker.done()[name] for name in (*names, "first", "second")} == {1}


def delays_wait_in_sqs(stage: Stage, worker: Worker) -> None:
    stage.send("note", "counted", countdown=3)
    stage.send("retry_once", "retried", 2)
    wait_until(lambda: stage.depth()[2] == 2, "both wait in SQS, none in the worker")
    assert not worker.done()["counted"] + worker.done()["retried"]
    wait_until(lambda: worker.done()["counted"] and worker.done()["retried"], "both are done in the end")


def dead_letters_have_their_reasons(stage: Stage, worker: Worker) -> None:
    stage.send_raw("not even JSON")
    stage.send("refuse", "no object")
    stage.send("die", "deadly")
    wait_until(lambda: stage.server.depth(stage.dead_letters)[0] == 3, "three dead letters")
    reasons = sorted(letter["MessageAttributes"]["reason"]["StringValue"] for letter in stage.dead())
    assert reasons[0].startswith("delivered 2 times, at last: tiny.die: WorkerLostError")
    assert reasons[1].startswith("not a Celery message: ")
    assert reasons[2] == "rejected by tiny.refuse: no object"
    assert worker.started()["deadly"] == 2
    (stage.folder / "release").touch()
    wait_until(lambda: worker.done()["long"], "the long task is done")
    wait_until(stage.empty, "all is deleted")
    assert worker.started()["long"] == 1


def test_purge_counts_what_is_visible_and_delayed(stage: Stage) -> None:
    stage.send("note", "now")
    stage.send("note", "later", countdown=600)
    wait_until(lambda: stage.depth() == (1, 0, 1), "both are there")
    with stage.app.connection_for_write() as connection:
        assert connection.default_channel.queue_purge("tasks") == 2
    wait_until(stage.empty, "nothing is left")


def test_the_limits_of_sqs_are_kept_to(stage: Stage) -> None:
    """ministack refuses the characters, both refuse what is too large, moto refuses the delay."""
    text = "a\x00\x0b\x1f\ufffe\uffff\ud800é\U0001f600"
    stage.send("note", text)
    (message,) = take_all(stage.queue)
    assert json.loads(json.loads(message["Body"])["body"])[0] == [text]
    stage.send_many("note", *(("é" * 180_000,) for _ in range(4)))  # each has 360 KB
    stage.send("note", "in an hour", countdown=3600)
    wait_until(lambda: stage.depth() == (4, 0, 1), "all of it is sent")


@pytest.fixture
def deployed(second: OtherServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[OtherServer]:
    """ministack with the pipeline's buckets, queues and topics, and this process pointed at it."""
    make_resources(second)  # type: ignore[arg-type]
    for name, value in (second.env | SETTINGS).items():
        monkeypatch.setenv(name, value)
    clients.forget_clients()
    yield second
    clients.forget_clients()


def test_obstore_reads_and_writes_as_boto3_does(deployed: OtherServer) -> None:
    shortcut, data = Shortcut(), b"\x89PNG" * 1000
    metadata = {"source-etag": "e", "recipe": "r.1"}

    def written(key: str, shortcut: Shortcut | None) -> str:
        headers: dict[str, Any] = {"content_type": "image/png", "metadata": metadata, "cache_control": "max-age=9"}
        return storage.write(OUTPUT_BUCKET, key, data, new=True, **headers, shortcut=shortcut)

    by_boto3, first = written("boto3.png", None), written("first.png", shortcut)
    assert shortcut.get(OUTPUT_BUCKET, "first.png", etag=first, size=len(data)) is not None
    assert written("obstore.png", shortcut) == by_boto3
    with pytest.raises(storage.Conflict):
        written("obstore.png", shortcut)
    source = Source(OUTPUT_BUCKET, "obstore.png", etag=by_boto3, size=len(data))
    read = storage.read(source, check_bytes=lambda _: None, shortcut=shortcut)
    assert read == storage.read(source, check_bytes=lambda _: None)
    assert shortcut.get(OUTPUT_BUCKET, "first.png", etag=first, size=len(data)) is not None  # it was used, to the end
    for key in ("boto3.png", "first.png", "obstore.png"):
        deployed.client("s3").delete_object(Bucket=OUTPUT_BUCKET, Key=key)


SETTINGS = {
    "INPUT_BUCKET": INPUT_BUCKET,
    "OUTPUT_BUCKET": OUTPUT_BUCKET,
    "QUEUE_PREFIX": PREFIX,
    "TOPIC_ARN_PREFIX": TOPIC_ARN_PREFIX,
    "POLL_WAIT_S": "1",
    "EVENTS_INTERVAL_S": "0.1",
    "S3_CLIENT": "auto",
}


def test_the_pipeline_and_flower(deployed: OtherServer, tmp_path: Path) -> None:
    env = {**SETTINGS, "HEALTH_FOLDER": str(tmp_path)}
    result = CliRunner().invoke(cli, ["check"])
    assert result.exit_code == 0, result.output
    with ExitStack() as exits:
        log = exits.enter_context((tmp_path / "bridge.log").open("w"))
        bridge = subprocess.Popen(
            [sys.executable, "-m", "bridge"], cwd=ROOT, env={**os.environ, **env}, stdout=log, stderr=subprocess.STDOUT
        )
        exits.callback(bridge.wait)
        exits.callback(bridge.terminate)
        options = ("-c", "1", "--hostname", "w@test")
        worker = exits.enter_context(Worker(deployed, tmp_path, *options, app="pipeline", env=env))  # type: ignore[arg-type]
        flower_env = {**os.environ, **env, "FLOWER_BASIC_AUTH": PASSWORD}
        flower = exits.enter_context(Flower(tmp_path / "flower.log", flower_env, app="pipeline"))
        worker.wait_ready()
        wait_until(lambda: flower.online() == {"w@test"}, "Flower sees the worker's events")
        an_upload_becomes_renditions(deployed)
        wait_until(lambda: "tasks.resize" in flower.get("/api/tasks").text, "Flower knows the tasks")
        remote_control_is_answered()
        wait_until(
            lambda: flower.get("/api/workers?refresh=1&workername=w@test").status == 200, "Flower knows its pool"
        )
        answer = flower.post("/api/worker/pool/grow/w@test?n=1")
        assert answer.status == 200, answer.text
        worker.send_signal()
        assert worker.wait_exit() == 0


def an_upload_becomes_renditions(server: OtherServer) -> None:
    s3 = server.client("s3")
    s3.upload_file(str(ROOT / "samples" / "rocket.jpg"), INPUT_BUCKET, "a b/rocket+ü.jpg")

    def keys() -> set[str]:
        found = s3.list_objects_v2(Bucket=OUTPUT_BUCKET).get("Contents", [])
        return {entry["Key"] for entry in found}

    wanted = {"resized/a b/rocket+ü.jpg", "thumbs/a b/rocket+ü.jpg"}
    wait_until(lambda: wanted <= keys(), "both renditions are there")
    assert keys() == wanted
    head = s3.head_object(Bucket=OUTPUT_BUCKET, Key="thumbs/a b/rocket+ü.jpg")
    assert head["ContentType"] == "image/jpeg"
    wait_until(lambda: server.depth(f"{PREFIX}tasks") == server.depth(f"{PREFIX}events") == (0, 0, 0), "all is deleted")
    assert server.depth(f"{PREFIX}tasks-dlq")[0] == server.depth(f"{PREFIX}events-dlq")[0] == 0


def remote_control_is_answered() -> None:
    app = make_app(Settings.from_env())
    try:
        inspect = app.control.inspect(["w@test"], timeout=DEADLINE_S)
        assert inspect.ping() == {"w@test": {"ok": "pong"}}
        (queues,) = inspect.active_queues().values()
        assert [queue["name"] for queue in queues] == ["tasks"]
    finally:
        owned().close()
        owned.cache_clear()
        app.close()

"""Backfill: what is in a bucket already goes the way of an upload."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pipeline.__main__ import cli
from pipeline.aws import clients
from pipeline.aws.backoff import Backoff
from pipeline.celery import PipelineApp
from pipeline.core.errors import NotReadable, ServiceUnavailable, TransientError
from pipeline.core.routes import Routes
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.enqueue import NotEnqueued
from pipeline.images import images as images_route
from pipeline.local.stack import INPUT_BUCKET
from pipeline.operations import backfill
from pipeline.operations.backfill import BATCH, Backfill, wait_for_room
from pipeline.operations.unreadable import Unreadable
from pipeline.s3.storage import Found
from pipeline.testing.s3 import EPOCH
from tests.support.queues import depth, headers, take_all, url
from tests.support.waiting import DEADLINE_S

ROOT = Path(__file__).parents[2]
SETTINGS = Settings.from_env({})


def listing(count: int, start: int = 0) -> list[Found]:
    return [Found(f"{n:05}.jpg", f"e{n}", n, EPOCH + timedelta(hours=n)) for n in range(start, count)]


def made(enqueue: Any, newer_than: datetime | None = None, **more: Any) -> Backfill:
    named = more.pop("named", [])
    return Backfill(
        more.pop("routes", Routes.load(SETTINGS)), "b", enqueue, lambda: None, named.append, newer_than, **more
    )


def by_content(rule: Callable[[Source], bool]) -> Routes:
    images = images_route(SETTINGS)
    return Routes(SETTINGS, [replace(images, content=rule)])


def test_it_enqueues_in_batches_exactly_what_was_listed() -> None:
    batches: list[list[Source]] = []
    run = made(batches.append)
    run.run(iter(listing(2 * BATCH + 7)))
    assert [len(batch) for batch in batches] == [BATCH, BATCH, 7]
    assert batches[0][3] == Source("b", "00003.jpg", etag="e3", size=3)
    assert (run.enqueued, run.last_key) == (2 * BATCH + 7, f"{2 * BATCH + 6:05}.jpg")


def test_what_is_not_selected_or_too_old_is_skipped() -> None:
    batches: list[list[Source]] = []
    run = made(batches.append, newer_than=EPOCH + timedelta(hours=5))
    run.run(iter([*listing(10), Found("notes.txt", "e", 1, EPOCH + timedelta(days=9))]))
    assert [source.key for source in batches[0]] == [f"{n:05}.jpg" for n in range(6, 10)]
    assert (run.enqueued, run.skipped, run.last_key) == (4, 7, "notes.txt")


def test_what_sqs_did_not_take_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "BACKOFF", Backoff(0, 0))
    sent: list[str] = []

    def enqueue(batch: list[Source]) -> None:
        kept = batch[::4] if len(batch) > 1 else []
        sent.extend(source.key for source in batch if source not in kept)
        if kept:
            raise NotEnqueued(kept, "throttled")

    made(enqueue).run(iter(listing(50)))
    assert sorted(sent) == [f"{n:05}.jpg" for n in range(50)]


def test_where_it_stopped_is_where_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left out between the two runs; at most one batch is enqueued twice."""
    monkeypatch.setattr(backfill, "BACKOFF", Backoff(0, 0))
    sent: list[str] = []

    def enqueue(batch: list[Source]) -> None:
        if len(sent) >= 2 * BATCH:
            raise NotEnqueued(batch, "SQS is away")
        sent.extend(source.key for source in batch)

    run = made(enqueue)
    with pytest.raises(TransientError):
        run.run(iter(listing(5 * BATCH)))
    assert run.last_key == f"{2 * BATCH - 1:05}.jpg"
    rest: list[Source] = []
    made(rest.extend, last_key=run.last_key).run(found for found in listing(5 * BATCH) if found.key > run.last_key)
    assert sent + [source.key for source in rest] == [found.key for found in listing(5 * BATCH)]


def test_what_can_t_be_looked_at_is_named_and_passed_over() -> None:
    def rule(source: Source) -> bool:
        if source.size % 10 == 3:
            raise NotReadable(f"{source.uri} is archived, so it can't be read.")
        return source.size % 10 != 4

    batches: list[list[Source]] = []
    named: list[Unreadable] = []
    run = made(batches.append, routes=by_content(rule), named=named)
    run.run(iter(listing(64)))
    assert [len(batch) for batch in batches] == [51]
    assert (run.enqueued, run.skipped, run.unreadable, run.last_key) == (51, 6, 7, "00063.jpg")
    assert [each.source.key for each in named] == [f"000{n}3.jpg" for n in range(7)]
    assert named[0].message == f"s3://b/00003.jpg is archived, so it can't be read. {NotReadable.advice}"


def test_what_came_before_a_failure_of_the_service_is_enqueued_all_the_same() -> None:
    def rule(source: Source) -> bool:
        if source.size == 7:
            raise ServiceUnavailable("S3 is away")
        return True

    batches: list[list[Source]] = []
    run = made(batches.append, routes=by_content(rule))
    with pytest.raises(ServiceUnavailable):
        run.run(iter(listing(20)))
    assert [source.size for source in batches[0]] == list(range(7))
    assert (run.enqueued, run.last_key) == (7, "00006.jpg")


def test_it_waits_while_the_queue_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    depths = iter([12, 10, 9])
    monkeypatch.setattr("pipeline.aws.queues.depth", lambda _: next(depths))
    monkeypatch.setattr(backfill, "PAUSE_S", 0)
    said: list[str] = []
    wait_for_room("url", 10, said.append)
    assert said == ["waiting: 12 messages in the queue", "waiting: 10 messages in the queue"]


# The command, against a server.


@pytest.fixture
def uploads(stack: Settings) -> Settings:
    for n in range(23):
        clients.s3().put_object(Bucket=INPUT_BUCKET, Key=f"a/ü b+c 100% {n:02}.jpg", Body=b"x")
    clients.s3().put_object(Bucket=INPUT_BUCKET, Key="a/notes.txt", Body=b"x")
    clients.s3().put_object(Bucket=INPUT_BUCKET, Key="b/other.jpg", Body=b"x")
    take_all("local-events")
    return stack


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["backfill", *arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.usefixtures("uploads")
def test_a_prefix_is_enqueued() -> None:
    status, out, err = invoke(f"s3://{INPUT_BUCKET}/a/")
    assert (status, out, err) == (0, "", "23 objects enqueued, 1 skipped.\n")
    found = [headers(message)["argsrepr"] for message in take_all("local-tasks")]
    assert sorted(found) == [f"{INPUT_BUCKET}/a/ü b+c 100% {n:02}.jpg" for n in range(23)]


@pytest.mark.usefixtures("uploads")
def test_a_dry_run_prints_uris_for_a_pipe_and_enqueues_nothing() -> None:
    status, out, err = invoke(f"s3://{INPUT_BUCKET}", "--dry-run", "--start-after", "a/ü b+c 100% 20.jpg")
    assert status == 0
    assert out.splitlines() == [
        f"s3://{INPUT_BUCKET}/{key}" for key in ("a/ü b+c 100% 21.jpg", "a/ü b+c 100% 22.jpg", "b/other.jpg")
    ]
    assert err == "3 objects would be enqueued, 0 skipped.\n"
    assert depth("local-tasks") == (0, 0)


@pytest.mark.usefixtures("uploads")
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_an_unreadable_object_is_named_and_the_status_is_1(more: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def rule(source: Source) -> bool:
        if source.key.endswith("other.jpg"):
            raise NotReadable(f"{source.uri} is archived, so it can't be read.")
        return True

    monkeypatch.setattr(PipelineApp, "routes", property(lambda app: by_content(rule)))
    status, _, err = invoke(f"s3://{INPUT_BUCKET}", *more)
    assert status == 1
    assert err.splitlines() == [
        f"not enqueued: s3://{INPUT_BUCKET}/b/other.jpg is archived, so it can't be read. {NotReadable.advice}",
        f"23 objects {'would be ' if more else ''}enqueued, 1 skipped, 1 unreadable.",
    ]


@pytest.mark.usefixtures("uploads")
def test_only_what_is_newer() -> None:
    assert invoke(f"s3://{INPUT_BUCKET}/b", "--newer-than", "1h", "--dry-run")[1] != ""
    status, out, _ = invoke(f"s3://{INPUT_BUCKET}/b", "--newer-than", "2999-01-01", "--dry-run")
    assert (status, out) == (0, "")


@pytest.mark.usefixtures("uploads")
def test_a_stop_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "BATCH", 10)
    monkeypatch.setattr(backfill, "MAX_TRIES", 1)
    calls: list[int] = []

    def process_many(batch: list[Source], **_: Any) -> None:
        calls.append(len(batch))
        if len(calls) == 2:
            raise NotEnqueued(batch, "throttled")

    monkeypatch.setattr(backfill, "process_many", process_many)
    status, _, err = invoke(f"s3://{INPUT_BUCKET}/a/")
    assert status == 1
    assert err.splitlines() == [
        "10 objects enqueued, 1 skipped, then it stopped. To go on:",
        "  python -m pipeline backfill s3://local-input/a/ --start-after 'a/ü b+c 100% 09.jpg'",
        "Error: 10 objects were not enqueued, enqueue them again: throttled",
    ]


def test_going_on_means_the_same_objects_whenever_that_is() -> None:
    """An age would be another moment by then; and the stack whose settings it works with is named."""
    since = datetime(2026, 1, 31, 12, tzinfo=UTC)
    with click.Context(click.Command("backfill")) as context:
        context.meta[backfill.STACK] = "photos"
        assert backfill._command("s3://in", since, 7, "a b").split("backfill ")[1] == (
            "s3://in --stack photos --newer-than 2026-01-31T12:00:00+00:00 --max-queued 7 --start-after 'a b'"
        )


@pytest.mark.usefixtures("uploads")
def test_an_interrupt_says_how_to_go_on() -> None:
    """It waits for room in a full queue, and is told to stop."""
    clients.sqs().send_message(QueueUrl=url("local-tasks"), MessageBody="x")
    command = [sys.executable, "-m", "pipeline", "backfill", f"s3://{INPUT_BUCKET}/b", "--max-queued", "1"]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "waiting: 1 message in the queue\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert err.splitlines() == [
        "0 objects enqueued, 0 skipped, then it stopped. To go on:",
        "  python -m pipeline backfill s3://local-input/b --max-queued 1",
        "Stopped.",
    ]


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize(
    ("arguments", "exits", "says"),
    [
        (["uploads/2026"], 2, "write s3://bucket or s3://bucket/prefix"),
        (["s3://nowhere"], 1, "bucket nowhere does not exist"),
        (["s3://local-input", "--newer-than", "x"], 1, "'x' is not a time"),
    ],
)
def test_what_is_wrong_is_one_plain_line(arguments: list[str], exits: int, says: str) -> None:
    status, out, err = invoke(*arguments)
    assert (status, out) == (exits, "")
    assert says in err


def test_a_missing_queue_is_said_at_once(stack: Settings) -> None:
    clients.sqs().delete_queue(QueueUrl=url("local-tasks"))
    status, _, err = invoke(f"s3://{INPUT_BUCKET}")
    assert status == 1
    assert "queue local-tasks does not exist" in err

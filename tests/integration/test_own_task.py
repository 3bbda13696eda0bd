"""A task and a route of a user's own: what holds for images holds for them, without a line of theirs."""

from __future__ import annotations

import io
import json
from functools import partial
from typing import Any

import pytest
from celery.exceptions import Retry
from click.testing import CliRunner
from PIL import Image

from bridge.consumer import Bridge
from bridge.disposition import EventOutcome
from pipeline.__main__ import cli
from pipeline.aws import clients
from pipeline.celery import app, make_app
from pipeline.core.errors import NotReadable, ObjectChanged, ObjectGone, PipelineError, TransientError
from pipeline.core.routes import Routes
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.enqueue import assign
from pipeline.local.stack import INPUT_BUCKET, OUTPUT_BUCKET
from pipeline.operations.audit.audit import Audit, Repair
from pipeline.s3 import storage
from tasks import resize, thumbnail
from tasks.renditions import reconcile
from tasks.routing import find_route
from tests.support import own_route
from tests.support.own_route import NoText, make_length, make_magic, make_upper
from tests.support.queues import depth, headers, take_all

KEY = "a/ü b+c 100%.own"


@pytest.fixture(autouse=True)
def settings(stack: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("ROUTES", own_route.NAMES)
    found = Settings.from_env()
    monkeypatch.setattr(app, "settings", found)
    monkeypatch.setattr("pipeline.operations.deadletters.queue.POLL_S", 0)
    return found


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The names of the tasks that tasks enqueue, with their delay in seconds."""
    found: list[tuple[str, int]] = []
    monkeypatch.setattr("pipeline.enqueue.send", lambda work, countdown_s=0: found.append((work.task, countdown_s)))
    return found


def put(data: bytes, key: str = KEY) -> dict[str, Any]:
    etag = clients.s3().put_object(Bucket=INPUT_BUCKET, Key=key, Body=data)["ETag"].strip('"')
    return {"bucket": INPUT_BUCKET, "key": key, "etag": etag, "event_time": "2026-01-01T00:00:00Z"}


def run(task: Any, source: Any, retries: int = 0) -> Any:
    """Calls the task as a worker would, on its given try; returns or raises what it does."""
    task.push_request(args=(source,), retries=retries, id="task-1", called_directly=False, is_eager=False)
    try:
        return task.run(source)
    finally:
        task.pop_request()


def outputs() -> dict[str, bytes]:
    s3 = clients.s3()
    names = [found["Key"] for found in s3.list_objects_v2(Bucket=OUTPUT_BUCKET).get("Contents", [])]
    return {name: s3.get_object(Bucket=OUTPUT_BUCKET, Key=name)["Body"].read() for name in names}


def record(key: str = KEY) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(outputs()[f"failed/{key}.json"])
    return found


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (5, 4), "red").save(out, "PNG")
    return out.getvalue()


def test_a_chain_of_two_leaves_both_outputs_with_their_provenance() -> None:
    source = put("straße".encode())
    first = run(make_upper, source)
    assert first["outcome"] == "done"
    assert first["read"] == {"bytes": 7}
    assert first["rendition"] | {"etag": ""} == {
        "bucket": OUTPUT_BUCKET,
        "key": f"upper/{KEY}.txt",
        "etag": "",
        "bytes": 7,
        "content_type": "text/plain",
    }
    assert run(make_length, first)["rendition"]["key"] == f"length/{KEY}"
    assert outputs() == {f"upper/{KEY}.txt": "straße".encode().upper(), f"length/{KEY}": b"7"}
    stored = clients.s3().head_object(Bucket=OUTPUT_BUCKET, Key=f"upper/{KEY}.txt")
    assert stored["ContentType"] == "text/plain"
    known = stored["Metadata"]
    assert (known["source-etag"], known["recipe"], known["key-suffix"]) == (source["etag"], "u1", ".txt")


def test_a_second_delivery_is_a_duplicate_and_an_old_version_is_superseded(sent: list[tuple[str, int]]) -> None:
    old = put(b"old")
    run(make_upper, old)
    assert run(make_upper, old)["outcome"] == "duplicate"
    new = put(b"new")
    assert run(make_upper, old)["outcome"] == "superseded"
    assert run(make_upper, new)["outcome"] == "done"
    assert outputs() == {f"upper/{KEY}.txt": b"NEW"}
    assert sent == [("tasks.reconcile", 90)]


def test_a_bad_file_ends_as_a_record_with_the_task_s_own_reason_and_the_next_good_one_removes_it() -> None:
    with pytest.raises(NoText):
        run(make_upper, put(b"\0"))
    found = record()
    assert (found["reason"], found["message"], found["advice"]) == ("no-text", "It has a NUL.", "Upload text.")
    assert (found["task"], found["retryable"]) == ("own.upper", False)
    good = put(b"good") | {"event_time": None}  # enqueued by hand, so it looks at what is there
    run(make_length, run(make_upper, good))
    assert set(outputs()) == {f"upper/{KEY}.txt", f"length/{KEY}"}


def test_a_defect_of_the_task_is_told_as_one() -> None:
    with pytest.raises(ValueError, match="a defect"):
        run(make_upper, put(b"defect"))
    assert record()["reason"] == "internal-error"
    assert "defect of the task own.upper" in record()["advice"]


def unreadable(monkeypatch: pytest.MonkeyPatch, exc: Exception) -> dict[str, Any]:
    def beginning(*_: Any) -> bytes:
        raise exc

    source = put(str(exc).encode(), "any/a")
    monkeypatch.setattr("pipeline.s3.storage.read_beginning", beginning)
    return source


@pytest.mark.parametrize(
    ("exc", "reason", "says"),
    [
        (NotReadable("It is archived."), "archived", "Restore the object, then enqueue it again."),
        (TransientError("It is denied."), "unavailable", "enqueue the object again"),
        (ValueError("a defect of the rule"), "refused", "Correct what the message names"),
    ],
)
def test_an_object_whose_route_can_t_be_found_ends_as_its_own_record(
    monkeypatch: pytest.MonkeyPatch, exc: Exception, reason: str, says: str
) -> None:
    with pytest.raises(PipelineError):
        run(find_route, unreadable(monkeypatch, exc), retries=app.settings.max_retries)
    found = record("any/a")
    assert found["reason"] == reason
    assert says in found["advice"]
    assert str(exc) in found["message"]


def test_a_worker_that_finds_the_route_enqueues_the_object_there(sent: list[tuple[str, int]]) -> None:
    assert run(find_route, put(b"MAGIC!", "any/a"))["outcome"] == "done"
    assert sent == [("celery.chain", 0)]
    assert run(find_route, put(b"else", "any/b"))["outcome"] == "skipped"
    assert len(sent) == 1
    assert outputs() == {}


def test_a_service_that_fails_is_tried_again_and_then_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*_: Any, **__: Any) -> None:
        raise TransientError("the store is away")

    source = put(b"text")
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.s3.storage.read", unavailable)
        patch.setattr("celery.canvas.Signature.apply_async", lambda *_, **__: None)
        with pytest.raises(Retry):
            run(make_upper, source)
        with pytest.raises(TransientError):
            run(make_upper, source, retries=app.settings.max_retries)
    assert record()["retryable"] is True


def test_what_is_too_large_is_not_read(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "settings", settings.model_copy(update={"max_bytes": 3}))
    with pytest.raises(Exception, match="4 bytes; the limit MAX_BYTES is 3"):
        run(make_upper, put(b"text"))
    assert record()["reason"] == "too-large"


def test_the_outputs_go_with_the_object(sent: list[tuple[str, int]]) -> None:
    source = put(b"text")
    run(make_length, run(make_upper, source))
    clients.s3().delete_object(Bucket=INPUT_BUCKET, Key=KEY)
    done = run(reconcile, source)
    assert set(done["removed"]) == {f"upper/{KEY}.txt", f"length/{KEY}"}
    assert outputs() == {}


def test_an_object_whose_content_changes_its_route_leaves_nothing_of_the_old_one() -> None:
    key = "any/a.png"
    run(make_magic, put(b"MAGIC", key))
    assert set(outputs()) == {f"magic/{key}.txt"}
    run(thumbnail, run(resize, put(png(), key)))
    assert set(outputs()) == {f"resized/{key}", f"thumbs/{key}"}
    run(make_magic, put(b"magic", key))
    assert set(outputs()) == {f"magic/{key}.txt"}


def bridge(settings: Settings) -> Bridge:
    own = make_app(settings)
    return Bridge(settings, clients.sqs(), partial(assign, app=own), routes=own.routes)


def test_the_bridge_sends_each_object_to_its_tasks(settings: Settings) -> None:
    for key, data in ((KEY, b"text"), ("any/a", b"MAGIC!"), ("any/b", b"else"), ("c.png", png())):
        put(data, key)
    wanted = [EventOutcome.DISPATCHED, EventOutcome.DISPATCHED, EventOutcome.SKIPPED, EventOutcome.DISPATCHED]
    outcomes: list[EventOutcome] = []
    while len(outcomes) < len(wanted):
        outcomes += bridge(settings).step()
    assert sorted(outcomes, key=str) == sorted(wanted, key=str)
    assert sorted(found["task"] for found in map(headers, take_all("local-tasks"))) == [
        "own.magic",
        "own.upper",
        "tasks.resize",
    ]


def test_an_event_stays_when_the_content_can_t_be_asked_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: Any) -> bytes:
        raise TransientError("the store is away")

    put(b"MAGIC that can't be read", "any/unread")
    monkeypatch.setattr("pipeline.s3.storage.read_beginning", unavailable)
    assert bridge(settings).step() == [EventOutcome.RETRY]
    assert depth("local-events") == (0, 1)


def test_the_content_is_asked_for_once_between_the_choice_and_the_publishing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Source] = []

    def beginning(source: Source, length: int) -> bytes:
        asked.append(source)
        return b"MAGIC"

    publish = partial(assign, app=make_app(settings))
    apart = Bridge(
        settings, clients.sqs(), publish, routes=Routes.load(settings)
    )  # not the app's, as when it is started
    put(b"MAGIC, asked for once", "any/once")
    monkeypatch.setattr("pipeline.s3.storage.read_beginning", beginning)
    assert apart.step() == [EventOutcome.DISPATCHED]
    assert [source.key for source in asked] == ["any/once"]


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, [*arguments])
    return result.exit_code, result.stdout


def counts() -> dict[str, int]:
    status, out = invoke("audit", "--json")
    found = {name: count for name, count in json.loads(out)["counts"].items() if count}
    assert status == (1 if found.keys() & {"missing", "stale"} else 0)
    return found


def test_what_an_earlier_recipe_made_is_made_anew() -> None:
    source = put(b"MAGIC", "any/a") | {"event_time": None}
    run(make_magic, source)
    metadata = clients.s3().head_object(Bucket=OUTPUT_BUCKET, Key="magic/any/a.txt")["Metadata"] | {"recipe": "older"}
    clients.s3().put_object(Bucket=OUTPUT_BUCKET, Key="magic/any/a.txt", Body=b"older", Metadata=metadata)
    assert counts() == {"stale": 1}
    assert run(make_magic, source)["outcome"] == "done"
    assert outputs() == {"magic/any/a.txt": b"MAGIC"}
    assert counts() == {"done": 1}


def test_audit_and_explain_know_what_is_stored_of_every_route() -> None:
    put(b"something else", "any/b")
    source = put(b"text")
    assert counts() == {"missing": 1, "skipped": 1}
    first = run(make_upper, source)
    status, out = invoke("explain", f"s3://{INPUT_BUCKET}/{KEY}")
    assert status == 1
    assert "route:      own" in out
    assert "verdict:    Missing (only a part of it: no length/)" in out
    run(make_length, first)
    assert counts() == {"done": 1, "skipped": 1}
    status, out = invoke("explain", f"s3://{INPUT_BUCKET}/{KEY}")
    assert status == 0
    assert f"rendition:  upper/{KEY}.txt: 4 bytes" in out
    put(b"newer")
    assert counts() == {"stale": 1, "skipped": 1}
    clients.s3().delete_object(Bucket=INPUT_BUCKET, Key=KEY)
    assert counts() == {"orphaned": 1, "skipped": 1}


def test_audit_finds_what_was_made_by_another_recipe_or_lies_beside() -> None:
    key = "any/a.own.png"
    run(make_magic, put(b"MAGIC", key))
    assert counts() == {"done": 1}
    clients.s3().put_object(
        Bucket=OUTPUT_BUCKET, Key=f"thumbs/{key}", Body=b"x", Metadata={"source-bucket": INPUT_BUCKET, "recipe": "r"}
    )
    assert counts() == {"done": 1, "leftover": 1}
    metadata = clients.s3().head_object(Bucket=OUTPUT_BUCKET, Key=f"magic/{key}.txt")["Metadata"]
    clients.s3().put_object(
        Bucket=OUTPUT_BUCKET, Key=f"magic/{key}.txt", Body=b"x", Metadata=metadata | {"recipe": "older"}
    )
    assert counts() == {"stale": 1, "leftover": 1}


def test_backfill_enqueues_what_any_route_takes() -> None:
    for key, data in ((KEY, b"text"), ("any/a", b"MAGIC!"), ("any/b", b"else"), ("c.png", png()), ("d.txt", b"d")):
        put(data, key)
    status, out = invoke("backfill", f"s3://{INPUT_BUCKET}", "--dry-run")
    assert status == 0
    assert out.splitlines() == [f"s3://{INPUT_BUCKET}/{key}" for key in (KEY, "any/a", "c.png")]


def test_the_last_task_of_a_chain_removes_the_record_of_an_earlier_try_of_the_same_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unavailable(*_: Any, **__: Any) -> None:
        raise TransientError("the store is away")

    source = put(b"text")
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.s3.storage.read", unavailable)
        with pytest.raises(TransientError):
            run(make_upper, source, retries=app.settings.max_retries)
    first = run(make_upper, source | {"event_time": None})
    assert record()["retryable"] is True  # half of the result is missing yet
    run(make_length, first)
    assert set(outputs()) == {f"upper/{KEY}.txt", f"length/{KEY}"}


def test_a_removal_of_an_orphan_names_the_object_that_it_was_made_of(settings: Settings) -> None:
    run(make_magic, put(b"MAGIC", "any/a"))
    clients.s3().delete_object(Bucket=INPUT_BUCKET, Key="any/a")
    with Audit(app.routes, INPUT_BUCKET) as audit:
        audit.run()
        (found,) = audit.repairs(Repair.REMOVE)
    assert found.key == "any/a"
    assert run(reconcile, found.to_json())["removed"] == ["magic/any/a.txt"]


def test_the_beginning_of_an_object(settings: Settings) -> None:
    put(b"", "any/empty")
    put(b"ab", "any/short")
    assert storage.read_beginning(Source(INPUT_BUCKET, "any/empty"), 4) == b""
    assert storage.read_beginning(Source(INPUT_BUCKET, "any/short"), 4) == b"ab"
    assert storage.read_beginning(Source(INPUT_BUCKET, "any/short"), 1) == b"a"
    with pytest.raises(ObjectChanged):
        storage.read_beginning(Source(INPUT_BUCKET, "any/short", etag="0" * 32), 1)
    with pytest.raises(ObjectGone):
        storage.read_beginning(Source(INPUT_BUCKET, "any/gone"), 1)

"""Convergence and removals against a server: its conditions, its metadata, its events."""

from __future__ import annotations

import io
import json
from functools import partial
from typing import Any

import pytest
from celery.exceptions import Reject
from PIL import Image

from bridge.consumer import Bridge
from bridge.disposition import EventOutcome
from bridge.failed_keys import FailedKeys
from pipeline.aws import clients
from pipeline.celery import app, make_app
from pipeline.core.errors import PermanentError
from pipeline.core.settings import Settings
from pipeline.enqueue import assign
from pipeline.local.stack import INPUT_BUCKET, OUTPUT_BUCKET
from tasks import resize, thumbnail
from tasks.renditions import reconcile
from tests.support.queues import headers, take_all

KEY = "a/ü b+c 100%.jpg"
#: A sequencer for each upload, as S3 sends it.
FIRST, SECOND = "0055AED6DCD90281E5", "0055AED6DCD90281E6"


@pytest.fixture(autouse=True)
def sent(stack: Settings, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The names of the tasks that tasks enqueue, with their delay in seconds."""
    found: list[tuple[str, int]] = []
    monkeypatch.setattr(app, "settings", stack)
    monkeypatch.setattr("pipeline.enqueue.send", lambda work, countdown_s=0: found.append((work.task, countdown_s)))
    return found


def jpeg(colour: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (400, 300), (80 * colour, 120, 200)).save(out, "JPEG")
    return out.getvalue()


def put(data: bytes, sequencer: str | None = None, key: str = KEY, **stored: Any) -> dict[str, Any]:
    etag = clients.s3().put_object(Bucket=INPUT_BUCKET, Key=key, Body=data, **stored)["ETag"].strip('"')
    source = {"bucket": INPUT_BUCKET, "key": key, "etag": etag, "event_time": "2026-01-01T00:00:00Z"}
    return source if sequencer is None else source | {"sequencer": sequencer}


def run(task: Any, *args: Any, redelivered: bool = False) -> Any:
    task.push_request(
        args=args,
        id="task-1",
        retries=0,
        called_directly=False,
        is_eager=False,
        delivery_info={"redelivered": redelivered},
    )
    try:
        return task.run(*args)
    finally:
        task.pop_request()


def run_both(source: Any, **options: Any) -> list[str]:
    resized = run(resize, source, **options)
    if resized["outcome"] not in ("done", "duplicate"):
        return [resized["outcome"]]
    return [resized["outcome"], run(thumbnail, resized, **options)["outcome"]]


def stored() -> dict[str, dict[str, str]]:
    """Metadata of all that is in the output bucket."""
    listed = clients.s3().list_objects_v2(Bucket=OUTPUT_BUCKET).get("Contents", [])
    return {item["Key"]: clients.s3().head_object(Bucket=OUTPUT_BUCKET, Key=item["Key"])["Metadata"] for item in listed}


def versions() -> int:
    return len(clients.s3().list_object_versions(Bucket=OUTPUT_BUCKET).get("Versions", []))


@pytest.fixture
def versioned(stack: Settings) -> None:
    """Makes every write to the output bucket show."""
    for bucket in (INPUT_BUCKET, OUTPUT_BUCKET):
        clients.s3().put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})


@pytest.mark.usefixtures("versioned")
@pytest.mark.parametrize("redelivered", [False, True])
def test_the_same_again_is_a_duplicate_and_no_second_write(redelivered: bool) -> None:
    source = put(jpeg(1), FIRST)
    assert run_both(source) == ["done", "done"]
    again = run(resize, source, redelivered=redelivered)
    assert again["outcome"] == "duplicate"
    assert (again["rendition"]["width"], again["rendition"]["content_type"]) == (400, "image/jpeg")
    assert run(thumbnail, again, redelivered=redelivered)["rendition"]["height"] == 144
    assert versions() == 2


@pytest.mark.usefixtures("versioned")
@pytest.mark.parametrize("sequencers", [(FIRST, SECOND), (None, None), (SECOND, FIRST)], ids=str)
def test_a_newer_version_replaces_the_older_one(sequencers: tuple[str | None, str | None]) -> None:
    """Also where the sequencers are missing or wrong: what counts in the end is what is there."""
    first = put(jpeg(1), sequencers[0])
    run_both(first)
    second = put(jpeg(2), sequencers[1])
    assert run_both(second) == ["done", "done"]
    assert run_both(first) == ["superseded"]
    found = stored()
    assert {metadata["source-etag"] for metadata in found.values()} == {second["etag"]}
    assert {metadata["source-bucket"] for metadata in found.values()} == {INPUT_BUCKET}
    assert set(found) == {f"resized/{KEY}", f"thumbs/{KEY}"}


def test_metadata_tells_where_a_rendition_is_from() -> None:
    put(jpeg(3), FIRST)
    resized = run(resize, put(jpeg(1), SECOND))
    run(thumbnail, resized)
    found = stored()
    big, small = found[f"resized/{KEY}"], found[f"thumbs/{KEY}"]
    assert big["source-sequencer"] == small["source-sequencer"] == SECOND
    assert big["source-size"] == small["source-size"] == "400x300"
    assert big["source-modified"] == small["source-modified"]
    assert small["recipe"].startswith(big["recipe"] + ".")
    assert small["made-from"] == resized["rendition"]["etag"]


def test_a_rendition_that_is_uploaded_as_a_photo_is_a_photo() -> None:
    resized = run(resize, put(jpeg(1), FIRST))["rendition"]
    copied = clients.s3().get_object(Bucket=OUTPUT_BUCKET, Key=resized["key"])
    assert run_both(put(copied["Body"].read(), key="copy.jpg", Metadata=copied["Metadata"])) == ["done", "done"]
    assert {"resized/copy.jpg", "thumbs/copy.jpg"} <= set(stored())


def test_what_an_uploader_writes_into_metadata_keeps_no_old_rendition() -> None:
    run_both(put(jpeg(1), FIRST))
    claim = {"recipe": "x", "source-etag": "y", "source-bucket": INPUT_BUCKET}
    second = put(jpeg(2), SECOND, Metadata=claim)
    assert run_both(second) == ["done", "done"]
    assert {metadata["source-etag"] for metadata in stored().values()} == {second["etag"]}


def test_what_the_pipeline_wrote_is_not_processed_whoever_enqueues_it() -> None:
    rendition = run(resize, put(jpeg(1), FIRST))["rendition"]
    before = stored()
    with pytest.raises(Reject, match="is not INPUT_BUCKET"):
        run(resize, f"s3://{OUTPUT_BUCKET}/{rendition['key']}")
    assert stored() == before


def test_a_failure_is_forgotten_with_the_next_good_version(stack: Settings) -> None:
    with pytest.raises(PermanentError):
        run(resize, put(b"no picture", FIRST))
    assert FailedKeys(stack).may_have_failed(KEY)
    assert not FailedKeys(stack).may_have_failed("another.jpg")
    resized = run(resize, put(jpeg(1), SECOND), True)  # as the bridge then enqueues it
    run(thumbnail, resized)
    assert set(stored()) == {f"resized/{KEY}", f"thumbs/{KEY}"}


def test_a_failure_removes_what_the_version_before_had(sent: list[tuple[str, int]]) -> None:
    run_both(put(jpeg(1), FIRST))
    with pytest.raises(PermanentError):
        run(resize, put(b"no picture", SECOND))
    found = stored()
    assert set(found) == {f"failed/{KEY}.json"}
    assert found[f"failed/{KEY}.json"]["reason"] == "not-an-image"
    assert sent == [("tasks.reconcile", 90)]


def test_one_bucket_for_both_is_not_a_loop(stack: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    both = stack.model_copy(update={"output_bucket": INPUT_BUCKET})
    monkeypatch.setattr(app, "settings", both)
    assert run_both(put(jpeg(1), FIRST)) == ["done", "done"]
    assert run(resize, f"s3://{INPUT_BUCKET}/thumbs/{KEY}")["outcome"] == "skipped"
    keys = [item["Key"] for item in clients.s3().list_objects_v2(Bucket=INPUT_BUCKET)["Contents"]]
    assert sorted(keys) == sorted([KEY, f"resized/{KEY}", f"thumbs/{KEY}"])


# Removals.


@pytest.fixture
def bridge(stack: Settings) -> Bridge:
    queue = clients.sqs().get_queue_url(QueueName="local-events")["QueueUrl"]
    arn = clients.sqs().get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    clients.s3().put_bucket_notification_configuration(
        Bucket=INPUT_BUCKET,
        NotificationConfiguration={
            "QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}]
        },
    )
    take_all("local-events")
    return made_bridge(stack)


def made_bridge(settings: Settings) -> Bridge:
    return Bridge(settings, clients.sqs(), partial(assign, app=make_app(settings)))


def test_a_deleted_object_s_renditions_and_record_are_removed(bridge: Bridge, sent: list[tuple[str, int]]) -> None:
    run_both(put(jpeg(1)))
    run_both(put(jpeg(1), key="other.jpg"))
    clients.s3().put_object(Bucket=OUTPUT_BUCKET, Key=f"failed/{KEY}.json", Body=b"{}")
    bridge.step()
    take_all("local-tasks")
    clients.s3().delete_object(Bucket=INPUT_BUCKET, Key=KEY)
    assert bridge.step() == [EventOutcome.DISPATCHED]
    (message,) = take_all("local-tasks")
    assert headers(message)["task"] == "tasks.reconcile"
    result = run(reconcile, {"bucket": INPUT_BUCKET, "key": KEY})
    assert result["outcome"] == "removed"
    assert set(result["removed"]) == {f"resized/{KEY}", f"thumbs/{KEY}", f"failed/{KEY}.json"}
    assert set(stored()) == {"resized/other.jpg", "thumbs/other.jpg"}
    assert sent == [("tasks.reconcile", 90)]
    sent.clear()
    assert run(reconcile, {"bucket": INPUT_BUCKET, "key": KEY}, True)["outcome"] == "reconciled"
    assert sent == []


def test_a_removal_that_was_overtaken_removes_nothing(sent: list[tuple[str, int]]) -> None:
    run_both(put(jpeg(1)))
    assert run(reconcile, {"bucket": INPUT_BUCKET, "key": KEY})["removed"] == []
    assert len(stored()) == 2
    assert sent == [("tasks.reconcile", 90)]


@pytest.mark.usefixtures("versioned")
def test_a_version_that_came_back_is_enqueued(sent: list[tuple[str, int]]) -> None:
    first = put(jpeg(1))
    run_both(first)
    second = clients.s3().put_object(Bucket=INPUT_BUCKET, Key=KEY, Body=jpeg(2))
    run_both(f"s3://{INPUT_BUCKET}/{KEY}")
    clients.s3().delete_object(Bucket=INPUT_BUCKET, Key=KEY, VersionId=second["VersionId"])
    run(reconcile, {"bucket": INPUT_BUCKET, "key": KEY, "version_id": second["VersionId"]})
    assert ("celery.chain", 0) in sent
    run_both(f"s3://{INPUT_BUCKET}/{KEY}")
    assert {metadata["source-etag"] for metadata in stored().values()} == {first["etag"]}


def test_a_removal_can_be_ignored(bridge: Bridge, stack: Settings) -> None:
    put(jpeg(1))
    take_all("local-events")
    clients.s3().delete_object(Bucket=INPUT_BUCKET, Key=KEY)
    keeping = made_bridge(stack.model_copy(update={"delete_renditions": False}))
    assert keeping.step() == [EventOutcome.SKIPPED]
    assert take_all("local-tasks") == []


def test_one_message_may_tell_of_both(bridge: Bridge, stack: Settings) -> None:
    from tests.unit.test_s3_event import s3_record

    told = [("a.jpg", "ObjectCreated:Put"), ("b.jpg", "ObjectRemoved:Delete"), ("notes.txt", "ObjectCreated:Put")]
    records = [s3_record(key, name, bucket=INPUT_BUCKET) for key, name in told]
    queue = clients.sqs().get_queue_url(QueueName="local-events")["QueueUrl"]
    clients.sqs().send_message(QueueUrl=queue, MessageBody=json.dumps({"Records": records}))
    assert bridge.step() == [EventOutcome.DISPATCHED]
    tasks = sorted((headers(message)["task"], headers(message)["argsrepr"]) for message in take_all("local-tasks"))
    assert tasks == [("tasks.reconcile", f"{INPUT_BUCKET}/b.jpg"), ("tasks.resize", f"{INPUT_BUCKET}/a.jpg")]


def test_a_removal_that_can_t_be_enqueued_stays(bridge: Bridge, stack: Settings) -> None:
    put(jpeg(1))
    take_all("local-events")
    clients.s3().delete_object(Bucket=INPUT_BUCKET, Key=KEY)

    def refuse(_: object) -> None:
        raise OSError("the broker is away")

    assert Bridge(stack, clients.sqs(), refuse).step() == [EventOutcome.RETRY]
    assert take_all("local-tasks") == []

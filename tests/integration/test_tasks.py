"""The tasks against a server, run in this process."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import Reject, Retry
from PIL import Image

from pipeline.aws import clients
from pipeline.celery import app
from pipeline.core.errors import NotAnImage, ServiceUnavailable, TransientError
from pipeline.core.settings import Settings
from pipeline.local.stack import INPUT_BUCKET, OUTPUT_BUCKET
from pipeline.sqs.settled import Unavailable
from tasks import resize, thumbnail
from tasks.base import MAX_WAIT_S

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture(autouse=True)
def settings(stack: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(app, "settings", stack)
    return stack


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, int]]:
    """What the tasks enqueue, with its delay in seconds."""
    found: list[tuple[Any, int]] = []
    monkeypatch.setattr("pipeline.enqueue.send", lambda work, countdown_s=0: found.append((work, countdown_s)))
    return found


def put(key: str, data: bytes) -> dict[str, Any]:
    etag = clients.s3().put_object(Bucket=INPUT_BUCKET, Key=key, Body=data)["ETag"].strip('"')
    return {"bucket": INPUT_BUCKET, "key": key, "etag": etag}


def jpeg(size: tuple[int, int] = (1600, 1200)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (10, 120, 200)).save(out, "JPEG")
    return out.getvalue()


def output(key: str) -> tuple[Image.Image, dict[str, Any]]:
    found = clients.s3().get_object(Bucket=OUTPUT_BUCKET, Key=key)
    return Image.open(io.BytesIO(found["Body"].read())), dict(found)


def run(task: Any, source: Any, retries: int = 0, **headers: Any) -> Any:
    """Calls the task as a worker would, on its given try; returns or raises what it does."""
    task.push_request(
        args=(source,), retries=retries, id="task-1", called_directly=False, is_eager=False, chain=["next"], **headers
    )
    try:
        return task.run(source)
    finally:
        task.pop_request()


def test_the_chain_makes_both_renditions() -> None:
    source = put("a/ü b.jpg", jpeg())
    resized = run(resize, source)
    assert resized["outcome"] == "done"
    assert resized["rendition"] | {"etag": "", "bytes": 0} == {
        "bucket": OUTPUT_BUCKET,
        "key": "resized/a/ü b.jpg",
        "etag": "",
        "width": 1024,
        "height": 768,
        "bytes": 0,
        "content_type": "image/jpeg",
    }
    json.dumps(resized)
    small = run(thumbnail, resized)
    assert small["rendition"]["key"] == "thumbs/a/ü b.jpg"
    for key, size in (("resized/a/ü b.jpg", (1024, 768)), ("thumbs/a/ü b.jpg", (192, 144))):
        image, stored = output(key)
        assert (image.size, image.format) == (size, "JPEG")
        assert stored["ContentType"] == "image/jpeg"
        assert stored["Metadata"]["source-etag"] == source["etag"]


def test_either_task_takes_a_uri_alone() -> None:
    put("a.jpg", jpeg())
    assert run(thumbnail, f"s3://{INPUT_BUCKET}/a.jpg")["rendition"]["key"] == "thumbs/a.jpg"
    assert output("thumbs/a.jpg")[0].size == (192, 144)
    assert run(resize, f"s3://{INPUT_BUCKET}/a.jpg")["rendition"]["width"] == 1024


def test_names_never_lie_about_the_format() -> None:
    resized = run(resize, put("scan.tiff", (SAMPLES / "coffee.tiff").read_bytes()))
    assert resized["rendition"]["key"] == "resized/scan.tiff.jpg"
    assert run(thumbnail, resized)["rendition"]["key"] == "thumbs/scan.tiff.jpg"
    assert output("thumbs/scan.tiff.jpg")[0].format == "JPEG"


def test_a_salvaged_picture_says_so_in_results_and_in_metadata() -> None:
    """The thumbnail is made from a whole rendition, yet its original was not."""
    resized = run(resize, put("cut.jpg", jpeg()[:-2]))
    small = run(thumbnail, resized)
    for result, key in ((resized, "resized/cut.jpg"), (small, "thumbs/cut.jpg")):
        assert result["read"]["salvaged"] == "its end marker is missing"
        assert output(key)[1]["Metadata"]["salvaged"] == "its end marker is missing"
    whole = run(resize, put("whole.jpg", jpeg()))
    assert "salvaged" not in whole["read"]
    assert "salvaged" not in output("resized/whole.jpg")[1]["Metadata"]


def test_a_file_that_is_no_image_fails_for_good_with_a_record() -> None:
    source = put("text.jpg", b"I am no picture")
    with pytest.raises(NotAnImage):
        run(resize, source)
    record = json.loads(clients.s3().get_object(Bucket=OUTPUT_BUCKET, Key="failed/text.jpg.json")["Body"].read())
    assert record["reason"] == "not-an-image"
    assert record["retryable"] is False
    assert record["source"] == source | {"size": 15}
    assert record["task"] == "tasks.resize"
    assert record["task_id"] == "task-1"
    assert record["attempts"] == 1
    assert record["advice"]


@pytest.mark.parametrize(
    ("act", "outcome"),
    [
        (lambda key: clients.s3().delete_object(Bucket=INPUT_BUCKET, Key=key), "gone"),
        (lambda key: put(key, jpeg((20, 10))), "superseded"),
    ],
)
def test_an_object_that_changed_since_its_event_is_no_failure(act: Any, outcome: str) -> None:
    source = put("a.jpg", jpeg())
    act("a.jpg")
    assert run(resize, source)["outcome"] == outcome
    assert "Contents" not in clients.s3().list_objects_v2(Bucket=OUTPUT_BUCKET)


def broken(*_: object, **__: object) -> Any:
    raise TransientError("could not read s3://in/a.jpg: the store answered 503 SlowDown")


def test_a_service_that_fails_means_a_retry_with_growing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    put("a.jpg", jpeg())
    monkeypatch.setattr("pipeline.s3.storage.read", broken)
    monkeypatch.setattr("celery.canvas.Signature.apply_async", lambda *_, **__: None)
    waits = []
    for retries in range(5):
        with pytest.raises(Retry) as caught:
            run(resize, f"s3://{INPUT_BUCKET}/a.jpg", retries)
        waits.append(float(caught.value.when))
    for n, wait in enumerate(waits):
        assert 2**n <= wait <= 2 ** (n + 1)
    assert "Contents" not in clients.s3().list_objects_v2(Bucket=OUTPUT_BUCKET)


def test_after_the_last_retry_there_is_a_record_that_says_it_can_be_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put("a.jpg", jpeg())
    monkeypatch.setattr("pipeline.s3.storage.read", broken)
    with pytest.raises(TransientError):
        run(resize, f"s3://{INPUT_BUCKET}/a.jpg", retries=5)
    record = json.loads(clients.s3().get_object(Bucket=OUTPUT_BUCKET, Key="failed/a.jpg.json")["Body"].read())
    assert (record["reason"], record["retryable"], record["attempts"]) == ("unavailable", True, 6)


def test_out_of_memory_is_a_retry_and_not_the_end_of_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("tasks.renditions.render", hungry)
    monkeypatch.setattr("celery.canvas.Signature.apply_async", lambda *_, **__: None)
    put("a.jpg", jpeg())
    with pytest.raises(Retry):
        run(resize, f"s3://{INPUT_BUCKET}/a.jpg")


def test_a_defect_of_ours_is_recorded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("tasks.renditions.render", defect)
    put("a.jpg", jpeg())
    with pytest.raises(ZeroDivisionError):
        run(resize, f"s3://{INPUT_BUCKET}/a.jpg")
    record = json.loads(clients.s3().get_object(Bucket=OUTPUT_BUCKET, Key="failed/a.jpg.json")["Body"].read())
    assert (record["reason"], record["error"]) == ("internal-error", "ZeroDivisionError")


def test_a_failure_whose_record_can_t_be_written_waits_and_is_a_dead_letter_after_days(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = put("text.jpg", b"I am no picture")
    clients.s3().delete_bucket(Bucket=OUTPUT_BUCKET)
    monkeypatch.setattr("tasks.base.now", lambda: 1_000_000.0)
    for retries, since in ((0, None), (app.settings.max_retries, 999_999), (400, 1_000_000 - MAX_WAIT_S)):
        with pytest.raises(Unavailable, match=r"record could not be written") as waiting:
            run(resize, source, retries, failing_since=since)
        assert waiting.value.subject == f"s3://{INPUT_BUCKET}/text.jpg"
    with pytest.raises(Reject, match=r"waited for 2\.5 days, at last: .* record could not be written") as caught:
        run(resize, source, failing_since=999_999 - MAX_WAIT_S)
    assert (type(caught.value), caught.value.requeue) == (Reject, False)


def away(*_: object, **__: object) -> Any:
    raise ServiceUnavailable("could not read s3://in/a.jpg: AWS answered 503 SlowDown")


def test_a_service_that_may_fail_for_everybody_is_waited_for_by_count_of_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until the worker has counted as many tries as there are, or for days; then there is a record."""
    put("a.jpg", jpeg())
    monkeypatch.setattr("pipeline.s3.storage.read", away)
    monkeypatch.setattr("tasks.base.now", lambda: 1_000_000.0)
    most = app.settings.max_retries
    delays = []
    for retries, deferrals in ((0, 0), (0, 3), (most, 0), (0, 1000)):
        with pytest.raises(Unavailable) as waiting:
            run(resize, f"s3://{INPUT_BUCKET}/a.jpg", retries, deferrals=deferrals, failing_since=999_000)
        delays.append(waiting.value.delay_s)
    assert 1 <= delays[0] <= 2
    assert 8 <= delays[1] <= 16
    assert 450 <= delays[3] <= 900
    assert "Contents" not in clients.s3().list_objects_v2(Bucket=OUTPUT_BUCKET)
    for number, headers in enumerate(({"retries": most + 1}, {"failing_since": 999_999 - MAX_WAIT_S, "deferrals": 9})):
        key = f"{number}.jpg"
        put(key, jpeg())
        with pytest.raises(ServiceUnavailable):
            run(resize, f"s3://{INPUT_BUCKET}/{key}", **headers)
        record = json.loads(clients.s3().get_object(Bucket=OUTPUT_BUCKET, Key=f"failed/{key}.json")["Body"].read())
        assert (record["reason"], record["retryable"]) == ("unavailable", True)
        assert record["attempts"] == (most + 2, 10)[number]


def test_an_argument_that_names_no_object_is_left_to_the_dead_letter_queue() -> None:
    with pytest.raises(Reject, match="write s3://bucket/key"):
        run(resize, "nonsense")


@pytest.mark.parametrize("header", [None, "public, max-age=300"])
def test_renditions_say_how_long_they_may_be_cached_and_records_do_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, header: str | None
) -> None:
    monkeypatch.setattr(app, "settings", settings.model_copy(update={"cache_control": header}))
    name = f"cached-{header is None}.jpg"
    run(thumbnail, run(resize, put(name, jpeg())))
    assert [output(f"{folder}/{name}")[1].get("CacheControl") for folder in ("resized", "thumbs")] == [header] * 2
    with pytest.raises(NotAnImage):
        run(resize, put(f"broken-{name}", b"nothing"))
    record = clients.s3().head_object(Bucket=OUTPUT_BUCKET, Key=f"failed/broken-{name}.json")
    assert "CacheControl" not in record

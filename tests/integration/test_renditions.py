"""Five renditions that RENDITIONS declares: what holds for the usual two holds for each of them."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from celery.events.state import State
from click.testing import CliRunner
from PIL import Image

from pipeline import enqueue
from pipeline.__main__ import cli
from pipeline.celery import app
from pipeline.core.errors import PipelineError
from pipeline.core.routes import Routes
from pipeline.core.source import Source
from pipeline.core.task_result import FACTS
from pipeline.operations.audit.audit import Audit, Repair
from pipeline.operations.audit.classify import Status
from pipeline.operations.explain import as_dict, collect
from pipeline.sqs.flower.options import DEFAULTS
from pipeline.sqs.monitoring import task_result
from pipeline.sqs.settled import Decision
from pipeline.testing.model import INPUT, OUTPUT, PipelineModel, TaskMessage

FIVE = (
    "resized=1024x768, thumbs=192x192:cover, medium=640x480:webp:q80, large@2x=2048x1536, tall<resized=x300, "
    "sizes/tiny<thumbs=32x32"
)
FOLDERS = ("resized", "thumbs", "medium", "large@2x", "tall", "sizes/tiny")


def picture(size: tuple[int, int], form: str = "JPEG", mode: str = "RGB", turn: int = 1) -> bytes:
    """Red at the left, green in the middle, blue at the right."""
    image = Image.new(mode, size, "green")
    third = size[0] // 3
    image.paste("red", (0, 0, third, size[1]))
    image.paste("blue", (size[0] - third, 0, *size))
    exif = Image.Exif()
    exif[0x0112] = turn
    out = io.BytesIO()
    image.save(out, form, exif=exif)
    return out.getvalue()


PHOTO = picture((2400, 1800))
UPLOADS = {
    "a/photo 1.jpg": PHOTO,
    "turned.jpg": picture((900, 600), turn=6),
    "drawing.png": picture((300, 200), "PNG", "RGBA"),
    "scan.tiff": picture((700, 500), "TIFF"),
    "long.jpg": picture((3000, 100)),
}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[PipelineModel]:
    made = PipelineModel(monkeypatch, env={"RENDITIONS": FIVE})
    yield made
    made.close()


def upload(model: PipelineModel, *keys: str) -> None:
    for key in keys or UPLOADS:
        model.upload(key, UPLOADS[key])
        model.settle()


def sizes(model: PipelineModel, key: str) -> dict[str, tuple[str | None, tuple[int, int]]]:
    """Format and pixels of each rendition, by its folder."""
    found = {}
    for name, version in model.stored().items():
        folder = next(each for each in FOLDERS if name.startswith(f"{each}/"))
        if name.removeprefix(f"{folder}/").startswith(key):
            with Image.open(io.BytesIO(version.data or b"")) as image:
                found[folder] = image.format, image.size
                assert version.metadata["pixels"] == "{}x{}".format(*image.size)
                assert version.content_type == Image.MIME[str(image.format)]
    return found


def audited(model: PipelineModel, *, full: bool) -> dict[Status, set[str]]:
    with Audit(Routes.load(model.settings), INPUT, full=full, examples=100) as run:
        report = run.run()
    found: dict[Status, set[str]] = {}
    for (status, _), keys in report.examples.items():
        found.setdefault(status, set()).update(keys)
    return found


def test_one_line_tells_of_all_that_was_made_of_an_object(
    model: PipelineModel, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "tasks"), caplog.at_level(logging.INFO, "bridge"):
        upload(model, "drawing.png")
    of_it = [vars(line) for line in caplog.records if vars(line).get("key") == "drawing.png"]
    assert [line["action"] for line in of_it] == ["done"]
    assert all(f"{OUTPUT}/{name}" in of_it[0]["message"] for name in model.stored())
    assert of_it[0]["runtime_s"] >= 0
    with caplog.at_level(logging.DEBUG, "tasks"), caplog.at_level(logging.DEBUG, "bridge"):
        upload(model, "turned.jpg")
    steps = [vars(line)["action"] for line in caplog.records if vars(line).get("key") == "turned.jpg"]
    assert steps == ["dispatched", *["done"] * len(FOLDERS)]


def test_each_has_its_name_its_box_and_its_format(model: PipelineModel) -> None:
    upload(model)
    assert sizes(model, "a/photo 1.jpg") == {
        "resized": ("JPEG", (1024, 768)),
        "thumbs": ("JPEG", (192, 192)),
        "medium": ("WEBP", (640, 480)),
        "large@2x": ("JPEG", (2048, 1536)),
        "tall": ("JPEG", (400, 300)),
        "sizes/tiny": ("JPEG", (32, 32)),
    }
    turned = sizes(model, "turned.jpg")
    assert (turned["resized"], turned["medium"]) == (("JPEG", (512, 768)), ("WEBP", (320, 480)))
    assert turned["tall"] == ("JPEG", (200, 300))
    assert sizes(model, "drawing.png") == {
        "resized": ("PNG", (300, 200)),
        "thumbs": ("PNG", (192, 192)),
        "medium": ("WEBP", (300, 200)),
        "large@2x": ("PNG", (300, 200)),
        "tall": ("PNG", (300, 200)),
        "sizes/tiny": ("PNG", (32, 32)),
    }
    names = {name for name in model.stored() if "scan" in name}
    assert names == {
        "resized/scan.tiff.jpg",
        "thumbs/scan.tiff.jpg",
        "medium/scan.tiff.webp",
        "large@2x/scan.tiff.jpg",
        "tall/scan.tiff.jpg",
        "sizes/tiny/scan.tiff.jpg",
    }


def test_what_is_cut_is_the_middle_and_of_a_long_picture_from_the_upload(model: PipelineModel) -> None:
    upload(model, "long.jpg", "a/photo 1.jpg")
    found = sizes(model, "long.jpg")
    # Of 1024x34 pixels there would be 34x34.
    assert found["thumbs"] == ("JPEG", (100, 100))
    with Image.open(io.BytesIO(model.stored()["thumbs/long.jpg"].data or b"")) as image:
        middle = image.convert("RGB").getpixel((50, 50))
    assert isinstance(middle, tuple)
    assert middle[1] > 100 > middle[0] + middle[2]  # green
    assert "made-from" not in model.stored()["thumbs/long.jpg"].metadata
    assert "made-from" in model.stored()["thumbs/a/photo 1.jpg"].metadata


def test_an_upload_is_read_once_for_all_that_it_is_large_enough_for(model: PipelineModel) -> None:
    read: list[str] = []
    get_object = model.s3.get_object

    def counted(**asked: Any) -> Any:
        if asked["Bucket"] == INPUT:
            read.append(asked["Key"])
        return get_object(**asked)

    model.s3.get_object = counted  # type: ignore[method-assign]
    upload(model, "a/photo 1.jpg", "scan.tiff")
    assert read == ["a/photo 1.jpg", "scan.tiff"]


def test_audit_knows_all_of_them(model: PipelineModel) -> None:
    upload(model, "scan.tiff", "drawing.png", "turned.jpg", "long.jpg")
    for full in (False, True):
        assert audited(model, full=full) == {}
    for name in ("medium/drawing.png.webp", "sizes/tiny/turned.jpg"):
        model.s3.remove(OUTPUT, name)
    model.s3.put(INPUT, "long.jpg", UPLOADS["turned.jpg"])
    model.s3.remove(INPUT, "scan.tiff")
    for full in (False, True):
        assert audited(model, full=full) == {
            Status.MISSING: {"drawing.png", "turned.jpg"},
            Status.STALE: {"long.jpg"},
            Status.ORPHANED: {"scan.tiff"},
        }


def test_a_recipe_that_has_changed_makes_all_stale_that_was_made_by_it(model: PipelineModel) -> None:
    upload(model, "long.jpg")
    for changed in (FIVE.replace("q80", "q79"), FIVE.replace("tiny<thumbs=32x32", "tiny<thumbs=31x31")):
        model.settings = model.settings.model_copy(update={"renditions": changed})
        assert audited(model, full=False) == audited(model, full=True) == {Status.STALE: {"long.jpg"}}


def test_explain_knows_all_of_them(model: PipelineModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(*_: object) -> None:
        raise PipelineError("there are no queues here")

    monkeypatch.setattr("pipeline.operations.explain.LetterReader", unreadable)
    upload(model, "scan.tiff")
    report = as_dict(collect(Source(INPUT, "scan.tiff"), app.routes, 10), app.routes)
    assert report["status"] == "done"
    assert {each["key"].partition("/scan")[0] for each in report["renditions"]} == set(FOLDERS)
    assert all(each["by_the_current_recipe"] for each in report["renditions"])
    model.s3.remove(OUTPUT, "medium/scan.tiff.webp")
    report = as_dict(collect(Source(INPUT, "scan.tiff"), app.routes, 10), app.routes)
    assert report["status"] == "missing"
    assert "only a part of it: no medium/" in str(report)


def test_what_audit_finds_it_repairs(model: PipelineModel) -> None:
    upload(model, "scan.tiff", "drawing.png")
    model.s3.remove(OUTPUT, "medium/drawing.png.webp")
    model.s3.remove(INPUT, "scan.tiff")
    before = model.stored()
    with Audit(Routes.load(model.settings), INPUT) as run:
        run.run()
        enqueue.process_many(list(run.repairs(Repair.ENQUEUE)), app=app)
        enqueue.reconcile_many(list(run.repairs(Repair.REMOVE)), app=app)
    model.settle()
    after = model.stored()
    assert set(after) == {name for name in before if "scan" not in name} | {"medium/drawing.png.webp"}
    assert all(after[name] == before[name] for name in set(after) & set(before))  # nothing was made twice


def test_a_backfill_makes_all_of_them_of_what_was_there_before(
    model: PipelineModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.operations.backfill.make_app", lambda _: app)
    monkeypatch.setattr("pipeline.operations.backfill.queues.depth", lambda _: len(model.tasks))
    for name, value in {"INPUT_BUCKET": INPUT, "OUTPUT_BUCKET": OUTPUT, "RENDITIONS": FIVE}.items():
        monkeypatch.setenv(name, value)
    for key, data in UPLOADS.items():
        model.s3.put(INPUT, key, data)
    upload(model, "turned.jpg")  # one of them is done, and stays as it is
    before = model.stored()
    assert len(before) == len(FOLDERS)
    assert audited(model, full=True) == {Status.MISSING: set(UPLOADS) - {"turned.jpg"}}
    result = CliRunner().invoke(cli, ["backfill", f"s3://{INPUT}"])
    assert (result.exit_code, result.stderr) == (0, f"{len(UPLOADS)} objects enqueued, 0 skipped.\n")
    model.settle()
    for full in (False, True):
        assert audited(model, full=full) == {}
    after = model.stored()
    assert len(after) == len(UPLOADS) * len(FOLDERS)
    assert {name: after[name] for name in before} == before


def test_flower_shows_of_which_object_and_which_rendition_a_task_was(model: PipelineModel) -> None:
    """By what a worker's events say: each comes into Flower's state as Celery fills it."""
    run, shown = model.run, State()

    def told(message: TaskMessage) -> tuple[Decision, BaseException | None]:
        texts = {"args": message.headers["argsrepr"], "kwargs": message.headers["kwargsrepr"]}
        event = {"type": "task-received", "uuid": message.headers["id"], "name": message.name, **texts}
        where = {"hostname": "w", "timestamp": 0, "local_received": 0, "clock": 1}
        shown.event(task_result.shape({**event, **where}, FACTS))
        return run(message)

    model.run = told  # type: ignore[method-assign]
    upload(model, "scan.tiff")
    columns = [name for name in DEFAULTS["tasks_columns"].split(",") if name in ("name", "args", "kwargs")]
    rows = [tuple(getattr(task, column) for column in columns) for task in shown.tasks.values()]
    key = f"{INPUT}/scan.tiff"
    named = [("tasks.resize", key, "{}"), ("tasks.thumbnail", key, "{}")]
    further = (name for name in FOLDERS if name not in ("resized", "thumbs"))
    assert sorted(rows) == sorted([*named, *(("tasks.rendition", key, f"{{'name': '{name}'}}") for name in further)])


def test_they_are_replaced_and_go_with_the_object(model: PipelineModel) -> None:
    upload(model, "scan.tiff", "turned.jpg")
    version = model.upload("turned.jpg", picture((1200, 900)))
    model.settle()
    ours = {name: each for name, each in model.stored().items() if "turned" in name}
    assert len(ours) == len(FOLDERS)
    assert {each.metadata["source-etag"] for each in ours.values()} == {version.etag}
    # Of another type, under the same name: all that are named after it are replaced by others.
    model.upload("scan.tiff", picture((700, 500), "PNG", "RGBA"))
    model.settle()
    assert {name for name in model.stored() if "scan" in name} == {
        *(f"{folder}/scan.tiff.png" for folder in FOLDERS if folder != "medium"),
        "medium/scan.tiff.webp",
    }
    for key in ("scan.tiff", "turned.jpg"):
        model.delete(key)
    model.settle()
    assert model.stored() == {}


def test_a_bad_file_leaves_one_record_and_a_good_one_after_it_all_renditions(model: PipelineModel) -> None:
    model.upload("b.jpg", PHOTO[:3000])
    model.settle()
    assert list(model.stored()) == ["failed/b.jpg.json"]
    model.upload("b.jpg", PHOTO)
    model.settle()
    assert set(model.stored()) == {
        *(f"{folder}/b.jpg" for folder in FOLDERS if folder != "medium"),
        "medium/b.jpg.webp",
    }


def test_who_enqueues_one_by_name_gets_that_one(model: PipelineModel) -> None:
    model.s3.put(INPUT, "a.jpg", PHOTO)
    app.signature(
        "tasks.rendition", args=(f"s3://{INPUT}/a.jpg",), kwargs={"name": "medium"}, argsrepr=""
    ).apply_async()
    for message in model.tasks:
        message.headers["argsrepr"] = f"{INPUT}/a.jpg"
    model.settle()
    assert set(model.stored()) == {"medium/a.jpg.webp"}
    assert model.stored()["medium/a.jpg.webp"].metadata["source-size"] == "2400x1800"


def test_a_message_of_settings_that_had_another_rendition_leads_to_those_that_there_are(model: PipelineModel) -> None:
    model.upload("a.jpg", PHOTO)
    model.bridge(0)
    model.settings = model.settings.model_copy(update={"renditions": "small=100x100, thumbs=64x64"})
    app.settings = model.settings
    model.settle()
    assert set(model.stored()) == {"small/a.jpg", "thumbs/a.jpg"}


def test_messages_of_an_earlier_release_still_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names, the arguments and the result that the second task is given, as version 0.3 sent them."""
    model = PipelineModel(monkeypatch)
    try:
        etag = model.s3.put(INPUT, "a.jpg", PHOTO).etag
        source = {"bucket": INPUT, "key": "a.jpg", "etag": etag, "event_time": "2026-01-01T00:00:00Z"}
        app.signature("tasks.resize", args=(source,), kwargs={"careful": True}).apply_async()
        model.settle()
        resized = model.stored()["resized/a.jpg"]
        rendition = {"bucket": OUTPUT, "key": "resized/a.jpg", "etag": resized.etag, "width": 1024, "height": 768}
        result = {"outcome": "done", "source": source, "read": {"width": 1}, "rendition": rendition}
        app.signature("tasks.thumbnail", args=(result,)).apply_async()
        model.settle()
        assert set(model.stored()) == {"resized/a.jpg", "thumbs/a.jpg"}
        assert model.stored()["thumbs/a.jpg"].metadata["made-from"] == resized.etag
    finally:
        model.close()

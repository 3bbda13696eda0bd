"""Cases of convergence that are worth a name of their own, each step by step on the model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bridge.failed_keys import GOOD_FOR_S
from pipeline.celery import app
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.enqueue import process, work
from pipeline.testing.model import INPUT, INTERRUPTS, OUTPUT, Attempt, PipelineModel
from tasks.convergence import FOLLOW_UP_S, LANDS_WITHIN_S
from tests.integration.test_convergence import check
from tests.support.objects import PICTURES

KEY, SCAN = "a.png", "b/c.tif"


@pytest.fixture
def model() -> Iterator[PipelineModel]:
    with pytest.MonkeyPatch.context() as patch:
        made = PipelineModel(patch)
        yield made
        made.close()


def up(model: PipelineModel, name: str, key: str = KEY) -> None:
    model.upload(key, PICTURES[name])


def until(model: PipelineModel, attempt: Attempt | None, where: str) -> Attempt:
    """Lets a task work until it is about to do something."""
    assert attempt is not None
    while not attempt.at.startswith(where):
        assert not attempt.finished, f"never came to {where}"
        model.go(attempt)
    return attempt


def finish(model: PipelineModel, attempt: Attempt) -> None:
    while not attempt.finished:
        model.go(attempt)


def requests(model: PipelineModel) -> dict[str, int]:
    found = dict(model.s3.requests)
    model.s3.requests.clear()
    return found


def started(model: PipelineModel) -> Attempt:
    """The last event is bridged, and its resize begins."""
    model.bridge(len(model.events.bodies) - 1)
    attempt = model.receive(model.tasks[-1])
    assert attempt is not None
    return attempt


def test_the_times_fit_together() -> None:
    assert LANDS_WITHIN_S < FOLLOW_UP_S
    assert GOOD_FOR_S < FOLLOW_UP_S


def test_a_fresh_upload_costs_no_request_beyond_reading_and_writing(model: PipelineModel) -> None:
    up(model, "bitmap")
    model.settle()
    assert requests(model) == {"ListObjectsV2": 1, "GetObject": 2, "PutObject": 2}  # one listing a minute
    for n in range(5):
        model.upload(f"more/{n}.png", PICTURES["red"])
    model.settle()
    assert requests(model) == {"GetObject": 10, "PutObject": 10}


def test_an_overwrite_costs_two_looks_for_each_rendition(model: PipelineModel) -> None:
    up(model, "red")
    model.settle()
    requests(model)
    up(model, "bright")
    model.settle()
    assert requests(model) == {"GetObject": 2, "PutObject": 4, "HeadObject": 4}
    check(model, KEY, faults=False)


def test_a_repeated_event_writes_nothing(model: PipelineModel) -> None:
    up(model, "red")
    model.settle()
    before = {key: version.version_id for key, version in model.stored().items()}
    model.events.bodies.append(model.past_events[-1])
    model.settle()
    assert {key: version.version_id for key, version in model.stored().items()} == before


def test_a_message_delivered_again_reads_no_original(model: PipelineModel) -> None:
    up(model, "red")
    first = until(model, started(model), "settle the message")
    model.expire_visibility(first)
    requests(model)
    again = model.receive(first.message)
    until(model, again, "settle the message")
    assert requests(model) == {"HeadObject": 2}


def test_a_late_writer_does_not_overwrite_a_newer_version(model: PipelineModel) -> None:
    up(model, "red")
    late = until(model, started(model), "PutObject resized/")
    up(model, "bright")
    finish(model, started(model))
    finish(model, late)
    model.settle()
    check(model, KEY, faults=False)


def test_a_version_between_two_that_have_the_same_bytes(model: PipelineModel) -> None:
    up(model, "red")
    model.settle()
    up(model, "bright")
    late = until(model, started(model), "PutObject resized/")
    up(model, "red")
    model.bridge(0)
    model.settle_others(late)
    finish(model, late)
    model.settle()
    check(model, KEY, faults=False)


@pytest.mark.parametrize("sequencers", [True, False])
def test_a_late_writer_writes_nothing_at_all(monkeypatch: pytest.MonkeyPatch, sequencers: bool) -> None:
    """It would be repaired, but nobody is to see the older version again."""
    model = PipelineModel(monkeypatch, sequencers=sequencers)
    up(model, "red")
    late = until(model, started(model), "PutObject resized/")
    up(model, "bright")
    model.bridge(0)
    model.settle_others(late)
    before = model.stored()
    finish(model, late)
    assert model.stored() == before
    model.close()


def test_a_late_failure_of_an_older_version_leaves_no_record(model: PipelineModel) -> None:
    up(model, "text")
    late = until(model, started(model), "HeadObject a.png")  # it has failed, and looks whether anybody cares
    up(model, "red")
    model.bridge(0)
    model.settle_others(late)
    before = model.stored()
    requests(model)
    until(model, late, "settle the message")
    assert model.stored() == before
    assert "PutObject" not in requests(model)


def test_a_late_writer_that_replaces_what_has_the_same_bytes_as_what_it_saw(model: PipelineModel) -> None:
    up(model, "red")
    model.settle()
    up(model, "bright")
    late = until(model, started(model), "HeadObject resized/")
    until(model, late, "PutObject resized/")
    up(model, "red")  # is made already
    model.bridge(0)
    model.settle_others(late)
    finish(model, late)
    model.settle()
    check(model, KEY, faults=False)


def test_events_in_the_wrong_order(model: PipelineModel) -> None:
    up(model, "red")
    up(model, "bright")
    model.bridge(1)
    model.settle()
    check(model, KEY, faults=False)


def test_a_late_event_of_a_deleted_version_makes_nothing_though_the_version_can_still_be_read(
    model: PipelineModel,
) -> None:
    up(model, "red")
    model.delete(KEY)
    model.bridge(1)
    model.settle()
    assert model.stored() == {}


def test_a_late_removal_leaves_the_renditions_of_a_newer_version(model: PipelineModel) -> None:
    up(model, "red")
    model.delete(KEY)
    up(model, "bright")
    for index in (2, 0, 0):
        model.bridge(index)
    model.settle()
    check(model, KEY, faults=False)
    assert len(model.stored()) == 2


def test_a_removed_version_lets_the_one_before_it_show_again(model: PipelineModel) -> None:
    up(model, "red")
    model.settle()
    up(model, "bright")
    model.settle()
    model.undo(KEY)
    model.settle()
    check(model, KEY, faults=False)


@pytest.mark.parametrize("stalled_s", [1, LANDS_WITHIN_S + 1, 10_000])
@pytest.mark.parametrize("where", ["PutObject resized/", "PutObject thumbs/"])
def test_a_writer_that_was_stalled_while_its_object_was_deleted(
    model: PipelineModel, stalled_s: float, where: str
) -> None:
    up(model, "red")
    attempt = started(model)
    if "thumbs" in where:
        finish(model, attempt)
        attempt_or_none = model.receive(model.tasks[-1])
        assert attempt_or_none is not None
        attempt = attempt_or_none
    until(model, attempt, where)
    model.delete(KEY)
    model.bridge(0)
    for _ in range(4):  # the removal and, in time, what follows it
        for message in model.visible():
            worker = model.receive(message)
            assert worker is not None
            finish(model, worker)
        model.clock += stalled_s / 4
    finish(model, attempt)
    model.settle()
    assert model.stored() == {}


def test_a_writer_that_was_stalled_while_a_newer_version_failed(model: PipelineModel) -> None:
    up(model, "red")
    late = until(model, started(model), "PutObject resized/")
    up(model, "text")
    finish(model, started(model))
    finish(model, late)
    model.settle()
    assert set(model.stored()) == {"failed/a.png.json"}


def test_a_writer_that_crashed_right_after_a_late_write(model: PipelineModel) -> None:
    up(model, "red")
    late = until(model, started(model), "PutObject resized/")
    model.delete(KEY)
    model.bridge(0)
    model.clock += 1000
    model.settle_others(late)
    model.go(late)  # it writes
    assert "resized/a.png" in model.stored()
    model.go(late, "crash")
    model.settle()
    assert model.stored() == {}


def test_a_failure_removes_the_renditions_of_the_version_before(model: PipelineModel) -> None:
    up(model, "red")
    model.settle()
    up(model, "text")
    model.settle()
    assert set(model.stored()) == {"failed/a.png.json"}


@pytest.mark.parametrize("after_s", [0, 30, 1000])
def test_the_next_good_version_removes_the_record_whenever_it_comes(model: PipelineModel, after_s: float) -> None:
    up(model, "red", "other.png")
    model.settle()  # and failed/ is listed
    up(model, "text")
    finish(model, started(model))
    model.clock += after_s
    up(model, "red")
    model.settle()
    assert not any(key.startswith("failed/") for key in model.stored())
    check(model, KEY, faults=False)


def test_a_repaired_failure_of_the_same_version_is_forgotten(model: PipelineModel) -> None:
    up(model, "red")
    for _ in range(3):  # the store fails on every try
        attempt = until(model, started(model) if model.events.bodies else model.receive(model.tasks[-1]), "GetObject")
        model.go(attempt, "fail")
        finish(model, attempt)
        model.clock += 900
    assert set(model.stored()) == {"failed/a.png.json"}
    process(f"s3://{INPUT}/{KEY}", app=app)
    model.settle()
    check(model, KEY, faults=False)


def test_a_scan_that_becomes_transparent_leaves_nothing_under_its_old_name(model: PipelineModel) -> None:
    for name in ("scan", "clear scan", "webp", "scan"):
        up(model, name, SCAN)
        model.settle()
        check(model, SCAN, faults=False)


def test_a_changed_recipe_is_redone_by_hand_and_only_that(
    model: PipelineModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    up(model, "red")
    model.settle()
    before = {key: version.version_id for key, version in model.stored().items()}
    process(f"s3://{INPUT}/{KEY}", app=app)
    model.settle()
    assert {key: version.version_id for key, version in model.stored().items()} == before
    smaller = Settings.from_env({"OUTPUT_BUCKET": OUTPUT, "THUMB_BOX": "2x2"})
    monkeypatch.setattr(app, "settings", smaller)
    process(f"s3://{INPUT}/{KEY}", app=app)
    model.settle()
    after = {key: version.version_id for key, version in model.stored().items()}
    assert after["resized/a.png"] == before["resized/a.png"]
    assert after["thumbs/a.png"] != before["thumbs/a.png"]


def test_a_rendition_that_is_copied_into_the_input_bucket_is_a_photo(model: PipelineModel) -> None:
    up(model, "red")
    model.settle()
    made = model.stored()["resized/a.png"]
    copied = model.s3.put(INPUT, "copy.png", made.data or b"", metadata=made.metadata)
    work(app, Source(INPUT, "copy.png", etag=copied.etag)).apply_async()
    model.settle()
    assert {"resized/copy.png", "thumbs/copy.png"} < set(model.stored())


def test_a_name_that_is_taken_is_a_failure_and_harms_nobody(model: PipelineModel) -> None:
    up(model, "scan", SCAN)
    model.settle()
    scan = model.stored()
    model.upload(f"{SCAN}.jpg", PICTURES["red"])
    model.settle()
    stored = model.stored()
    record = stored.pop(f"failed/{SCAN}.jpg.json")
    assert record.metadata["reason"] == "name-taken"
    assert stored == scan
    model.delete(f"{SCAN}.jpg")
    model.settle()
    assert model.stored() == scan


@pytest.mark.parametrize("name", ["red", "text"])
def test_a_key_that_leaves_no_room_for_folders_ends_as_any_other(model: PipelineModel, name: str) -> None:
    key = "x" * 1018 + ".png"
    model.upload(key, PICTURES[name])
    model.settle()
    folders = {"red": ("resized/", "thumbs/"), "text": ("failed/",)}[name]
    assert [stored.partition("/")[0] + "/" for stored in sorted(model.stored())] == list(folders)
    model.delete(key)
    model.settle()
    assert model.stored() == {}


def test_a_publish_that_fails_does_not_lose_the_rest_of_the_chain(model: PipelineModel) -> None:
    up(model, "red")
    attempt = until(model, started(model), "publish tasks.thumbnail")
    model.go(attempt, "fail")
    finish(model, attempt)
    model.settle()
    check(model, KEY, faults=False)


def test_a_process_that_can_t_find_its_queue_does_not_lose_the_rest_of_the_chain(model: PipelineModel) -> None:
    up(model, "red")
    attempt = until(model, started(model), "GetQueueUrl")
    model.go(attempt, "fail")
    assert attempt.at == "settle the message: released"
    model.settle()
    check(model, KEY, faults=False)


@pytest.mark.parametrize("order", sorted(INTERRUPTS))
@pytest.mark.parametrize("where", ["HeadObject a.png", "PutObject failed/", "HeadObject thumbs/"])
def test_a_failure_that_is_interrupted_while_it_is_recorded_is_not_lost(
    model: PipelineModel, where: str, order: str
) -> None:
    up(model, "text")
    attempt = until(model, started(model), where)
    model.go(attempt, order)
    until(model, attempt, "settle the message")
    assert attempt.at == "settle the message: released"
    model.settle()
    check(model, KEY, faults=False)


@pytest.mark.parametrize("name", ["red", "text"])
def test_an_outage_costs_time_and_no_dead_letters(model: PipelineModel, name: str) -> None:
    up(model, name)
    attempt = started(model)
    model.is_outage = True
    for _ in range(50):
        finish(model, attempt)
        (message,) = model.tasks
        assert message.receives == 0
        model.clock = message.visible_at
        again = model.receive(message)
        assert again is not None
        attempt = again
    assert model.dead == []
    assert model.clock > 5 * 3600
    model.is_outage = False
    finish(model, attempt)
    model.settle()
    check(model, KEY, faults=False)
    assert model.dead == []


def test_a_missing_input_bucket_removes_nothing(model: PipelineModel) -> None:
    up(model, "red")
    model.settle()
    before = model.stored()
    model.events.bodies.append(model.past_events[0].replace("ObjectCreated:Put", "ObjectRemoved:Delete"))
    model.bridge(0)
    gone = model.s3.buckets.pop(INPUT)
    for _ in range(3):
        for message in model.visible():
            worker = model.receive(message)
            assert worker is not None
            finish(model, worker)
        model.clock += 900
    assert model.stored() == before
    model.s3.buckets[INPUT] = gone


def test_deletes_can_be_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    model = PipelineModel(monkeypatch, env={"DELETE_RENDITIONS": "false"})
    up(model, "red")
    model.settle()
    model.delete(KEY)
    model.settle()
    assert set(model.stored()) == {"resized/a.png", "thumbs/a.png"}

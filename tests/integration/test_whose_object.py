"""Objects of other buckets: whoever names one in an event or a task changes nothing of what is stored of this one."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from pipeline import enqueue
from pipeline.celery import app
from pipeline.core.errors import MessageError
from pipeline.core.names import failure_key
from pipeline.core.source import Source
from pipeline.testing.model import INPUT, PipelineModel
from pipeline.testing.s3 import Bucket
from tests.support.objects import PICTURES
from tests.unit.test_s3_event import s3_record

KEY = "inv/old.png"
RECORD = failure_key(KEY)


@pytest.fixture(params=["in", ""], ids=["INPUT_BUCKET is set", "INPUT_BUCKET is not set"])
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[PipelineModel]:
    made = PipelineModel(monkeypatch, env={"INPUT_BUCKET": request.param})
    made.s3.buckets["elsewhere"] = Bucket()
    yield made
    made.close()


def tell(model: PipelineModel, name: str, bucket: str, **item: object) -> None:
    model.events.bodies.append(json.dumps({"Records": [s3_record(KEY, name, bucket=bucket, **item)]}))


def run_out(model: PipelineModel) -> None:
    """Until nothing is left to do; dead letters stay where they are."""
    while model.events.bodies:
        model.bridge(0)
    while model.tasks:
        message = min(model.tasks, key=lambda each: each.visible_at)
        model.clock = max(model.clock, message.visible_at)
        attempt = model.receive(message)
        while attempt is not None and not attempt.finished:
            model.go(attempt)


@pytest.mark.parametrize("bucket", ["elsewhere", "out"])
@pytest.mark.parametrize("name", ["ObjectRemoved:Delete", "ObjectCreated:Put"])
def test_an_event_of_another_bucket_leaves_a_failure_record_and_renditions_as_they_are(
    model: PipelineModel, bucket: str, name: str
) -> None:
    model.upload(KEY, PICTURES["text"])
    model.settle()
    before = model.stored()
    assert set(before) == {RECORD}
    tell(model, name, bucket)
    run_out(model)
    assert model.stored() == before
    model.upload(KEY, PICTURES["red"])
    model.settle()
    before = model.stored()
    assert set(before) == {f"resized/{KEY}", f"thumbs/{KEY}"}
    tell(model, name, bucket)
    run_out(model)
    assert model.stored() == before


def test_an_unreadable_object_of_another_bucket_does_not_replace_a_record(model: PipelineModel) -> None:
    model.upload(KEY, PICTURES["text"])
    model.settle()
    before = model.stored()
    del model.s3.buckets["elsewhere"]  # whatever is asked of it fails
    tell(model, "ObjectCreated:Put", "elsewhere")
    run_out(model)
    assert model.stored() == before
    assert model.dead or model.events.dead


def test_a_task_about_another_bucket_is_a_dead_letter(model: PipelineModel) -> None:
    if not model.settings.input_buckets:
        pytest.skip("then every bucket is")
    for task in ("tasks.resize", "tasks.reconcile", "tasks.find_route"):
        app.signature(
            task, args=({"bucket": "elsewhere", "key": KEY},), options={"argsrepr": f"elsewhere/{KEY}"}
        ).apply_async()
    run_out(model)
    assert len(model.dead) == 3
    assert model.s3.requests.total() == 0


def test_a_program_that_enqueues_another_bucket_s_object_is_told_at_once(model: PipelineModel) -> None:
    if not model.settings.input_buckets:
        pytest.skip("then every bucket is")
    for due in (enqueue.work, enqueue.reconciliation, enqueue.search):
        with pytest.raises(MessageError, match=r"s3://elsewhere/a\.jpg: bucket elsewhere is not INPUT_BUCKET=in"):
            due(app, Source("elsewhere", "a.jpg"))


def test_an_event_that_lies_about_the_size_makes_nothing_of_it(model: PipelineModel) -> None:
    """A rule for the content may go by the size, so what is made of an object would depend on who tells of it."""
    version = model.s3.put(INPUT, KEY, PICTURES["red"])
    tell(model, "ObjectCreated:Put", INPUT, eTag=version.etag, size=7)
    model.bridge(0)
    attempt = model.receive(model.tasks[0])
    while attempt is not None and not attempt.finished:
        model.go(attempt)
    assert model.stored() == {}
    model.settle()  # the second look enqueues the object as it is
    assert set(model.stored()) == {f"resized/{KEY}", f"thumbs/{KEY}"}

"""A bucket that has other things in it: with OUTPUT_PREFIX all that the pipeline stores is below that, and nothing else
of the bucket is looked at as its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.celery import app
from pipeline.core.errors import ConfigError
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.operations.audit.audit import Audit, AuditReport
from pipeline.operations.audit.classify import Status
from pipeline.testing.model import INPUT, OUTPUT, PipelineModel
from tasks.cleanup import reconcile
from tests.support import own_route
from tests.support.objects import PICTURES

PREFIX = "site/previews/"
KEY = "a/photo.png"
LONG = f"{'k' * 1016}.jpg"  # fits S3, but with no folder before it
#: What others keep in the bucket: where the pipeline would write without the prefix, and beside the prefix.
THEIRS = (f"resized/{KEY}", f"thumbs/{KEY}", f"failed/{KEY}.json", "site/index.html", "site/previews.html")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[PipelineModel]:
    routes = f"{own_route.__name__},pipeline.images"
    made = PipelineModel(monkeypatch, env={"OUTPUT_PREFIX": PREFIX, "ROUTES": routes})
    for name in THEIRS:
        made.s3.put(OUTPUT, name, b"theirs", metadata={"source-bucket": INPUT, "source-etag": "x"})
    yield made
    made.close()


def ours(model: PipelineModel) -> set[str]:
    return set(model.stored()) - set(THEIRS)


def audited(model: PipelineModel) -> AuditReport:
    with Audit(app.routes, INPUT, full=True) as run:
        return run.run()


def test_all_that_is_stored_is_below_it_from_the_upload_to_the_removal(model: PipelineModel) -> None:
    model.upload(KEY, PICTURES["red"])
    model.upload("broken.png", PICTURES["text"])
    model.upload("text.own", b"words")
    model.upload(LONG, PICTURES["red"])
    model.settle()
    stored = ours(model)
    assert {name for name in stored if "~sha256-" not in name} == {
        f"{PREFIX}resized/{KEY}",
        f"{PREFIX}thumbs/{KEY}",
        f"{PREFIX}failed/broken.png.json",
        f"{PREFIX}{own_route.UPPER.name('text.own')}",
        f"{PREFIX}{own_route.LENGTH.name('text.own')}",
    }
    assert len(stored) == 7
    assert all(name.startswith(PREFIX) and len(name.encode()) <= 1024 for name in stored)
    counts = audited(model).counts
    assert dict(counts) == {Status.DONE: 3, Status.FAILED: 1}

    model.upload("broken.png", PICTURES["red"])  # the record goes
    model.delete(KEY)
    model.delete("text.own")
    model.settle()
    assert {name for name in ours(model) if "~sha256-" not in name} == {
        f"{PREFIX}resized/broken.png",
        f"{PREFIX}thumbs/broken.png",
    }
    assert dict(audited(model).counts) == {Status.DONE: 2}
    assert set(THEIRS) <= set(model.stored())


def test_not_even_a_thorough_look_removes_what_is_theirs(model: PipelineModel) -> None:
    state = reconcile(Source(INPUT, KEY), app.routes, thorough=True)
    assert (state.current, state.removed) == (None, ())
    assert set(model.stored()) == set(THEIRS)


def test_only_what_is_below_it_is_the_pipeline_s_own(model: PipelineModel) -> None:
    assert app.routes.is_output(OUTPUT, f"{PREFIX}resized/{KEY}")
    assert app.routes.is_output(OUTPUT, f"{PREFIX}failed/{KEY}.json")
    assert not [name for name in THEIRS if app.routes.is_output(OUTPUT, name)]


@pytest.mark.parametrize("prefix", ["previews", "/previews/", "a//b/", "a b/", "ä/", f"{'a' * 200}/"])
def test_a_prefix_that_would_not_do_is_refused_at_start(prefix: str) -> None:
    with pytest.raises(ConfigError, match="OUTPUT_PREFIX="):
        Settings.from_env({"OUTPUT_PREFIX": prefix})


def test_the_list_of_settings_cannot_move_it(model: PipelineModel) -> None:
    with pytest.raises(ConfigError, match="OUTPUT_PREFIX=other/"):
        Settings.from_env({"OUTPUT_PREFIX": PREFIX, "PIPELINE_SETTINGS": "OUTPUT_PREFIX=other/"})

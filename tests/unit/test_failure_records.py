"""Failure records say what their schema says, for every error there is."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pipeline.core import errors
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.testing.s3 import S3Model
from tasks import failures

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "failure-record.schema.json").read_text())
PERMANENT = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PermanentError)
]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> S3Model:
    model = S3Model("in", "out")
    monkeypatch.setattr("pipeline.aws.clients.s3", lambda: model)
    return model


def record(s3: S3Model, source: Source, exc: BaseException, *, retryable: bool = False) -> dict[str, Any]:
    task: Any = SimpleNamespace(
        name="tasks.resize",
        request=SimpleNamespace(id="1-2-3", retries=2),
        app=SimpleNamespace(settings=Settings.from_env({"OUTPUT_BUCKET": "out"})),
    )
    failures.record(task, source, exc, retryable=retryable)
    stored = s3.buckets["out"].current(f"failed/{source.key}.json")
    assert stored is not None
    assert stored.content_type == "application/json"
    written: dict[str, Any] = json.loads(stored.data or b"")
    Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(written)
    assert stored.metadata["reason"] == written["reason"]
    return written


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("kind", PERMANENT, ids=lambda kind: kind.__name__)
def test_a_permanent_error_s_record(s3: S3Model, kind: type[errors.PermanentError]) -> None:
    made = s3.put("in", "ü/a b.jpg", b"x")
    written = record(s3, Source("in", "ü/a b.jpg", etag=made.etag, sequencer="0A", size=1), kind("It is so."))
    assert (written["reason"], written["advice"], written["retryable"]) == (kind.reason, kind.advice, False)
    assert written["attempts"] == 3


@pytest.mark.parametrize(
    ("exc", "retryable", "reason"),
    [
        (errors.TransientError("the store answered 503"), True, "unavailable"),
        (errors.ConfigError("no"), False, "refused"),
        (ZeroDivisionError("oops"), False, "internal-error"),
    ],
)
def test_any_other_error_s_record(s3: S3Model, exc: Exception, retryable: bool, reason: str) -> None:
    s3.put("in", "a.jpg", b"x")
    written = record(s3, Source("in", "a.jpg"), exc, retryable=retryable)
    assert (written["reason"], written["retryable"]) == (reason, retryable)
    assert written["source"]["etag"]  # of the version that is there


def test_reasons_are_the_schema_s() -> None:
    known = set(SCHEMA["properties"]["reason"]["enum"])
    assert {kind.reason for kind in PERMANENT} | {"unavailable", "refused", "internal-error"} == known


def test_nobody_needs_the_record_of_an_old_version(s3: S3Model) -> None:
    with pytest.raises(errors.ObjectGone):
        record(s3, Source("in", "a.jpg", etag="e"), errors.NotAnImage("no"))
    s3.put("in", "a.jpg", b"x")
    with pytest.raises(errors.ObjectChanged):
        record(s3, Source("in", "a.jpg", etag="e"), errors.NotAnImage("no"))
    assert s3.buckets["out"].existing() == []

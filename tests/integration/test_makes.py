"""A task, an output and a route of one function: from bytes to bytes, and from file to file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from examples import word_count
from pipeline.celery import app
from pipeline.core.errors import ConfigError
from pipeline.core.outputs import Output
from pipeline.core.routes import Route, Routes
from pipeline.operations.audit.audit import Audit
from pipeline.operations.audit.classify import Status
from pipeline.route_check import RouteCheck
from pipeline.testing.model import INPUT, OUTPUT, PipelineModel
from tasks import makes, makes_file

ROOT = Path(__file__).parents[2]


@makes_file("reversed/", match_suffixes=[".bin"], append_suffix=".rev", name="tests.reversed")
def backwards(source: Path, target: Path) -> None:
    """Also puts something beside, which nobody needs afterwards."""
    assert source.suffix == ".bin"
    assert os.listdir(source.parent) == [source.name]
    source.with_name("beside").write_bytes(b"-")
    data = source.read_bytes()
    if data == b"nothing":
        return
    target.write_bytes(data * 20 if data == b"much" else data[::-1])


ROUTES = [backwards.route]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[PipelineModel]:
    names = f"examples.word_count,{__name__},pipeline.images"
    made = PipelineModel(monkeypatch, env={"ROUTES": names, "MAX_FILE_BYTES": "50", "MAX_BYTES": "20"})
    yield made
    made.close()


def upload(model: PipelineModel, key: str, data: bytes) -> dict[str, bytes | None]:
    model.upload(key, data)
    model.settle()
    return {name: version.data for name, version in model.stored().items()}


def failed(model: PipelineModel, key: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(model.stored()[f"failed/{key}.json"].data or b"")
    return found


def test_the_words_of_a_text_in_under_ten_lines(model: PipelineModel) -> None:
    code = [line for line in Path(word_count.__file__).read_text().split('"""')[2].splitlines() if line.strip()]
    assert len(code) < 10
    assert word_count.word_count(b"a b") == b'{"words": 2}'  # it is still the function
    assert upload(model, "a/text.txt", b"one two three") == {"words/a/text.json": b'{"words": 3}'}
    stored = model.stored()["words/a/text.json"]
    assert (stored.content_type, stored.metadata["source-key"]) == ("application/json", "a/text.txt")
    assert upload(model, "a/text.txt", b"one") == {"words/a/text.json": b'{"words": 1}'}
    model.delete("a/text.txt")
    model.settle()
    assert model.stored() == {}


def test_of_two_objects_that_want_one_name_the_second_is_told_so(model: PipelineModel) -> None:
    upload(model, "a.txt", b"one two")
    assert upload(model, "a.TXT", b"one")["words/a.json"] == b'{"words": 2}'
    assert failed(model, "a.TXT")["reason"] == "name-taken"
    with Audit(Routes.load(model.settings), INPUT) as run:
        assert {status: count for status, count in run.run().counts.items() if count} == {
            Status.DONE: 1,
            Status.FAILED: 1,
        }
    model.delete("a.TXT")
    model.settle()
    assert set(model.stored()) == {"words/a.json"}  # it was not the other one's to take along


def test_audit_knows_names_without_the_object_s_ending(model: PipelineModel) -> None:
    for key in ("b.txt", "b.c.txt", "b-1.txt", "b.txt.txt", "b"):
        upload(model, key, b"one two")

    def audited(**options: Any) -> dict[Status, set[str]]:
        with Audit(Routes.load(model.settings), INPUT, examples=10, **options) as run:
            report = run.run()
        return {status: set(keys) for (status, _), keys in report.examples.items()}

    assert set(model.stored()) == {"words/b.json", "words/b.c.json", "words/b-1.json", "words/b.txt.json"}
    for full in (False, True):
        assert audited(full=full) == {Status.SKIPPED: {"b"}}
    model.s3.remove(INPUT, "b.c.txt")
    model.s3.remove(OUTPUT, "words/b.txt.json")
    for full in (False, True):
        assert audited(full=full) == {
            Status.SKIPPED: {"b"},
            Status.ORPHANED: {"b.c.txt"},
            Status.MISSING: {"b.txt.txt"},
        }


def test_a_file_goes_to_a_file(model: PipelineModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = bytes(range(30))  # more than MAX_BYTES, which is for what is in memory
    assert upload(model, "a.bin", data) == {"reversed/a.bin.rev": data[::-1]}
    assert list(tmp_path.iterdir()) == []
    assert upload(model, "a.bin", b"12") == {"reversed/a.bin.rev": b"21"}


@pytest.mark.parametrize(
    ("data", "reason", "says"),
    [
        (b"x" * 51, "too-large", "The file has 51 bytes; the limit MAX_FILE_BYTES is 50"),
        (b"much", "too-large", "What is made of it has 80 bytes, more than MAX_FILE_BYTES"),
        (b"nothing", "internal-error", "has written nothing"),
    ],
)
def test_a_file_that_can_not_be_made_is_a_record(
    model: PipelineModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: bytes, reason: str, says: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert set(upload(model, "a.bin", data)) == {"failed/a.bin.json"}
    assert failed(model, "a.bin")["reason"] == reason
    assert says in failed(model, "a.bin")["message"]
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_tried_again(model: PipelineModel, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, path: Path, *_: Any, **__: Any) -> None:
            self.path = path

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None: ...

        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.s3.storage.Path.open", lambda path, *_, **__: Full(path))
        assert set(upload(model, "a.bin", b"12")) == {"failed/a.bin.json"}
    record = failed(model, "a.bin")
    assert (record["reason"], record["retryable"], record["attempts"]) == ("unavailable", True, 3)
    assert "No space left on device" in record["message"]
    assert upload(model, "a.bin", b"123") == {"reversed/a.bin.rev": b"321"}


def test_an_output_that_no_task_writes_keeps_the_worker_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ModuleType("my_routes")
    more = Output(folder="more/")
    vars(made)["ROUTES"] = [
        Route(name="r", tasks=[backwards.task.name], outputs=[backwards.output, more], match_suffixes=[".bin"])
    ]
    monkeypatch.setitem(sys.modules, "my_routes", made)
    monkeypatch.setattr(
        app, "settings", app.settings.model_copy(update={"routes": ("my_routes",), "output_bucket": "o"})
    )

    class Parent:
        pass

    Parent.app = app  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"route 'r': none of its tasks writes more/"):
        RouteCheck(Parent).start(Parent)


def test_what_is_declared_twice_is_two_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longer form: two outputs of one object by two functions, in one chain."""

    @makes("one/", name="tests.one")
    def one(data: bytes) -> bytes:
        return data + b"1"

    @makes("two/", name="tests.two")
    def two(data: bytes) -> bytes:
        return data + b"2"

    made = ModuleType("my_routes")
    both = [one, two]
    vars(made)["ROUTES"] = [
        Route(
            name="both",
            match_suffixes=[".both"],
            tasks=[each.task.name for each in both],
            outputs=[each.output for each in both],
        )
    ]
    monkeypatch.setitem(sys.modules, "my_routes", made)
    model = PipelineModel(monkeypatch, env={"ROUTES": "my_routes"})
    try:
        assert upload(model, "a.both", b"x") == {"one/a.both": b"x1", "two/a.both": b"x2"}
    finally:
        model.close()

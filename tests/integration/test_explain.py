"""Everything about one object, for each of the things that can have become of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.__main__ import cli
from pipeline.aws import clients
from pipeline.core.errors import NotReadable
from pipeline.core.names import failure_key
from pipeline.core.routes import Routes
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.local.stack import INPUT_BUCKET, OUTPUT_BUCKET
from tests.support.queues import take_all, url
from tests.support.synthetic import Recipes
from tests.unit.test_dead_letters import task

KEY = "ü/a b+c 100%.jpg"
URI = f"s3://{INPUT_BUCKET}/{KEY}"


@pytest.fixture(autouse=True)
def settings(stack: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr("pipeline.operations.deadletters.queue.POLL_S", 0)
    return stack


def upload(body: bytes = b"x") -> str:
    etag = clients.s3().put_object(Bucket=INPUT_BUCKET, Key=KEY, Body=body)["ETag"].strip('"')
    take_all("local-events")
    return etag


def render(settings: Settings, etag: str, *prefixes: str, recipes: Recipes | None = None) -> None:
    made = Recipes.from_settings(settings) if recipes is None else recipes
    for prefix, recipe in (("resized/", made.resized), ("thumbs/", made.thumb)):
        if prefix in (prefixes or ("resized/", "thumbs/")):
            metadata = {"source-bucket": INPUT_BUCKET, "source-etag": etag, "recipe": recipe, "pixels": "4x3"}
            clients.s3().put_object(Bucket=OUTPUT_BUCKET, Key=prefix + KEY, Body=b"r", Metadata=metadata)


def fail(etag: str) -> None:
    record = {"reason": "truncated", "message": "It ends early.", "advice": "Upload it again.", "task_id": "1-2"}
    clients.s3().put_object(
        Bucket=OUTPUT_BUCKET,
        Key=failure_key(KEY),
        Body=json.dumps(record).encode(),
        Metadata={"source-etag": etag, "reason": "truncated", "source-bucket": INPUT_BUCKET},
    )


def dead_letter(body: str, reason: str) -> None:
    clients.sqs().send_message(
        QueueUrl=url("local-tasks-dlq"),
        MessageBody=body,
        MessageAttributes={"reason": {"DataType": "String", "StringValue": reason}},
    )


def explain(*options: str, uri: str = URI) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["explain", uri, *options])
    return result.exit_code, result.stdout, result.stderr


def as_json() -> tuple[int, dict[str, Any]]:
    status, out, _ = explain("--json")
    return status, json.loads(out)


def test_done(settings: Settings) -> None:
    etag = upload()
    render(settings, etag)
    status, out, err = explain()
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"object:     {URI}"
    assert "1 bytes, 20" in lines[1]
    assert lines[2] == "route:      images"
    assert lines[3].startswith(f"rendition:  resized/{KEY}: 4x3 pixels, 1 bytes, ")
    assert lines[3].endswith(f"; from {etag}: current version, current recipe")
    assert lines[4].startswith(f"rendition:  thumbs/{KEY}")
    assert lines[5] == (
        "verdict:    Done: all that it leads to is stored, made from the current version by the current recipe."
    )


def test_failed(settings: Settings) -> None:
    fail(upload())
    status, out, _ = explain()
    assert status == 0
    assert "failure:    truncated at None, task 1-2" in out
    assert out.endswith("verdict:    Failed: It ends early. Upload it again.\n")


def test_stale_because_of_a_newer_version(settings: Settings) -> None:
    render(settings, upload())
    upload(b"newer")
    status, out, _ = explain()
    assert status == 1
    assert out.count("ANOTHER VERSION, current recipe") == 2
    assert f"verdict:    Stale: the object is newer. Enqueue it: python -m pipeline backfill '{URI}'" in out


def test_stale_because_of_the_recipe(settings: Settings) -> None:
    render(settings, upload(), recipes=Recipes("old", "old.old"))
    status, known = as_json()
    assert (status, known["status"]) == (1, "stale")
    assert [each["by_the_current_recipe"] for each in known["renditions"]] == [False, False]


def test_missing(settings: Settings) -> None:
    etag = upload()
    assert "Missing: it waits in a queue, or its event never came." in explain()[1]
    render(settings, etag, "resized/")
    clients.sqs().send_message(QueueUrl=url("local-tasks"), MessageBody="x")
    status, out, _ = explain()
    assert status == 1
    assert "Missing (only a part of it: no thumbs/)" in out
    assert "queues:     1 message waiting; it may be among them" in out


def test_given_up(settings: Settings) -> None:
    upload()
    dead_letter(task({"bucket": INPUT_BUCKET, "key": KEY}), "the disk was full")
    dead_letter(task({"bucket": INPUT_BUCKET, "key": "another.jpg"}), "something else")
    status, out, _ = explain()
    assert status == 1
    assert "something else" not in out
    assert "dead:       tasks " in out
    assert "verdict:    Given up: the disk was full. Send it back: python -m pipeline deadletters redrive" in out
    assert as_json()[1]["dead_letters"][0]["objects"] == [URI]


def test_gone(settings: Settings) -> None:
    assert explain()[0] == 0
    render(settings, "e")
    status, known = as_json()
    assert (status, known["status"], known["version"]) == (1, "orphaned", None)
    assert "audit --repair removes it" in known["verdict"]


def test_not_selected() -> None:
    uri = f"s3://{INPUT_BUCKET}/notes.txt"
    clients.s3().put_object(Bucket=INPUT_BUCKET, Key="notes.txt", Body=b"x")
    status, out, _ = explain(uri=uri)
    assert status == 0
    assert "It is not processed: its key ends in none of SUFFIXES." in out


def test_what_can_t_be_found_out_is_said(settings: Settings) -> None:
    render(settings, upload())
    clients.s3().put_object(Bucket=OUTPUT_BUCKET, Key=failure_key(KEY), Body=b"{")
    clients.sqs().delete_queue(QueueUrl=url("local-tasks-dlq"))
    status, known = as_json()
    assert status == 0
    assert "its failure record is not JSON" in known["not_known"][0]
    assert "queue local-tasks-dlq does not exist" in known["not_known"][1]


def test_an_object_that_no_rule_can_look_at_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    def match(_: Routes, source: Source) -> None:
        raise NotReadable(f"{source.uri} is archived, so it can't be read.")

    upload()
    monkeypatch.setattr(Routes, "match", match)
    status, found = as_json()
    assert (status, found["status"]) == (1, "unreadable")
    assert found["verdict"].endswith(f"{URI} is archived, so it can't be read. {NotReadable.advice}")


@pytest.mark.parametrize(
    ("uri", "says"), [("a.jpg", "write s3://bucket/key"), ("s3://nowhere/a.jpg", "bucket nowhere does not exist")]
)
def test_no_answer_is_status_2(uri: str, says: str) -> None:
    status, out, err = explain(uri=uri)
    assert (status, out) == (2, "")
    assert says in err

"""What a dead letter is about, whatever it is."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.operations.deadletters.letter import GIVEN_UP, DeadLetter
from tests.unit.test_s3_event import s3_record, sns_wrapped

SOURCE = {"bucket": "in", "key": "ü b.jpg"}
SENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def letter(body: str, queue: str = "tasks", reason: str | None = None) -> DeadLetter:
    attributes = {} if reason is None else {"reason": {"DataType": "String", "StringValue": reason}}
    return DeadLetter(queue, "5fea7756-0ea4", "h", body, attributes, SENT, 3)


def task(argument: Any, *, encoding: str = "utf-8", name: str = "tasks.resize") -> str:
    inner = json.dumps([[argument], {}, {"chain": []}])
    if encoding == "base64":
        inner = base64.b64encode(inner.encode()).decode()
    return json.dumps(
        {"body": inner, "headers": {"task": name, "id": "1-2"}, "properties": {"body_encoding": encoding}}
    )


@pytest.mark.parametrize("encoding", ["utf-8", "base64"])
@pytest.mark.parametrize(
    "argument",
    [
        "s3://in/ü b.jpg",
        {"bucket": "in", "key": "ü b.jpg"},
        {"outcome": "done", "source": {"bucket": "in", "key": "ü b.jpg"}},
    ],
    ids=["uri", "source", "result"],
)
def test_a_task_names_its_object(argument: Any, encoding: str) -> None:
    found = letter(task(argument, encoding=encoding))
    assert [source.uri for source in found.sources()] == ["s3://in/ü b.jpg"]
    assert (found.task, found.task_id, found.example) == ("tasks.resize", "1-2", "s3://in/ü b.jpg")
    assert found.readable_body()["body"][0] == [argument]


def test_an_event_names_all_its_objects() -> None:
    body = json.dumps(sns_wrapped({"Records": [s3_record("a.jpg"), s3_record("b.jpg")]}))
    found = letter(body, "events")
    assert [source.uri for source in found.sources()] == ["s3://in/a.jpg", "s3://in/b.jpg"]
    assert found.task == "event"


def test_what_says_nothing_was_given_up_by_sqs() -> None:
    found = letter(task("s3://in/a.jpg"))
    assert found.reason == GIVEN_UP
    assert found.kind_of_reason == GIVEN_UP


def test_an_old_reason_is_not_that_of_a_message_which_sqs_has_given_up_since() -> None:
    message: Any = {
        "MessageId": "m",
        "ReceiptHandle": "h",
        "Body": task("s3://in/a.jpg"),
        "Attributes": {"SentTimestamp": "0", "DeadLetterQueueSourceArn": "arn:aws:sqs:eu-west-1:123456789012:tasks"},
        "MessageAttributes": {"reason": {"DataType": "String", "StringValue": "unknown task tasks.resize"}},
    }
    assert DeadLetter.of("tasks", message).reason == GIVEN_UP
    del message["Attributes"]["DeadLetterQueueSourceArn"]
    assert DeadLetter.of("tasks", message).reason == "unknown task tasks.resize"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("the message is not JSON: line 1 column 1 (char 0)", "the message is not JSON: line 7 column 12 (char 90)"),
        ("could not read s3://in/a b.jpg: 503", "could not read s3://out/ü.png: 503"),
        ("the key 'a' has 1025 bytes", "the key 'b' has 2000 bytes"),
        ("unknown id 5fea7756-0ea4-451a-a703-a558b933e274", "unknown id 6fea7756-0ea4-451a-a703-a558b933e275"),
    ],
)
def test_reasons_that_are_alike_are_counted_together(one: str, other: str) -> None:
    kinds = {letter("", reason=text).kind_of_reason for text in (one, other)}
    if "s3://in/a b.jpg" in one:  # a key may have a space: then only what is before it is left out
        kinds = {kind.split(">")[0] for kind in kinds}
    assert len(kinds) == 1


def test_reasons_that_differ_are_counted_apart() -> None:
    assert letter("", reason="not JSON").kind_of_reason != letter("", reason="not from S3").kind_of_reason


def test_a_name_with_a_digit_keeps_it() -> None:
    assert letter("", reason="no event of S3 at byte 17").kind_of_reason == "no event of S3 at byte N"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ENVELOPES = st.fixed_dictionaries({}, optional={"headers": JSON, "body": JSON, "properties": JSON, "Records": JSON})


@given(st.text(max_size=20) | JSON.map(json.dumps) | ENVELOPES.map(json.dumps), st.sampled_from(["events", "tasks"]))
def test_anything_can_be_shown(body: str, queue: str) -> None:
    found = letter(body, queue)
    assert json.dumps(found.to_json())
    json.dumps(found.readable_body())
    assert found.example

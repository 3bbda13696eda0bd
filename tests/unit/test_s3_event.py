"""The event parser: every envelope, every awkward key, and nothing but its own error for anything else."""

from __future__ import annotations

import contextlib
import json
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import MessageError
from pipeline.core.s3_event import EventKind, Notification, ObjectEvent, parse
from pipeline.core.source import MAX_KEY_BYTES, Source

KEYS = [
    "a.jpg",
    "with space.jpg",
    "a+b.jpg",
    "100%.jpg",
    "100%25.jpg",
    "räksmörgås/日本/🐈.jpg",
    "line\nbreak.jpg",
    "'\"<&>\\.jpg",
    "k" * (MAX_KEY_BYTES - 4) + ".jpg",
]


def s3_record(key: str, name: str = "ObjectCreated:Put", /, *, bucket: str = "in", **item: Any) -> dict[str, Any]:
    """A record as S3 sends it; `key` is not encoded yet."""
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "eu-west-1",
        "eventTime": "2026-01-02T03:04:05.678Z",
        "eventName": name,
        "s3": {
            "s3SchemaVersion": "1.0",
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {"key": quote_plus(key), "size": 7, "eTag": "e7a6", "sequencer": "0055AED6DCD90281E5"} | item,
        },
    }


def event_bridge(key: str, name: str = "Object Created") -> dict[str, Any]:
    return {
        "version": "0",
        "source": "aws.s3",
        "detail-type": name,
        "time": "2026-01-02T03:04:05Z",
        "detail": {
            "bucket": {"name": "in"},
            "object": {"key": key, "size": 7, "etag": "e7a6", "version-id": "v1", "sequencer": "0055AED6DCD90281E5"},
        },
    }


def sns_wrapped(body: object) -> dict[str, Any]:
    return {
        "Type": "Notification",
        "MessageId": "m",
        "TopicArn": "arn:aws:sns:eu-west-1:1:uploads",
        "Subject": "Amazon S3 Notification",
        "Message": json.dumps(body),
    }


def only(text: str) -> ObjectEvent:
    (event,) = parse(text).events
    return event


@pytest.mark.parametrize("key", KEYS, ids=lambda key: repr(key[:12]))
@pytest.mark.parametrize("wrap", [lambda body: body, sns_wrapped], ids=["sqs-or-raw-sns", "sns"])
def test_s3_keys_are_decoded_once_in_either_delivery(key: str, wrap: Any) -> None:
    event = only(json.dumps(wrap({"Records": [s3_record(key, versionId="v1")]})))
    assert event == ObjectEvent(
        EventKind.CREATED,
        "ObjectCreated:Put",
        Source("in", key, "v1", "e7a6", 7, "0055AED6DCD90281E5", "2026-01-02T03:04:05.678Z"),
    )


@pytest.mark.parametrize("key", KEYS, ids=lambda key: repr(key[:12]))
def test_event_bridge_keys_arrive_unencoded_and_stay_as_they_are(key: str) -> None:
    event = only(json.dumps(event_bridge(key)))
    assert event == ObjectEvent(
        EventKind.CREATED,
        "Object Created",
        Source("in", key, "v1", "e7a6", 7, "0055AED6DCD90281E5", "2026-01-02T03:04:05Z"),
    )


def test_a_message_may_carry_several_records_in_order() -> None:
    events = parse(json.dumps({"Records": [s3_record(key) for key in KEYS]})).events
    assert [event.source.key for event in events] == KEYS


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ObjectCreated:Put", EventKind.CREATED),
        ("ObjectCreated:CompleteMultipartUpload", EventKind.CREATED),
        ("s3:ObjectCreated:Copy", EventKind.CREATED),
        ("ObjectRemoved:Delete", EventKind.REMOVED),
        ("ObjectRemoved:DeleteMarkerCreated", EventKind.REMOVED),
        ("LifecycleExpiration:Delete", EventKind.REMOVED),
        ("ObjectRestore:Completed", EventKind.OTHER),
        ("ObjectTagging:Put", EventKind.OTHER),
    ],
)
def test_the_kind_follows_the_event_name(name: str, kind: EventKind) -> None:
    assert only(json.dumps({"Records": [s3_record("a.jpg", name)]})).kind is kind


def test_event_bridge_deletes_are_removals() -> None:
    assert only(json.dumps(event_bridge("a.jpg", "Object Deleted"))).kind is EventKind.REMOVED
    assert only(json.dumps(event_bridge("a.jpg", "Object Tags Added"))).kind is EventKind.OTHER


def test_what_an_event_leaves_out_is_not_known() -> None:
    record = s3_record("a.jpg", "ObjectRemoved:Delete")
    record["s3"]["object"] = {"key": "a.jpg"}
    del record["eventTime"]
    assert only(json.dumps({"Records": [record]})).source == Source("in", "a.jpg")


@pytest.mark.parametrize("version", ["null", ""])
def test_the_null_version_of_an_unversioned_bucket_is_no_version(version: str) -> None:
    assert only(json.dumps({"Records": [s3_record("a.jpg", versionId=version)]})).source.version_id is None


@pytest.mark.parametrize("wrap", [lambda body: body, sns_wrapped])
def test_the_test_event_is_understood(wrap: Any) -> None:
    event = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "in", "RequestId": "1"}
    assert parse(json.dumps(wrap(event))) == Notification(is_test=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("hello", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("null", "not an object"),
        ("[1]", "not an object"),
        ("{}", "no S3 event"),
        ('{"id": 1, "task": "x"}', "its fields are .*id.*task"),
        ('{"Records": [7]}', "not from S3: 7"),
        ('{"Records": [{"eventSource": "aws:ses"}]}', "not from S3"),
        ('{"Records": [{"eventSource": "aws:s3"}]}', "eventName is None"),
        ('{"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}]}', "no s3 object"),
        (json.dumps({"Records": [s3_record("")]}), "key is ''"),
        (json.dumps({"Records": [s3_record("a", size="7")]}), "size .* '7', not a number"),
        (json.dumps({"Records": [s3_record("a", size=-1)]}), "not a number"),
        (json.dumps({"Records": [s3_record("a", key="%ff")]}), "not percent-encoded UTF-8"),
        (json.dumps({"Records": [s3_record("a", key="\ud800")]}), "not valid Unicode"),
        (json.dumps({"Records": [s3_record("k" * 1025)]}), "1025 bytes, more than S3's 1024"),
        (json.dumps(sns_wrapped("x")), "not an object"),
        (json.dumps(sns_wrapped(sns_wrapped({"Records": []}))), "no S3 event"),
        (json.dumps(sns_wrapped({})).replace('"{}"', '"{"'), "SNS message inside is not JSON"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else None,
)
def test_what_is_no_event_is_refused_with_a_reason(text: str, says: str) -> None:
    with pytest.raises(MessageError, match=says):
        parse(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def refused_or_parsed(text: str) -> None:
    with contextlib.suppress(MessageError):
        assert isinstance(parse(text), Notification)


@given(st.binary())
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    refused_or_parsed(data.decode(errors="surrogateescape"))
    refused_or_parsed(data.decode("latin-1"))


@given(JSON)
def test_arbitrary_json_raises_nothing_else(value: Any) -> None:
    refused_or_parsed(json.dumps(value))
    refused_or_parsed(json.dumps(sns_wrapped(value)))
    refused_or_parsed(json.dumps({"Records": value}))
    refused_or_parsed(json.dumps({"Records": [value]}))


@given(st.data(), JSON)
def test_an_event_with_any_part_replaced_raises_nothing_else(data: st.DataObject, value: Any) -> None:
    """Damages one place of a real event, however deep."""
    event = data.draw(st.sampled_from([{"Records": [s3_record("a.jpg")]}, event_bridge("a.jpg")]))
    place: Any = event
    while True:
        name = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[name], dict | list) or data.draw(st.booleans()):
            break
        place = place[name]
    place[name] = value
    refused_or_parsed(json.dumps(event))


KEY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200).filter(
    lambda key: len(key.encode()) <= MAX_KEY_BYTES
)
SOURCES = st.builds(
    Source,
    bucket=st.from_regex(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", fullmatch=True),
    key=KEY,
    version_id=st.none() | st.from_regex(r"[A-Za-z0-9._-]{32}", fullmatch=True),
    etag=st.from_regex(r"[0-9a-f]{32}(-[0-9]{1,5})?", fullmatch=True),
    size=st.integers(0, 5 * 2**40),
    sequencer=st.none() | st.from_regex(r"[0-9A-F]{16,34}", fullmatch=True),
    event_time=st.just("2026-01-02T03:04:05.678Z"),
)


@given(st.lists(SOURCES, max_size=3), st.booleans())
def test_known_events_round_trip(sources: list[Source], wrapped: bool) -> None:
    records = []
    for source in sources:
        record = s3_record(source.key, size=source.size, eTag=source.etag)
        record["s3"]["bucket"]["name"] = source.bucket
        record["s3"]["object"] |= {"versionId": source.version_id, "sequencer": source.sequencer}
        records.append(record)
    body: dict[str, Any] = {"Records": records}
    text = json.dumps(sns_wrapped(body) if wrapped else body)
    assert [event.source for event in parse(text).events] == sources
    assert [Source.parse(source.to_json()) for source in sources] == sources

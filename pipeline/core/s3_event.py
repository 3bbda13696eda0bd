"""Parses a queue message: what happened to which objects. Pure: text in, values out.

Envelopes: S3 directly to SQS; through SNS, wrapped or with raw delivery; through EventBridge.
Sources of the formats:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import unquote_plus

from pipeline.core.errors import MessageError
from pipeline.core.source import Source, shortened


class EventKind(Enum):
    """What happened to an object."""

    CREATED = "created"
    REMOVED = "removed"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """One record of an event: what happened to which version of which object."""

    kind: EventKind
    name: str  # S3's name for it, for the log: "ObjectCreated:Put", "Object Deleted"
    source: Source


@dataclass(frozen=True, slots=True)
class Notification:
    """One queue message. For S3's test event ``events`` is empty and ``is_test`` is true."""

    events: tuple[ObjectEvent, ...] = ()
    is_test: bool = False


def parse(text: str) -> Notification:
    """Raises only ``MessageError``, for anything that isn't an S3 event."""
    return _notification(_json(text, "the message"), depth=0)


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise MessageError(f"{what} is not JSON: {exc}") from None


def _notification(body: Any, depth: int) -> Notification:
    if not isinstance(body, dict):
        raise MessageError(f"the message is a JSON {type(body).__name__}, not an object")
    if isinstance(body.get("Records"), list):
        return Notification(tuple(_from_s3(record) for record in body["Records"]))
    if body.get("Event") == "s3:TestEvent":
        return Notification(is_test=True)
    if body.get("source") == "aws.s3" and "detail-type" in body:
        return Notification((_from_event_bridge(body),))
    if isinstance(body.get("Message"), str) and "TopicArn" in body and depth == 0:
        return _notification(_json(body["Message"], "the SNS message inside"), depth + 1)
    raise MessageError(f"the message is no S3 event: its fields are {shortened(sorted(body))}")


def _from_s3(record: Any) -> ObjectEvent:
    if not isinstance(record, dict) or record.get("eventSource") not in ("aws:s3", None):
        raise MessageError(f"a record is not from S3: {shortened(record)}")
    name = _text(record, "eventName")
    entry = _object(record, "s3")
    item = _object(entry, "object")
    return ObjectEvent(
        kind=_kind(name),
        name=name,
        source=_source(
            bucket=_text(_object(entry, "bucket"), "name"),
            # Form-encoded by S3: "+" is a space, "%2B" a plus.
            key=_decoded(_text(item, "key")),
            item=item,
            names=("versionId", "eTag"),
            event_time=_text(record, "eventTime", optional=True),
        ),
    )


def _from_event_bridge(body: dict[str, Any]) -> ObjectEvent:
    name = _text(body, "detail-type")
    detail = _object(body, "detail")
    item = _object(detail, "object")
    return ObjectEvent(
        kind={"Object Created": EventKind.CREATED, "Object Deleted": EventKind.REMOVED}.get(name, EventKind.OTHER),
        name=name,
        source=_source(
            bucket=_text(_object(detail, "bucket"), "name"),
            key=_text(item, "key"),  # EventBridge's keys are not encoded
            item=item,
            names=("version-id", "etag"),
            event_time=_text(body, "time", optional=True),
        ),
    )


def _source(bucket: str, key: str, item: dict[str, Any], names: tuple[str, str], event_time: str | None) -> Source:
    version_id, etag = (_text(item, name, optional=True) for name in names)
    size = item.get("size")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        raise MessageError(f"the size of {shortened(key)} is {shortened(size)}, not a number of bytes")
    return Source(
        bucket=bucket,
        key=key,
        version_id=None if version_id == "null" else version_id,
        etag=None if etag is None else etag.strip('"'),
        size=size,
        sequencer=_text(item, "sequencer", optional=True),
        event_time=event_time,
    )


def _kind(event_name: str) -> EventKind:
    event_name = event_name.removeprefix("s3:")
    if event_name.startswith("ObjectCreated:"):
        return EventKind.CREATED
    # A lifecycle expiration removes the object just as a delete does.
    if event_name.startswith(("ObjectRemoved:", "LifecycleExpiration:")):
        return EventKind.REMOVED
    return EventKind.OTHER


def _decoded(key: str) -> str:
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        raise MessageError(f"the key {shortened(key)} is not percent-encoded UTF-8") from None


def _object(parent: dict[str, Any], name: str) -> dict[str, Any]:
    value = parent.get(name)
    if not isinstance(value, dict):
        raise MessageError(f"the event has no {name} object where there should be one: {shortened(parent)}")
    return value


def _text(parent: dict[str, Any], name: str, *, optional: bool = False) -> Any:
    """A non-empty string, or None if it is optional and absent."""
    value = parent.get(name)
    if optional and value in (None, ""):
        return None
    if not isinstance(value, str) or not value:
        raise MessageError(f"the event's {name} is {shortened(value)}, not text")
    return value

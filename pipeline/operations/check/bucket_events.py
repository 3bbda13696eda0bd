"""Checks a bucket's notifications: each upload and removal sends an event with the right key."""

from __future__ import annotations

import time
from typing import Any

from pipeline.aws import clients
from pipeline.core.errors import MessageError
from pipeline.core.s3_event import EventKind, ObjectEvent, parse
from pipeline.operations.check.guarantee import Broken, Guarantee
from pipeline.operations.check.messages import awaited
from pipeline.operations.check.place import Place

#: A key with the characters that S3 encodes in events: blanks as "+", and so "+" itself, and everything but ASCII.
AWKWARD = "a b+c/100% \u00e9 & \U0001f600.jpg"


def round_trip(place: Place) -> str:
    """Checks both kinds of event, since they share a queue: an upload, then its removal."""
    bucket = place.own_bucket("events")
    url, arn = place.open_queue("events", "s3.amazonaws.com")
    s3 = clients.client("s3")
    _notify(s3, bucket, arn, place.patience_s)
    etag = s3.put_object(Bucket=bucket, Key=AWKWARD, Body=b"x")["ETag"].strip('"')
    created = _event(url, EventKind.CREATED, place.patience_s)
    if created.source.key != AWKWARD:
        raise Broken(f"the event of an upload has the key {created.source.key!r}")
    if created.source.etag != etag:
        raise Broken("the event of an upload has another ETag than the object")
    s3.delete_object(Bucket=bucket, Key=AWKWARD)
    try:
        removed = _event(url, EventKind.REMOVED, place.patience_s)
    except Broken as exc:
        raise Broken(f"an upload sends an event, but its removal does not: {exc}") from exc
    if removed.source.key != AWKWARD:
        raise Broken(f"the event of a removal has the key {removed.source.key!r}")
    sequencer = "with" if created.source.sequencer else "without"
    return f"an upload and its removal sent events, with an awkward key, {sequencer} a sequencer"


def _notify(s3: Any, bucket: str, queue: str, patience_s: float) -> None:
    """Retries: S3 tests the queue first, and its policy may take a minute to apply."""
    wanted = {"QueueConfigurations": [{"QueueArn": queue, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}]}
    deadline = time.monotonic() + patience_s
    while True:
        try:
            s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=wanted)
        except s3.exceptions.ClientError:
            if time.monotonic() > deadline:
                raise
            time.sleep(5)
        else:
            return


def _event(url: str, kind: EventKind, within_s: float) -> ObjectEvent:
    def is_wanted(message: dict[str, Any]) -> bool:
        try:
            return any(event.kind is kind for event in parse(message["Body"]).events)
        except MessageError as exc:
            raise Broken(f"an event can't be parsed: {exc}") from exc

    message = awaited(url, within_s, is_wanted)
    return next(event for event in parse(message["Body"]).events if event.kind is kind)


GUARANTEES = (
    Guarantee(
        "events of a bucket",
        "uploads would not be processed automatically, or renditions of removed objects would stay: backfill and "
        "`audit --repair` from time to time do both",
        round_trip,
    ),
)

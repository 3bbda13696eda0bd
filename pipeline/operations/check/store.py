"""Checks the object store: conditional requests, exact reads, the order of listings, metadata."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import ClientError

from pipeline.aws import clients
from pipeline.aws.errors import status
from pipeline.operations.check.guarantee import Broken, Guarantee
from pipeline.operations.check.place import Place

#: Number of concurrent writers.
RIVALS = 8
#: Statuses of a conditional write that lost the race; 409 asks for a retry.
_LOST = (409, 412)
#: These sort differently by bytes, by UTF-16 and without regard to case, or break in URLs, XML or with "+".
NAMES = (
    *("A.jpg", "B.jpg", "a.jpg", "a b.jpg", "a+b.jpg", "a%20b.jpg", "a&b<c>.jpg", "a/b.jpg", "a0.jpg", "ab.jpg"),
    *("é.jpg", "\uff5e.jpg", "\U0001f600.jpg"),
)


def _race(attempt: Callable[[int], None]) -> list[int | None]:
    """The HTTP status of each refused attempt; None for each accepted one."""

    def one(number: int) -> int | None:
        try:
            attempt(number)
        except ClientError as exc:
            if status(exc) not in _LOST:
                raise
            return status(exc)
        return None

    with ThreadPoolExecutor(RIVALS) as pool:
        return list(pool.map(one, range(RIVALS)))


def _one_winner(found: list[int | None], what: str) -> str:
    winners = found.count(None)
    if winners != 1:
        raise Broken(f"{winners} of {RIVALS} {what} at the same time were accepted, not one")
    return f"one of {RIVALS} {what} at the same time was accepted"


def first_write(place: Place) -> str:
    return _one_winner(_race(lambda number: _put(place, "first", number, IfNoneMatch="*")), "first writes")


def replacing_write(place: Place) -> str:
    etag = place.put("replaced", b"before")
    return _one_winner(_race(lambda number: _put(place, "replaced", number, IfMatch=etag)), "replacements")


def _put(place: Place, name: str, number: int, **condition: Any) -> None:
    place.put(name, f"by {number}".encode(), **condition)


def exact_read(place: Place) -> str:
    s3, bucket, key = clients.client("s3"), place.objects(), place.prefix + "read"
    old = place.put("read", b"old")
    new = place.put("read", b"new")
    try:
        s3.get_object(Bucket=bucket, Key=key, IfMatch=old)
    except ClientError as exc:
        if status(exc) != 412:
            raise
    else:
        raise Broken("an overwritten object can still be read by its earlier ETag")
    if s3.get_object(Bucket=bucket, Key=key, IfMatch=new)["Body"].read() != b"new":
        raise Broken("after a write, a read still returns the bytes of the earlier version")
    return "an older version is refused, the newest is read at once"


def listing(place: Place) -> str:
    s3, bucket, prefix = clients.client("s3"), place.objects(), f"{place.prefix}listed/"
    for name in NAMES:
        place.put(f"listed/{name}")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, PaginationConfig={"PageSize": 3})
    found = [entry["Key"].removeprefix(prefix) for page in pages for entry in page.get("Contents", [])]
    if sorted(found) != sorted(NAMES):
        wrong = sorted(set(found) ^ set(NAMES))
        raise Broken(f"a listing by pages has other keys than were written, for example {wrong[:1]}, or has some twice")
    if found != sorted(NAMES, key=str.encode):
        raise Broken(f"keys are not listed in the order of their UTF-8 bytes, but so: {', '.join(found)}")
    after = s3.list_objects_v2(Bucket=bucket, Prefix=prefix, StartAfter=f"{prefix}a b.jpg").get("Contents", [])
    if [entry["Key"].removeprefix(prefix) for entry in after] != found[found.index("a b.jpg") + 1 :]:
        raise Broken("a listing with StartAfter starts at another key")
    return f"{len(found)} awkward keys in the order of their bytes, across pages"


def metadata(place: Place) -> str:
    given = {"source-etag": "0123", "source-size": "4032x3024", "recipe": "2f0c.77e1"}
    place.put("described", b"x", Metadata=given, ContentType="image/jpeg")
    found = clients.client("s3").head_object(Bucket=place.objects(), Key=place.prefix + "described")
    if found["Metadata"] != given or found["ContentType"] != "image/jpeg":
        raise Broken(f"metadata comes back as {found['Metadata']}, {found['ContentType']}")
    return "metadata and content type come back as they were written"


def removal(place: Place) -> str:
    s3, bucket = clients.client("s3"), place.objects()
    keys = [f"{place.prefix}gone/{name}" for name in NAMES]
    for name in NAMES:
        place.put(f"gone/{name}")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True})
    if answer.get("Errors"):
        raise Broken(f"an object could not be removed: {answer['Errors'][0]}")
    for key in keys:
        try:
            s3.head_object(Bucket=bucket, Key=key)
        except ClientError as exc:
            if status(exc) != 404:
                raise
        else:
            raise Broken(f"{key} is still there after it was removed")
    return f"{len(keys)} awkward keys removed by one request, and gone at once"


GUARANTEES = (
    Guarantee(
        "conditional first write",
        "two workers on one upload would overwrite each other, and an older version could replace a newer one",
        first_write,
    ),
    Guarantee(
        "conditional replacement",
        "a late write could replace a newer rendition",
        replacing_write,
    ),
    Guarantee("exact read", "renditions could be made from another version than they say", exact_read),
    Guarantee("order of listings", "audit refuses to compare the buckets, and adopt could leave keys out", listing),
    Guarantee("metadata", "nothing could tell what a rendition was made from, and whether it is done", metadata),
    Guarantee("removal of objects", "renditions of removed objects would stay", removal),
)

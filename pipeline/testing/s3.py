"""What S3 does with objects, in memory, behind the methods of a boto3 client: conditions, versions, listings.

Only what the pipeline calls, and only as S3 documents it. ``stop`` is called before each operation: there a
test lets other things happen, fails the operation, or ends the caller.
"""

# ruff: noqa: N803 - named as boto3's arguments are
from __future__ import annotations

import hashlib
import io
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
MAX_KEY_BYTES = 1024


@dataclass(frozen=True)
class Version:
    """``data`` None: a delete marker. ``size`` may be told without keeping any bytes."""

    version_id: str
    data: bytes | None
    etag: str = ""
    modified: datetime = EPOCH
    metadata: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "binary/octet-stream"
    size: int = 0


@dataclass
class Bucket:
    versions: dict[str, list[Version]] = field(default_factory=dict)  # by key, the newest last
    _sorted: list[str] | None = None

    def current(self, key: str) -> Version | None:
        versions = self.versions.get(key)
        return versions[-1] if versions and versions[-1].data is not None else None

    def existing(self) -> list[str]:
        """Of existing objects, in UTF-8's order."""
        if self._sorted is None:
            self._sorted = sorted((key for key in self.versions if self.current(key)), key=str.encode)
        return self._sorted

    def push(self, key: str, version: Version) -> None:
        self.versions.setdefault(key, []).append(version)
        self._sorted = None

    def pop(self, key: str) -> Version:
        """Deletes the newest version for good."""
        self._sorted = None
        return self.versions[key].pop()


def error(operation: str, code: str, status: int) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "…"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        operation,
    )


class S3Model:
    """``now`` is the clock, whose seconds are all that S3 tells of a time."""

    def __init__(self, *buckets: str, now: Callable[[], datetime] = lambda: EPOCH) -> None:
        self.buckets = {name: Bucket() for name in buckets}
        self.requests: Counter[str] = Counter()
        self.stop: Callable[[str, str], AbstractContextManager[None]] = lambda operation, key: nullcontext()
        self.page_size = 1000
        self._now = now
        self._serial = 0

    def put(
        self, bucket: str, key: str, data: bytes, *, metadata: Mapping[str, str] | None = None, content_type: str = ""
    ) -> Version:
        """Stores without a request."""
        self._serial += 1
        version = Version(
            version_id=f"v{self._serial}",
            data=data,
            etag=hashlib.md5(data, usedforsecurity=False).hexdigest(),
            modified=self._now().replace(microsecond=0),
            metadata=dict(metadata or {}),
            content_type=content_type,
            size=len(data),
        )
        self.buckets[bucket].push(key, version)
        return version

    def remove(self, bucket: str, key: str) -> str:
        """Puts a delete marker; returns its version id."""
        self._serial += 1
        self.buckets[bucket].push(key, Version(f"v{self._serial}", None))
        return f"v{self._serial}"

    def _bucket(self, operation: str, name: str) -> Bucket:
        if name not in self.buckets:
            bare = operation.startswith("Head")  # its answers have no body, so no code
            raise error(operation, "404" if bare else "NoSuchBucket", 404)
        return self.buckets[name]

    def head_bucket(self, Bucket: str) -> dict[str, Any]:
        self.requests["HeadBucket"] += 1
        with self.stop("HeadBucket", ""):
            self._bucket("HeadBucket", Bucket)
        return {}

    def head_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        self.requests["HeadObject"] += 1
        with self.stop("HeadObject", Key):
            found = self._bucket("HeadObject", Bucket).current(Key)
            if found is None:
                raise error("HeadObject", "404", 404)
            return _answer(found)

    def get_object(self, Bucket: str, Key: str, IfMatch: str | None = None, Range: str | None = None) -> dict[str, Any]:
        self.requests["GetObject"] += 1
        with self.stop("GetObject", Key):
            found = self._bucket("GetObject", Bucket).current(Key)
            if found is None:
                raise error("GetObject", "NoSuchKey", 404)
            if IfMatch is not None and IfMatch.strip('"') != found.etag:
                raise error("GetObject", "PreconditionFailed", 412)
            data = found.data or b""
            if Range is not None:
                first, _, last = Range.removeprefix("bytes=").partition("-")
                if int(first) >= len(data):
                    raise error("GetObject", "InvalidRange", 416)
                data = data[int(first) : int(last) + 1]
            return _answer(found) | {"Body": io.BytesIO(data)}

    def put_object(
        self,
        Bucket: str,
        Key: str,
        Body: Any,  # bytes, or a file
        ContentType: str = "",
        Metadata: Mapping[str, str] | None = None,
        IfMatch: str | None = None,
        IfNoneMatch: str | None = None,
        CacheControl: str | None = None,
    ) -> dict[str, Any]:
        self.requests["PutObject"] += 1
        with self.stop("PutObject", Key):
            there = self._bucket("PutObject", Bucket).current(Key)
            if len(Key.encode()) > MAX_KEY_BYTES:
                raise error("PutObject", "KeyTooLongError", 400)
            if IfMatch is not None and there is None:
                raise error("PutObject", "NoSuchKey", 404)
            if IfMatch is not None and there is not None and IfMatch.strip('"') != there.etag:
                raise error("PutObject", "PreconditionFailed", 412)
            if IfNoneMatch == "*" and there is not None:
                raise error("PutObject", "PreconditionFailed", 412)
            data = Body.read() if hasattr(Body, "read") else bytes(Body)
            version = self.put(Bucket, Key, data, metadata=Metadata, content_type=ContentType)
            return {"ETag": f'"{version.etag}"', "VersionId": version.version_id}

    def delete_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        self.requests["DeleteObject"] += 1
        with self.stop("DeleteObject", Key):
            bucket = self._bucket("DeleteObject", Bucket)
            if bucket.current(Key) is not None:
                self.remove(Bucket, Key)
        return {}

    def delete_objects(self, Bucket: str, Delete: Mapping[str, Any]) -> dict[str, Any]:
        self.requests["DeleteObjects"] += 1
        with self.stop("DeleteObjects", ""):
            bucket = self._bucket("DeleteObjects", Bucket)
            for item in Delete["Objects"]:
                if bucket.current(item["Key"]) is not None:
                    self.remove(Bucket, item["Key"])
        return {}

    def list_objects_v2(
        self,
        Bucket: str,
        Prefix: str = "",
        StartAfter: str = "",
        ContinuationToken: str | None = None,
    ) -> dict[str, Any]:
        self.requests["ListObjectsV2"] += 1
        with self.stop("ListObjectsV2", Prefix):
            bucket = self._bucket("ListObjectsV2", Bucket)
            keys = bucket.existing()
            after = StartAfter if ContinuationToken is None else ContinuationToken
            start = max(
                bisect_left(keys, Prefix.encode(), key=str.encode), bisect_right(keys, after.encode(), key=str.encode)
            )
            page = [key for key in keys[start : start + self.page_size] if key.startswith(Prefix)]
            more = start + len(page) < len(keys) and keys[start + len(page)].startswith(Prefix)
            contents = []
            for key in page:
                found = bucket.current(key)
                if found is None:
                    continue
                contents.append(
                    {"Key": key, "ETag": f'"{found.etag}"', "Size": found.size, "LastModified": found.modified}
                )
            answer: dict[str, Any] = {"Contents": contents, "IsTruncated": more} if contents else {"IsTruncated": False}
            return answer | ({"NextContinuationToken": page[-1]} if more else {})


def _answer(found: Version) -> dict[str, Any]:
    return {
        "ETag": f'"{found.etag}"',
        "ContentLength": found.size,
        "LastModified": found.modified,
        "VersionId": found.version_id,
        "ContentType": found.content_type,
        "Metadata": dict(found.metadata),
    }

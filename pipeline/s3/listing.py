"""Lists a bucket, and verifies the order of keys: comparing listings and continuing after a key depend on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pipeline.aws import clients
from pipeline.core.errors import PipelineError
from pipeline.s3.storage import Found, storage_errors


class UnorderedListing(PipelineError):
    """The store does not list keys in the order of their UTF-8 bytes, or repeats pages."""


def list_objects(
    bucket: str, prefix: str = "", *, after: str = "", on_request: Callable[[str], None] = lambda _: None
) -> Iterator[Found]:
    """The objects whose keys begin with ``prefix`` and come after ``after``, in order.

    ``on_request`` is called with the operation's name for each page. Raises ``PipelineError``: ``UnorderedListing``
    for a listing that would never end, or would miss objects when continued after a key.
    """
    request: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
    if after:
        request["StartAfter"] = after
    last, token = after, None
    while True:
        on_request("ListObjectsV2")
        with storage_errors("list", f"s3://{bucket}/{prefix}"):
            page = clients.s3().list_objects_v2(**request)
        for item in page.get("Contents", []):
            key = item["Key"]
            if key <= last:  # Python compares code points, which is the order of UTF-8's bytes
                raise _unordered(bucket, f"lists {key!r} after {last!r}")
            last = key
            yield Found(key, item["ETag"].strip('"'), item["Size"], item["LastModified"])
        if not page.get("IsTruncated"):
            return
        if page["NextContinuationToken"] == token:
            raise _unordered(bucket, f"has no more pages after {last!r}, and says that it has")
        token = request["ContinuationToken"] = page["NextContinuationToken"]


def _unordered(bucket: str, what: str) -> UnorderedListing:
    return UnorderedListing(
        f"the store of bucket {bucket} {what}: its listing can't be relied on. Use a store that lists keys in the "
        "order of their UTF-8 bytes, as S3's general purpose buckets do"
    )

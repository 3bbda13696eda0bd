"""Keeps a task's stored output in memory, so that the chain's next task in this process need not read it.

It keeps what a read would return: the same bytes, ETag and metadata. In another process, the next task reads the stored
object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipeline.core.source import Source
from pipeline.s3.storage import Found, Stored
from pipeline.sqs.carried import carried, carry

if TYPE_CHECKING:
    from tasks.base import ObjectTask


@dataclass(frozen=True, slots=True)
class Handover:
    bucket: str
    stored: Stored
    seen_at: float  # when the version that this was made from was last seen to be current (``convergence.clock()``)

    def is_of(self, wanted: Source) -> bool:
        found = self.stored.found
        return (self.bucket, found.key, found.etag) == (wanted.bucket, wanted.key, wanted.etag)


def leave(
    task: ObjectTask,
    bucket: str,
    key: str,
    etag: str,
    data: bytes,
    *,
    content_type: str,
    metadata: Mapping[str, str],
    seen_at: float,
) -> None:
    now = datetime.now(UTC)
    found = Found(key, etag, len(data), now, content_type=content_type, metadata=metadata)
    carry(task, Handover(bucket, Stored(data, found, metadata), seen_at), len(data))


def found(task: ObjectTask) -> Handover | None:
    left = carried(task)
    return left if isinstance(left, Handover) else None

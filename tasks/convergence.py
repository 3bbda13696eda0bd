"""Makes the output bucket converge to the newest version of each object, in any order of work.

The common case costs nothing extra: the first write succeeds, on the condition that no object has its name. Other cases
are rare, and cost requests:

- A write that finds a stored object reads its metadata, decides again, and then checks the source again.
- A write that is stored too long after the last check of the source checks it again, too.
- Whenever something was removed, failed, or was outdated, a second look follows after ``FOLLOW_UP_S``. It sees every
  write that was stored in time. It also repairs what was removed or replaced by mistake, because the source changed
  meanwhile, or by a try that was lost.

``tasks.cleanup.reconcile`` is that second look: it compares the stored outputs with the object's current version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic

from pipeline.core.errors import NameTaken, ObjectChanged, ObjectGone, TransientError
from pipeline.core.outputs import StoredName
from pipeline.core.provenance import Provenance
from pipeline.core.source import Source
from pipeline.s3 import storage
from pipeline.s3.shortcut import Shortcut
from tasks.outcome import Outcome

#: A write that is stored within this many seconds after a check of the source needs no other check.
LANDS_WITHIN_S = 60.0
#: Seconds from a removal or a failure record to the second look; above LANDS_WITHIN_S, with room for clock differences.
FOLLOW_UP_S = 90
#: How often a write decides again because of concurrent writes, before the task is retried later.
MAX_TURNS = 8


def clock() -> float:
    """Seconds; tests set it."""
    return monotonic()


@dataclass(slots=True)
class FreshnessCheck:
    """When the source was last seen to be the version that is processed (in the time of ``clock()``)."""

    is_current: Callable[[], bool]  # looks again
    seen_at: float = field(default_factory=clock)

    def look_again(self) -> bool:
        now = clock()
        if not self.is_current():
            return False
        self.seen_at = now
        return True

    @property
    def is_too_old(self) -> bool:
        return clock() - self.seen_at > LANDS_WITHIN_S


def write_newest(
    bucket: str,
    name: StoredName,
    data: bytes | Path,
    *,
    content_type: str,
    cache_control: str | None = None,
    source: Source,
    made: Provenance,
    facts: Mapping[str, str],
    freshness: FreshnessCheck,
    shortcut: Shortcut | None = None,
) -> tuple[Outcome, str]:
    """Writes a rendition unless it is there already; returns what happened, and the ETag of the stored object.

    Raises ``ObjectChanged`` if a newer one is stored, ``NameTaken`` if another object's is, and ``TransientError``.
    """
    key = name.name
    replaces: str | None = None
    for _ in range(MAX_TURNS):
        try:
            etag = storage.write(
                bucket,
                key,
                data,
                content_type=content_type,
                cache_control=cache_control,
                metadata=made.metadata() | name.metadata() | dict(facts),
                new=replaces is None,
                replaces=replaces,
                shortcut=shortcut,
            )
        except storage.Conflict:
            pass
        else:
            # The replaced object had the expected ETag, but may be another version's: an ETag identifies bytes, and a
            # newer version may have the same bytes as an older one.
            if (replaces is not None or freshness.is_too_old) and not freshness.look_again():
                raise ObjectChanged(f"{source.uri} was overwritten while it was being processed")
            return Outcome.DONE, etag
        there = storage.head(bucket, key)
        if there is None:
            replaces = None
            continue
        found = Provenance.read(there.metadata)
        if found.is_rendition and not name.holds(found, source.bucket):
            of = "another object" if found.bucket in (None, source.bucket) else f"an object of bucket {found.bucket}"
            raise NameTaken(f"The name {key} belongs to the rendition of {of}.")
        if (found.etag, found.recipe) == (made.etag, made.recipe):
            return Outcome.DUPLICATE, there.etag
        if not found.is_older(source) and not freshness.look_again():
            raise ObjectChanged(f"{source.uri} was overwritten while it was being processed")
        replaces = there.etag
    raise TransientError(f"s3://{bucket}/{key}: too many concurrent writes ({MAX_TURNS} attempts)")


def resolve_current(source: Source) -> Source:
    """The object's newest version, if that is the version in ``source``.

    Raises ``ObjectGone``, ``ObjectChanged`` and ``TransientError``.
    """
    now = storage.current(source.bucket, source.key)
    if now is None:
        raise ObjectGone(f"{source.uri} does not exist")
    if source.etag not in (None, now.etag):
        raise ObjectChanged(f"{source.uri} was overwritten after its event was sent")
    return replace(source, etag=now.etag, version_id=now.version_id, size=now.size)

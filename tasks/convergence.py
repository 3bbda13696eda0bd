"""The output bucket converges to the newest version of each object, in whatever order the work is done.

The common case pays nothing for it: what is written for the first time is written at once, under the condition
that nothing is there. Everything else is rare, and pays:

- A write that finds something there looks at it, decides again, and looks at the source again afterwards.
- So does a write that landed late, too long after its source was last seen.
- One that landed in time is seen by the second look which follows, ``FOLLOW_UP_S`` later, whenever something was
  removed, failed, or turned out to be outdated. That look also finds what was removed or replaced wrongly, because
  the source changed meanwhile, or by a try of which nothing more is known.

``reconcile`` is such a look. It compares what is stored with the object as it is now, and removes what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from time import monotonic

from pipeline.aws import storage
from pipeline.aws.storage import Found
from pipeline.core.errors import NameTaken, ObjectChanged, ObjectGone, TransientError
from pipeline.core.names import FAILED_PREFIX, failure_key, key_metadata
from pipeline.core.provenance import Provenance
from pipeline.core.routes import Output, Routes
from pipeline.core.source import Source
from tasks.matching import output_sets

#: Seconds after a look at the source within which a write may land without being checked.
LANDS_WITHIN_S = 60.0
#: Seconds after a removal or a failure record of the second look; above LANDS_WITHIN_S, with room for clocks.
FOLLOW_UP_S = 90
#: Times that a decision is made anew when others write at the same time, before it is left for later.
MAX_TURNS = 8


def clock() -> float:
    """Seconds; tests set it."""
    return monotonic()


class Wrote(Enum):
    DONE = "done"
    DUPLICATE = "duplicate"  # the same rendition was there already


@dataclass(slots=True)
class Sight:
    """When the source was last seen to be what is being worked on (``clock()``)."""

    is_current: Callable[[], bool]  # looks again
    seen_at: float = field(default_factory=clock)

    def again(self) -> bool:
        now = clock()
        if not self.is_current():
            return False
        self.seen_at = now
        return True

    @property
    def is_too_old(self) -> bool:
        return clock() - self.seen_at > LANDS_WITHIN_S


def put(
    bucket: str,
    key: str,
    data: bytes,
    *,
    content_type: str,
    cache_control: str | None = None,
    source: Source,
    made: Provenance,
    facts: Mapping[str, str],
    sight: Sight,
) -> tuple[Wrote, str]:
    """Writes a rendition unless it is there already; returns what happened, and the ETag of what is there now.

    Raises ``ObjectChanged`` where a newer one is, ``NameTaken`` where another object's is, and ``TransientError``.
    """
    replaces: str | None = None
    for _ in range(MAX_TURNS):
        try:
            etag = storage.write(
                bucket,
                key,
                data,
                content_type=content_type,
                cache_control=cache_control,
                metadata=made.metadata() | key_metadata(key, source.key) | dict(facts),
                new=replaces is None,
                replaces=replaces,
            )
        except storage.Conflict:
            pass
        else:
            # What was replaced had the ETag of what was looked at. It may still be something else: an ETag is one of
            # bytes, and a newer version may look the same as an older one.
            if (replaces is not None or sight.is_too_old) and not sight.again():
                raise ObjectChanged(f"{source.uri} was overwritten while it was being processed")
            return Wrote.DONE, etag
        there = storage.head(bucket, key)
        if there is None:
            replaces = None
            continue
        found = Provenance.read(there.metadata)
        if found.is_rendition and not found.is_for(source.bucket, made.key_suffix):
            raise NameTaken(f"The name {key} belongs to the rendition of another object.")
        if (found.etag, found.recipe) == (made.etag, made.recipe):
            return Wrote.DUPLICATE, there.etag
        if not found.is_older(source) and not sight.again():
            raise ObjectChanged(f"{source.uri} was overwritten while it was being processed")
        replaces = there.etag
    raise TransientError(f"s3://{bucket}/{key}: others write it all the time")


def as_it_is_now(source: Source) -> Source:
    """The object's newest version, if that is what ``source`` names.

    Raises ``ObjectGone``, ``ObjectChanged`` and ``TransientError``.
    """
    now = storage.current(source.bucket, source.key)
    if now is None:
        raise ObjectGone(f"{source.uri} does not exist")
    if source.etag not in (None, now.etag):
        raise ObjectChanged(f"{source.uri} was overwritten after its event was sent")
    return replace(source, etag=now.etag, version_id=now.version_id, size=now.size)


@dataclass(frozen=True, slots=True)
class State:
    """What ``reconcile`` found and left behind."""

    current: Found | None  # the source
    is_complete: bool  # all that its route leaves is there, of the current version
    has_failed: bool  # a failure record of the current version is there
    removed: tuple[str, ...]

    @property
    def needs_work(self) -> bool:
        """Nothing is stored of the current version: it has still to be processed, or to be processed again."""
        return self.current is not None and not (self.is_complete or self.has_failed)


def reconcile(source: Source, routes: Routes, *, thorough: bool = False) -> State:
    """Removes what the output bucket holds of an object and should not: see the module's text.

    ``thorough``: also under the names that it has with other settings or routes, and also where the object is gone
    and DELETE_RENDITIONS is off. Raises ``TransientError``.
    """
    settings = routes.settings
    bucket = settings.required("output_bucket")
    current = storage.current(source.bucket, source.key)
    held = _held(bucket, source, routes.outputs(source.key, ever=thorough or current is None))
    results: list[frozenset[str]] = []
    if current is not None:
        now = Source(source.bucket, source.key, etag=current.etag, size=current.size)
        results = [frozenset(output.name(source.key) for output in result) for result in output_sets(routes, now)]
    remove_orphans = thorough or settings.delete_renditions
    wrong, is_complete, has_failed = judge(current, held, results, remove_orphans=remove_orphans)
    if wrong:
        storage.delete(bucket, wrong)
    return State(current, is_complete, has_failed, tuple(wrong))


def _held(bucket: str, source: Source, outputs: Iterable[Output]) -> dict[str, Provenance]:
    """What is stored of this object, by key."""
    held = {}
    for output in outputs:
        there = storage.head(bucket, output.name(source.key))
        if there is not None and (made := Provenance.read(there.metadata)).is_for(source.bucket, output.append_suffix):
            held[there.key] = made
    record = storage.head(bucket, failure_key(source.key))
    if record is not None and (made := Provenance.read(record.metadata)).is_of(source.bucket):
        held[record.key] = made
    return held


def judge(
    current: Found | None, held: Mapping[str, Provenance], results: Sequence[frozenset[str]], *, remove_orphans: bool
) -> tuple[list[str], bool, bool]:
    """What of the held is wrong; whether any of ``results`` (keys) is whole; whether the current version has failed."""
    records = [key for key in held if key.startswith(FAILED_PREFIX)]
    if current is None:
        return (list(held) if remove_orphans else records), False, False
    right = {key for key, made in held.items() if key not in records and made.etag == current.etag}
    complete = {key for result in results if result <= right for key in result}
    if complete:
        # Also renditions of earlier versions, which got other names, and a record of a failure since repaired.
        return [key for key in held if key not in complete], True, False
    # A failure before anything was known of the version counts as the current one's, until that is done.
    failed = [key for key in records if held[key].etag in (None, current.etag)]
    if failed:
        return [key for key in held if key not in right and key not in failed], False, True
    # What is left of an earlier version stays until that of the current one replaces it.
    return records, False, False

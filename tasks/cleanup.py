"""Compares an object's stored outputs with its current version, and removes what should not be stored."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline import enqueue
from pipeline.core.errors import MessageError
from pipeline.core.names import failure_key
from pipeline.core.outputs import StoredName
from pipeline.core.provenance import Provenance
from pipeline.core.routes import Route, Routes
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.s3 import storage
from pipeline.s3.storage import Found
from tasks.convergence import FOLLOW_UP_S
from tasks.matching import may_leave
from tasks.outcome import Outcome

if TYPE_CHECKING:
    from pipeline.celery import PipelineApp
    from tasks.job import Job

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What ``reconcile`` found and left."""

    current: Found | None  # the source
    is_complete: bool  # all outputs of its route are stored, made from the current version
    has_failed: bool  # a failure record of the current version is stored
    removed: tuple[str, ...]

    @property
    def needs_work(self) -> bool:
        """Whether nothing is stored of the current version, so that it must be processed, maybe again."""
        return self.current is not None and not (self.is_complete or self.has_failed)


def reconcile(source: Source, routes: Routes, *, thorough: bool = False) -> Reconciled:
    """Removes outputs of an object that should not be in the output bucket. Raises ``TransientError``.

    ``thorough``: also those with names from other settings or routes, and those of a deleted object even if
    DELETE_RENDITIONS is off.
    """
    settings = routes.settings
    bucket = settings.required("output_bucket")
    current = storage.current(source.bucket, source.key)
    held = _held(settings, source, routes.stored_names(source.key, ever=thorough or current is None))
    possible: Sequence[Route] = ()
    if current is not None:
        now = Source(source.bucket, source.key, etag=current.etag, size=current.size)
        possible = may_leave(routes, now)
    remove_orphans = thorough or settings.delete_renditions
    record = failure_key(source.key, settings.output_prefix)
    wrong, is_complete, has_failed = classify(
        source.key, current, held, possible, record, remove_orphans=remove_orphans
    )
    if wrong:
        storage.delete(bucket, wrong)
    return Reconciled(current, is_complete, has_failed, tuple(wrong))


def _held(settings: Settings, source: Source, names: Iterable[StoredName]) -> dict[str, Provenance]:
    """The stored outputs of this object, by name."""
    bucket, held = settings.required("output_bucket"), {}
    for name in names:
        there = storage.head(bucket, name.name)
        if there is not None and name.holds(made := Provenance.read(there.metadata), source.bucket):
            held[there.key] = made
    record = storage.head(bucket, failure_key(source.key, settings.output_prefix))
    if record is not None and (made := Provenance.read(record.metadata)).is_of(source.bucket):
        held[record.key] = made
    return held


def classify(
    key: str,
    current: Found | None,
    held: Mapping[str, Provenance],
    possible: Sequence[Route],
    record: str,
    *,
    remove_orphans: bool,
) -> tuple[list[str], bool, bool]:
    """Returns the names to remove, whether the outputs of a possible route are complete, and whether the current
    version has failed. ``held``: the stored outputs, by name. ``record``: the name of the failure record."""
    records = [name for name in held if name == record]
    if current is None:
        return (list(held) if remove_orphans else records), False, False
    right = {name for name, made in held.items() if name not in records and made.etag == current.etag}
    complete = frozenset().union(*(route.complete(key, right) for route in possible))
    if complete:
        # The rest: renditions of earlier versions with other names, and the record of a failure that has been repaired.
        return [name for name in held if name not in complete], True, False
    # A failure of an unknown version counts as the current version's, until that version is done.
    failed = [name for name in records if held[name].etag in (None, current.etag)]
    if failed:
        return [name for name in held if name not in right and name not in failed], False, True
    # Outputs of an earlier version stay until those of the current version replace them.
    return records, False, False


def reconcile_now(
    app: PipelineApp, source: Source, *, again: bool = False, always: bool = False, thorough: bool = False
) -> Reconciled:
    """Reconciles the stored outputs with the object's current version, and enqueues what follows.

    ``again``: enqueue a second look even if nothing was removed. ``always``: enqueue the object if nothing is stored of
    its current version, even if an event of that version must be on its way. ``thorough``: see ``reconcile``. Raises
    ``TransientError``.
    """
    state = reconcile(source, app.routes, thorough=thorough)
    if state.current is not None and state.needs_work and (always or state.removed):
        found = state.current
        now = Source(source.bucket, source.key, version_id=found.version_id, etag=found.etag, size=found.size)
        try:
            due = enqueue.work(app, now)
        except MessageError as exc:
            logger.info("skipped: %s", exc, extra={"action": Outcome.SKIPPED.value, "key": source.key})
        else:
            enqueue.send(due)
    if again or state.removed:
        look_later(app, source)
    return state


def look_later(app: PipelineApp, source: Source) -> None:
    """Enqueues the second look. Raises ``TransientError``."""
    enqueue.send(enqueue.reconciliation(app, source, second_look=True), countdown_s=FOLLOW_UP_S)


def remove_outdated(job: Job, source: Source, stored: StoredName) -> None:
    """At the end of a chain, removes what an earlier version or failure may have left besides the new outputs."""
    bucket = job.app.settings.required("output_bucket")
    mine = {stored.name, *(each.key for each in job.stored)}
    others = []
    for route in job.app.routes.match_key(source.key):
        names = [output.names(source.key) for output in route.outputs]
        if mine.isdisjoint(each.name for every in names for each in every):
            others += [every[0].name for every in names[:1]]  # of another route
            continue
        # An output with several possible names may have another one; an earlier version left them all, or none.
        several = next((every for every in names if len(every) > 1), ())
        ours = {each.suffix for each in several if each.name in mine} or {stored.suffix}
        others += [each.name for each in several if each.suffix not in ours]
    if job.check_existing:
        others.append(failure_key(source.key, job.app.settings.output_prefix))
    if job.is_repeated or any(storage.head(bucket, other) is not None for other in others):
        reconcile_now(job.app, source)

"""Makes one output of an object: decide, read, make, write. Every task of a route does this.

``produce`` follows a ``Plan``; ``tasks.own`` makes plans from functions.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.core.errors import ImageTooLarge, OwnOutput
from pipeline.core.outputs import Output, StoredName
from pipeline.core.provenance import Provenance
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.enqueue import CHECK_EXISTING
from pipeline.s3 import storage
from pipeline.s3.storage import Found
from tasks.base import ObjectTask
from tasks.cleanup import remove_outdated
from tasks.convergence import FreshnessCheck, resolve_current, write_newest
from tasks.job import STORED, Job
from tasks.outcome import Outcome

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Original:
    """The bytes or the file that were read, with their object and version."""

    data: bytes  # empty if it was read into a file
    found: Found  # the metadata in the store
    metadata: Mapping[str, str]
    source: Source  # the object itself, even if a rendition of it was read
    provenance: Provenance
    freshness: FreshnessCheck
    is_upload: bool  # False: an earlier task's output was read
    path: Path | None = None  # the file that it was read into, if any


@dataclass(frozen=True, slots=True)
class Artifact:
    """A task's output, before it is stored."""

    data: bytes | Path
    content_type: str
    suffix: str  # the ending after the object's key
    metadata: Mapping[str, str] = field(default_factory=dict)  # stored with it
    read: Mapping[str, Any] = field(default_factory=dict)  # facts about the object, for the task's result
    facts: Mapping[str, Any] = field(default_factory=dict)  # facts about what was made, for the task's result


def _always_enough(_: Original) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Plan:
    """How one task makes its output of one object."""

    output: Output
    make: Callable[[Original], Artifact]  # may raise any error: see ``ObjectTask.run_with_policy``
    previous: Source | None = None  # an earlier task's output, to be read instead of the object
    suffixes: tuple[str, ...] | None = None  # the only possible suffixes, if the plan knows more than the output
    on_disk: bool = False  # whether to read into a file, in a folder that is removed after the work
    is_enough: Callable[[Original], bool] = _always_enough  # whether ``previous`` is good enough; else reads the object

    def names(self, key: str) -> tuple[StoredName, ...]:
        """The possible names of the output, the likeliest first."""
        found = self.output.names(key)
        return tuple(each for each in found if self.suffixes is None or each.suffix in self.suffixes)


@dataclass(frozen=True, slots=True)
class Result:
    """The stored output."""

    outcome: Outcome
    source: Source
    rendition: Mapping[str, Any]
    read: Mapping[str, Any] | None = None  # facts about what was read; None if nothing had to be read

    def to_json(self, job: Job) -> dict[str, Any]:
        """The task's result, which the chain's next task gets."""
        known: dict[str, Any] = {"outcome": self.outcome.value, "source": self.source.to_json()}
        if self.read is not None:
            known["read"] = dict(self.read)
        known["rendition"] = dict(self.rendition)
        if job.stored and not job.is_last:
            known[STORED] = [{"bucket": each.bucket, "key": each.key, "etag": each.etag} for each in job.stored]
        return known | {CHECK_EXISTING: True} if job.check_existing else known


def produce(
    task: ObjectTask, argument: Any, plan: Callable[[Job], Plan], *, check_existing: bool = False
) -> dict[str, Any]:
    """Does a task's work, from its argument to its result. Calls ``plan`` once, with the job."""
    job = task.parse(argument, check_existing=check_existing)
    return task.run_with_policy(job.source, lambda: _work(job, plan(job)))


def _work(job: Job, plan: Plan) -> dict[str, Any]:
    result = existing_result(job, plan)
    if result is None:
        with ExitStack() as cleanup:
            folder = Path(cleanup.enter_context(TemporaryDirectory(prefix="pipeline-"))) if plan.on_disk else None
            original = read(job, plan, folder)
            if plan.previous is not None and not plan.is_enough(original):
                original = read(job, replace(plan, previous=None), folder)
            result = write(job, plan, original, plan.make(original))
    if job.is_last:
        remove_outdated(job, result.source, _stored_name(plan, result))
    return result.to_json(job)


def _stored_name(plan: Plan, result: Result) -> StoredName:
    names = plan.output.names(result.source.key, ever=True)
    return next(each for each in names if each.name == result.rendition["key"])


def existing_result(job: Job, plan: Plan) -> Result | None:
    """The result if the output is stored already; None if it must be made.

    Does not look for the output of a new upload. Raises ``OwnOutput``, and what ``resolve_current`` raises.
    """
    if job.app.routes.is_output(job.source.bucket, job.source.key):
        raise OwnOutput(f"{job.source.uri} was written by the pipeline")
    if not job.check_existing:
        return None
    # This check is needed also because an earlier try may have written late, and ended before it could check.
    source = resolve_current(job.source) if plan.previous is None else job.source
    bucket = job.app.settings.required("output_bucket")
    for name in plan.names(source.key):
        there = storage.head(bucket, name.name)
        if there is None:
            continue
        made = Provenance.read(there.metadata)
        is_current = (made.etag, made.recipe) == (source.etag, plan.output.current_recipe)
        if is_current and name.holds(made, source.bucket):
            extra = job.ended(Outcome.DUPLICATE)
            logger.log(job.end_level, "duplicate: %s is %s/%s already", source.uri, bucket, there.key, extra=extra)
            return _duplicate(bucket, source, there)
    return None


def read(job: Job, plan: Plan, folder: Path | None = None) -> Original:
    """Reads exactly the version that the job names, into a file if ``folder`` is given.

    Raises what ``storage.read`` raises, and ``ImageTooLarge``.
    """
    wanted = job.source if plan.previous is None else plan.previous
    # Starts before the read: whether a write needs another check depends on when the object was last seen.
    freshness = FreshnessCheck(lambda: _is_current(wanted, stored.found.etag))
    path = None if folder is None else folder / f"object{_local_ending(job.source.key)}"
    check_bytes = partial(_check_bytes, job.app.settings, path is not None)
    if plan.previous is not None and path is None and job.handover is not None and job.handover.is_of(wanted):
        stored, freshness.seen_at = job.handover.stored, job.handover.seen_at
        check_bytes(stored.found.size)
    else:
        stored = storage.read(wanted, check_bytes=check_bytes, into=path, shortcut=job.app.shortcut)
    found = stored.found
    if plan.previous is None:
        source = replace(job.source, etag=found.etag, version_id=found.version_id, size=found.size)
        provenance = Provenance.of(source, modified=found.modified.isoformat())
    else:
        provenance = Provenance.read(stored.metadata)
        source = replace(
            job.source, etag=provenance.etag, version_id=provenance.version_id, sequencer=provenance.sequencer
        )
    return Original(stored.data, found, stored.metadata, source, provenance, freshness, plan.previous is None, path)


def write(job: Job, plan: Plan, original: Original, artifact: Artifact) -> Result:
    """Stores the artifact. Raises ``ObjectChanged``, ``NameTaken``, ``KeyTooLong`` and ``TransientError``."""
    source = original.source
    bucket = job.app.settings.required("output_bucket")
    name = plan.output.stored(source.key, artifact.suffix)
    made = replace(original.provenance, recipe=plan.output.current_recipe, key_suffix=artifact.suffix)
    outcome, etag = write_newest(
        bucket,
        name,
        artifact.data,
        content_type=artifact.content_type,
        cache_control=job.app.settings.cache_control,
        source=source,
        made=made,
        facts=artifact.metadata,
        freshness=original.freshness,
        shortcut=job.app.shortcut,
    )
    is_sized = "width" in artifact.facts
    data = artifact.data
    if outcome is Outcome.DONE and isinstance(data, bytes) and not job.is_last:
        metadata = made.metadata() | name.metadata() | dict(artifact.metadata)
        seen_at = original.freshness.seen_at
        job.leave(bucket, name.name, etag, data, content_type=artifact.content_type, metadata=metadata, seen_at=seen_at)
    data_bytes = data.stat().st_size if isinstance(data, Path) else len(data)
    size = "{width}x{height}".format_map(artifact.facts) if is_sized else f"{data_bytes} bytes"
    made_before = "".join(f"{each.bucket}/{each.key}, " for each in job.stored)
    logger.log(
        job.end_level,
        "%s: %s -> %s%s/%s %s",
        outcome.value,
        source.uri,
        made_before,
        bucket,
        name.name,
        size,
        extra=job.ended(outcome),
    )
    rendition = _described(bucket, name.name, etag, artifact.facts, data_bytes, artifact.content_type)
    return Result(outcome, source, rendition, {**artifact.read, "bytes": original.found.size})


def _local_ending(key: str) -> str:
    """The key's ending, for programs that depend on it; "" if it is not valid in a file name."""
    found = re.search(r"\.[A-Za-z0-9]{1,10}\Z", key)
    return "" if found is None else found[0]


def _check_bytes(settings: Settings, on_disk: bool, size: int) -> None:
    name = "max_file_bytes" if on_disk else "max_bytes"
    limit: int = getattr(settings, name)
    if size > limit:
        raise ImageTooLarge(f"The file has {size:,} bytes; the limit {name.upper()} is {limit:,}.")


def _is_current(wanted: Source, etag: str) -> bool:
    now = storage.head(wanted.bucket, wanted.key)
    return now is not None and now.etag == etag


def _duplicate(bucket: str, source: Source, there: Found) -> Result:
    width, _, height = (there.metadata or {}).get("pixels", "").partition("x")
    facts = {"width": int(width), "height": int(height)} if width and height else {}
    rendition = _described(bucket, there.key, there.etag, facts, there.size, there.content_type)
    return Result(Outcome.DUPLICATE, source, rendition)


def _described(
    bucket: str, key: str, etag: str, facts: Mapping[str, Any], data_bytes: int, content_type: str
) -> dict[str, Any]:
    """A stored output in the form that a task's result contains, and that the chain's next task reads."""
    return {"bucket": bucket, "key": key, "etag": etag, **facts, "bytes": data_bytes, "content_type": content_type}

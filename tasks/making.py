"""From an object to one output of it: decide, read, make, write. What every task of a route does, as one line.

``derive`` is a whole task in one call, for tasks that are a function from bytes to bytes. ``produce`` takes a ``Plan``,
for those that need to know more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.core.errors import OwnOutput
from pipeline.core.names import stored_name
from pipeline.core.provenance import Provenance
from pipeline.core.routes import Output
from pipeline.core.source import Source
from pipeline.enqueue import CHECK_EXISTING
from pipeline.s3 import storage
from pipeline.s3.storage import Found
from tasks.base import ObjectTask
from tasks.cleanup import remove_outdated
from tasks.convergence import FreshnessCheck, resolve_current, write_newest
from tasks.images.limits import Limits
from tasks.job import Job
from tasks.outcome import Outcome

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Original:
    """What was read, and of which version of which object it is."""

    data: bytes
    found: Found  # what the store says of it
    metadata: Mapping[str, str]
    source: Source  # the object itself, also where a rendition of it was read
    provenance: Provenance
    freshness: FreshnessCheck


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a task made of an object's bytes, before it is stored."""

    data: bytes
    content_type: str
    suffix: str  # what the name has behind the object's key
    metadata: Mapping[str, str] = field(default_factory=dict)  # to be stored with it
    read: Mapping[str, Any] = field(default_factory=dict)  # facts about the object, for the task's result
    facts: Mapping[str, Any] = field(default_factory=dict)  # facts about what was made, for the task's result


@dataclass(frozen=True, slots=True)
class Plan:
    """How one task makes its output of one object."""

    folder: str
    suffixes: tuple[str, ...]  # what its name may have behind the object's key, the likeliest first
    recipe: str
    make: Callable[[Original], Artifact]  # may raise anything: see ``ObjectTask.run_with_policy``
    previous: Source | None = None  # read what the task before this one stored, instead of the object


@dataclass(frozen=True, slots=True)
class Result:
    """What is stored now."""

    outcome: Outcome
    source: Source
    rendition: Mapping[str, Any]
    read: Mapping[str, Any] | None = None  # facts about what was read; None where it was not needed

    def to_json(self, *, check_existing: bool) -> dict[str, Any]:
        """The task's result, which the next task of the chain is given."""
        known: dict[str, Any] = {"outcome": self.outcome.value, "source": self.source.to_json()}
        if self.read is not None:
            known["read"] = dict(self.read)
        known["rendition"] = dict(self.rendition)
        return known | {CHECK_EXISTING: True} if check_existing else known


def derive(
    task: ObjectTask,
    source: str | dict[str, Any],
    output: Output,
    make: Callable[[bytes], bytes],
    *,
    careful: bool = False,
) -> dict[str, Any]:
    """Reads an object, gives its bytes to ``make``, and stores what that returns as ``output`` of the object.

    Everything around ``make`` is as for images: a duplicate or an outdated message is harmless, a failing service
    is tried again, a ``PermanentError`` from ``make`` ends as a failure record with its advice, and so does
    any other exception. An object of more than MAX_BYTES is refused unread.

    ``source`` is the task's own argument: ``s3://bucket/key``, the JSON of a ``Source``, or the result of the task
    before it in a chain. Returns the task's result. (``careful`` is for tasks that were written for version 0.1.)
    """

    def made(original: Original) -> Artifact:
        return Artifact(make(original.data), output.content_type, output.append_suffix)

    placed = output.below(task.app.settings.output_prefix)
    plan = Plan(placed.folder, (output.append_suffix,), output.recipe, made)
    return produce(task, source, lambda _: plan, check_existing=careful)


def produce(
    task: ObjectTask, argument: Any, plan: Callable[[Job], Plan], *, check_existing: bool = False
) -> dict[str, Any]:
    """The way of a task, from its argument to its result. ``plan`` is asked once, for the object at hand."""
    job = task.parse(argument, check_existing=check_existing)
    return task.run_with_policy(job.source, lambda: _work(job, plan(job)))


def _work(job: Job, plan: Plan) -> dict[str, Any]:
    result = existing_result(job, plan)
    if result is None:
        original = read(job, plan)
        result = write(job, plan, original, plan.make(original))
    if job.is_last:
        remove_outdated(job, result.source, result.rendition["key"])
    return result.to_json(check_existing=job.check_existing)


def existing_result(job: Job, plan: Plan) -> Result | None:
    """Decides whether there is anything to make: the result when it is stored already.

    A fresh upload is not looked for. Raises ``OwnOutput``, and what ``resolve_current`` raises.
    """
    if job.app.routes.is_output(job.source.bucket, job.source.key):
        raise OwnOutput(f"{job.source.uri} was written by the pipeline")
    if not job.check_existing:
        return None
    # Also because an earlier try may have written late, and ended before it could look.
    source = resolve_current(job.source) if plan.previous is None else job.source
    bucket = job.app.settings.required("output_bucket")
    for suffix in plan.suffixes:
        there = storage.head(bucket, stored_name(plan.folder, source.key, suffix))
        if there is None:
            continue
        made = Provenance.read(there.metadata)
        if made.is_for(source.bucket, suffix) and (made.etag, made.recipe) == (source.etag, plan.recipe):
            logger.info(
                "duplicate: %s is %s/%s already",
                source.uri,
                bucket,
                there.key,
                extra={"action": Outcome.DUPLICATE.value, "key": source.key, "task": job.task_name},
            )
            return _duplicate(bucket, source, there)
    return None


def read(job: Job, plan: Plan) -> Original:
    """Reads exactly the version that the job names. Raises what ``storage.read`` raises, and ``ImageTooLarge``."""
    wanted = job.source if plan.previous is None else plan.previous
    # From before the reading: a write is judged by how long ago the object was seen.
    freshness = FreshnessCheck(lambda: _is_current(wanted, stored.found.etag))
    stored = storage.read(wanted, check_bytes=Limits.from_settings(job.app.settings).check_bytes)
    found = stored.found
    if plan.previous is None:
        source = replace(job.source, etag=found.etag, version_id=found.version_id, size=found.size)
        provenance = Provenance.of(source, modified=found.modified.isoformat())
    else:
        provenance = Provenance.read(stored.metadata)
        source = replace(
            job.source, etag=provenance.etag, version_id=provenance.version_id, sequencer=provenance.sequencer
        )
    return Original(stored.data, found, stored.metadata, source, provenance, freshness)


def write(job: Job, plan: Plan, original: Original, artifact: Artifact) -> Result:
    """Stores what was made. Raises ``ObjectChanged``, ``NameTaken``, ``KeyTooLong`` and ``TransientError``."""
    source = original.source
    bucket = job.app.settings.required("output_bucket")
    key = stored_name(plan.folder, source.key, artifact.suffix)
    outcome, etag = write_newest(
        bucket,
        key,
        artifact.data,
        content_type=artifact.content_type,
        cache_control=job.app.settings.cache_control,
        source=source,
        made=replace(original.provenance, recipe=plan.recipe, key_suffix=artifact.suffix),
        facts=artifact.metadata,
        freshness=original.freshness,
    )
    is_sized = "width" in artifact.facts
    size = "{width}x{height}".format_map(artifact.facts) if is_sized else f"{len(artifact.data)} bytes"
    logger.info(
        "%s: %s -> %s/%s %s",
        outcome.value,
        source.uri,
        bucket,
        key,
        size,
        extra={"action": outcome.value, "key": source.key, "task": job.task_name},
    )
    rendition = _described(bucket, key, etag, artifact.facts, len(artifact.data), artifact.content_type)
    return Result(outcome, source, rendition, {**artifact.read, "bytes": original.found.size})


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
    """A stored output, as a task's result tells of it and as the next task of the chain reads it."""
    return {"bucket": bucket, "key": key, "etag": etag, **facts, "bytes": data_bytes, "content_type": content_type}

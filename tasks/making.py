"""From an object to one output of it, stored once and of its newest version: what every task of a route does.

``derive`` is a whole task in one call. ``from_original`` and ``store`` are its parts, for tasks that need more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.aws import storage
from pipeline.aws.storage import Found
from pipeline.core.errors import OwnOutput
from pipeline.core.names import failure_key, stored_name
from pipeline.core.provenance import Provenance
from pipeline.core.routes import Output
from pipeline.core.source import Source
from tasks.base import DUPLICATE, ObjectTask, parse_source
from tasks.convergence import Sight, as_it_is_now, put
from tasks.images.limits import Limits

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Made:
    """What a task made of an object's bytes, before it is stored."""

    data: bytes
    content_type: str
    suffix: str  # what the name has behind the object's key
    metadata: Mapping[str, str] = field(default_factory=dict)  # to be stored with it
    read: Mapping[str, Any] = field(default_factory=dict)  # facts about the object, for the task's result
    facts: Mapping[str, Any] = field(default_factory=dict)  # facts about what was made, for the task's result


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

    ``source`` and ``careful`` are the task's own arguments: ``s3://bucket/key``, the JSON of a ``Source``, or the
    result of the task before it in a chain. Returns the task's result.
    """
    before = source if isinstance(source, dict) and "rendition" in source else None
    wanted = parse_source(source if before is None else before["source"])
    careful = careful or task.is_repeated or (not wanted.from_event if before is None else "careful" in before)

    def made(data: bytes) -> Made:
        return Made(make(data), output.content_type, output.append_suffix)

    def work() -> dict[str, Any]:
        result = from_original(
            task, wanted, output.folder, (output.append_suffix,), output.recipe, made, careful=careful
        )
        tidy(task, parse_source(result["source"]), result["rendition"]["key"], careful=careful)
        return result | {"careful": True} if careful else result

    return task.settle(wanted, work)


def from_original(
    task: ObjectTask,
    wanted: Source,
    folder: str,
    endings: Sequence[str],
    recipe: str,
    make: Callable[[bytes], Made],
    *,
    careful: bool,
) -> dict[str, Any]:
    """Reads exactly that version, makes something of it, and stores it in the folder; returns the task's result.

    ``endings``: what its name may have behind the object's key. ``careful``: look first whether it is there.
    Raises what ``make``, ``storage.read`` and ``store`` raise, and ``OwnOutput``.
    """
    settings = task.app.settings
    bucket = settings.required("output_bucket")
    if task.app.routes.is_output(wanted.bucket, wanted.key):
        raise OwnOutput(f"{wanted.uri} was written by the pipeline")
    if careful:
        # Also because an earlier try may have written late, and ended before it could look.
        there = already(bucket, folder, as_it_is_now(wanted), recipe, endings)
        if there is not None:
            return there
    sight = Sight(lambda: is_current(wanted.bucket, wanted.key, stored.found.etag))
    stored = storage.read(wanted, check_bytes=Limits.from_settings(settings).check_bytes)
    found = stored.found
    origin = replace(wanted, etag=found.etag, version_id=found.version_id, size=found.size)
    made = make(stored.data)
    provenance = Provenance.of(origin, modified=found.modified.isoformat(), recipe=recipe, suffix=made.suffix)
    return store(task, origin, stored_name(folder, wanted.key, made.suffix), made, provenance, found.size, sight)


def already(bucket: str, folder: str, source: Source, recipe: str, endings: Sequence[str]) -> dict[str, Any] | None:
    """The result when the output is there already; saves reading the original."""
    for ending in endings:
        there = storage.head(bucket, stored_name(folder, source.key, ending))
        if there is None:
            continue
        made = Provenance.read(there.metadata)
        if made.is_for(source.bucket, ending) and (made.etag, made.recipe) == (source.etag, recipe):
            return _duplicate(bucket, source, there)
    return None


def store(
    task: ObjectTask,
    origin: Source,
    key: str,
    made: Made,
    provenance: Provenance,
    read_bytes: int,
    sight: Sight,
) -> dict[str, Any]:
    """Stores one output, and returns the task's result. Raises ``ObjectChanged``, ``NameTaken``, ``TransientError``."""
    bucket = task.app.settings.required("output_bucket")
    wrote, etag = put(
        bucket,
        key,
        made.data,
        content_type=made.content_type,
        cache_control=task.app.settings.cache_control,
        source=origin,
        made=provenance,
        facts=made.metadata,
        sight=sight,
    )
    size = "{width}x{height}".format_map(made.facts) if "width" in made.facts else f"{len(made.data)} bytes"
    logger.info(
        "%s: %s -> %s/%s %s",
        wrote.value,
        origin.uri,
        bucket,
        key,
        size,
        extra={"action": wrote.value, "key": origin.key, "task": task.name},
    )
    return {
        "outcome": wrote.value,
        "source": origin.to_json(),
        "read": {**made.read, "bytes": read_bytes},
        "rendition": _described(bucket, key, etag, made.facts, len(made.data), made.content_type),
    }


def tidy(task: ObjectTask, origin: Source, key: str, *, careful: bool) -> None:
    """At the end of a chain: what an earlier version, or an earlier failure, may have left beside what was stored
    as ``key``."""
    bucket = task.app.settings.required("output_bucket")
    possible = [
        outputs
        for route in task.app.routes.match_key(origin.key)
        for outputs in route.output_sets(origin.key, task.app.settings)
    ]
    beside = [outputs for outputs in possible if all(output.name(origin.key) != key for output in outputs)]
    others = [first.name(origin.key) for first, *_ in beside]
    if careful:
        others.append(failure_key(origin.key))
    if task.is_repeated or any(storage.head(bucket, other) is not None for other in others):
        task.look(origin)


def is_current(bucket: str, key: str, etag: str | None) -> bool:
    now = storage.head(bucket, key)
    return now is not None and now.etag == etag


def _duplicate(bucket: str, source: Source, there: Found) -> dict[str, Any]:
    logger.info(
        "duplicate: %s is %s/%s already", source.uri, bucket, there.key, extra={"action": DUPLICATE, "key": source.key}
    )
    width, _, height = (there.metadata or {}).get("pixels", "").partition("x")
    facts = {"width": int(width), "height": int(height)} if width and height else {}
    return {
        "outcome": DUPLICATE,
        "source": source.to_json(),
        "rendition": _described(bucket, there.key, there.etag, facts, there.size, there.content_type),
    }


def _described(
    bucket: str, key: str, etag: str, facts: Mapping[str, Any], data_bytes: int, content_type: str
) -> dict[str, Any]:
    """A stored output, as a task's result tells of it and as the next task of the chain reads it."""
    return {"bucket": bucket, "key": key, "etag": etag, **facts, "bytes": data_bytes, "content_type": content_type}

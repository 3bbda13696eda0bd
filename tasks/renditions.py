"""The tasks: ``resize`` makes a rendition of an object, ``thumbnail`` makes a smaller one from that.

``reconcile`` makes what is stored of an object agree with the object as it is now.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from pipeline import storage
from pipeline.celery import app
from pipeline.errors import ObjectChanged, ObjectGone, OwnOutput
from pipeline.source import Source
from pipeline.storage import Found
from tasks.base import DUPLICATE, ObjectTask, parse_source
from tasks.convergence import Sight, put
from tasks.images import Limits, Recipe, Rendition, render
from tasks.keys import RESIZED_PREFIX, THUMBS_PREFIX, failure_key, suffix, suffixes
from tasks.provenance import Provenance, Recipes

logger = logging.getLogger(__name__)


@app.task(name="tasks.resize", bind=True, base=ObjectTask)
def resize(self: ObjectTask, source: str | dict[str, Any], careful: bool = False) -> dict[str, Any]:
    """Makes ``resized/<key>`` of one object, within RESIZE_BOX.

    ``source``: ``s3://bucket/key``, or the JSON form of a ``Source``. The result names the outcome,
    the source, and (when done) the sizes in pixels and bytes of what was read and of the rendition.
    ``careful``: this is not a fresh upload, so look first at what is there.
    """
    wanted = parse_source(source)
    careful = careful or self.is_repeated or not wanted.from_event

    def work() -> dict[str, Any]:
        settings = self.app.settings
        recipe = Recipe.from_settings(settings, settings.resize_box)
        result = _from_original(self, wanted, RESIZED_PREFIX, recipe, Recipes.from_settings(settings).resized, careful)
        return result | {"careful": True} if careful else result

    return self.settle(wanted, work)


@app.task(name="tasks.thumbnail", bind=True, base=ObjectTask)
def thumbnail(self: ObjectTask, source: str | dict[str, Any], careful: bool = False) -> dict[str, Any]:
    """Makes ``thumbs/<key>`` of one object, within THUMB_BOX.

    After ``resize`` in a chain, ``source`` is its result, and the thumbnail is made from that rendition, so
    that the original is read and decoded once. Otherwise it is what ``resize`` takes, and the original is read.
    """
    before = source if isinstance(source, dict) and "rendition" in source else None
    origin = parse_source(before["source"] if before is not None else source)
    careful = careful or self.is_repeated or (not origin.from_event if before is None else "careful" in before)

    def work() -> dict[str, Any]:
        settings = self.app.settings
        recipe = Recipe.from_settings(settings, settings.thumb_box)
        thumb = Recipes.from_settings(settings).thumb
        if before is None:
            result = _from_original(self, origin, THUMBS_PREFIX, recipe, thumb, careful)
        else:
            result = _from_resized(self, origin, before, recipe, thumb, careful)
        _tidy(self, parse_source(result["source"]), result["rendition"]["key"], careful)
        return result

    return self.settle(origin, work)


@app.task(name="tasks.reconcile", bind=True, base=ObjectTask)
def reconcile(
    self: ObjectTask, source: str | dict[str, Any], second_look: bool = False, thorough: bool = False
) -> dict[str, Any]:
    """Makes what is stored of one object agree with the object as it is now.

    Removes the renditions and the failure record of an object that was deleted (unless DELETE_RENDITIONS is off),
    and whatever else is not of its current version; enqueues the object when nothing is stored of that.
    Everything is looked at once more later, unless this is the ``second_look`` and it found nothing to remove.
    ``thorough``: also removes what DELETE_RENDITIONS would keep, and what earlier settings have left.
    """
    wanted = parse_source(source)

    def work() -> dict[str, Any]:
        state = self.look(wanted, again=not second_look, always=True, thorough=thorough)
        action = "removed" if state.removed else "reconciled"
        logger.info(
            "%s: %s: %s",
            action,
            wanted.uri,
            ", ".join(state.removed) or "nothing to remove",
            extra={"action": action, "key": wanted.key, "task": self.name},
        )
        return {"outcome": action, "source": wanted.to_json(), "removed": list(state.removed)}

    return self.settle(wanted, work, record=False)


def _from_original(
    task: ObjectTask, wanted: Source, prefix: str, recipe: Recipe, recipe_name: str, careful: bool
) -> dict[str, Any]:
    settings = task.app.settings
    limits = Limits.from_settings(settings)
    if careful:
        # Also because an earlier try may have written late, and ended before it could look.
        now = _as_it_is_now(wanted)
        there = _already(settings.required("output_bucket"), prefix, now, recipe_name, suffixes(now.key, settings))
        if there is not None:
            return there
    sight = Sight(lambda: _is_current(wanted.bucket, wanted.key, stored.found.etag))
    stored = storage.read(wanted, check_bytes=limits.check_bytes)
    if Provenance.read(stored.metadata).is_rendition:
        raise OwnOutput(f"{wanted.uri} is itself a rendition")
    found = stored.found
    origin = replace(wanted, etag=found.etag, version_id=found.version_id, size=found.size)
    rendition = render(stored.data, recipe, limits)
    ending = suffix(wanted.key, rendition.content_type, settings)
    made = Provenance.of(origin, modified=found.modified.isoformat(), recipe=recipe_name, suffix=ending)
    facts = {
        "source-size": f"{rendition.source_width}x{rendition.source_height}",
        "source-bytes": str(found.size),
    }
    return _store(task, origin, f"{prefix}{wanted.key}{ending}", rendition, found.size, made, facts, sight)


def _from_resized(
    task: ObjectTask, origin: Source, before: dict[str, Any], recipe: Recipe, recipe_name: str, careful: bool
) -> dict[str, Any]:
    resized = Source(**{name: before["rendition"][name] for name in ("bucket", "key", "etag")})
    name = resized.key.removeprefix(RESIZED_PREFIX)
    if careful or before["outcome"] == DUPLICATE:
        there = _already(resized.bucket, THUMBS_PREFIX, origin, recipe_name, (name.removeprefix(origin.key),))
        if there is not None:
            return there
    limits = Limits.from_settings(task.app.settings)
    sight = Sight(lambda: _is_current(resized.bucket, resized.key, resized.etag))
    stored = storage.read(resized, check_bytes=limits.check_bytes)
    made = Provenance.read(stored.metadata)
    origin = replace(origin, etag=made.etag, version_id=made.version_id, sequencer=made.sequencer)
    facts = {fact: stored.metadata[fact] for fact in ("source-size", "source-bytes") if fact in stored.metadata}
    return _store(
        task,
        origin,
        THUMBS_PREFIX + name,
        render(stored.data, recipe, limits),
        stored.found.size,
        replace(made, recipe=recipe_name),
        facts | {"made-from": stored.found.etag},
        sight,
    )


def _already(bucket: str, prefix: str, source: Source, recipe: str, endings: tuple[str, ...]) -> dict[str, Any] | None:
    """The result when the rendition is there already; saves reading the original."""
    for ending in endings:
        there = storage.head(bucket, f"{prefix}{source.key}{ending}")
        if there is None:
            continue
        made = Provenance.read(there.metadata)
        if made.is_for(source.bucket, ending) and (made.etag, made.recipe) == (source.etag, recipe):
            return _duplicate(bucket, source, there)
    return None


def _as_it_is_now(source: Source) -> Source:
    """Raises ``ObjectGone`` or ``ObjectChanged``."""
    now = storage.head(source.bucket, source.key)
    if now is None:
        raise ObjectGone(f"{source.uri} does not exist")
    if source.etag not in (None, now.etag):
        raise ObjectChanged(f"{source.uri} was overwritten after its event was sent")
    return replace(source, etag=now.etag, version_id=now.version_id, size=now.size)


def _duplicate(bucket: str, source: Source, there: Found) -> dict[str, Any]:
    logger.info(
        "duplicate: %s is %s/%s already", source.uri, bucket, there.key, extra={"action": DUPLICATE, "key": source.key}
    )
    width, _, height = (there.metadata or {}).get("pixels", "0x0").partition("x")
    return {
        "outcome": DUPLICATE,
        "source": source.to_json(),
        "rendition": _described(
            bucket, there.key, there.etag, (int(width), int(height)), there.size, there.content_type
        ),
    }


def _store(
    task: ObjectTask,
    origin: Source,
    key: str,
    rendition: Rendition,
    read_bytes: int,
    made: Provenance,
    facts: dict[str, str],
    sight: Sight,
) -> dict[str, Any]:
    """Stores one rendition, and returns the task's result. Raises ``ObjectChanged``."""
    bucket = task.app.settings.required("output_bucket")
    wrote, etag = put(
        bucket,
        key,
        rendition.data,
        content_type=rendition.content_type,
        source=origin,
        made=made,
        facts=facts | {"pixels": f"{rendition.width}x{rendition.height}"},
        sight=sight,
    )
    logger.info(
        "%s: %s -> %s/%s %dx%d",
        wrote.value,
        origin.uri,
        bucket,
        key,
        rendition.width,
        rendition.height,
        extra={"action": wrote.value, "key": origin.key, "task": task.name},
    )
    return {
        "outcome": wrote.value,
        "source": origin.to_json(),
        "read": {"width": rendition.source_width, "height": rendition.source_height, "bytes": read_bytes},
        "rendition": _described(
            bucket, key, etag, (rendition.width, rendition.height), len(rendition.data), rendition.content_type
        ),
    }


def _described(
    bucket: str, key: str, etag: str, size: tuple[int, int], data_bytes: int, content_type: str
) -> dict[str, Any]:
    """A stored rendition, as a task's result tells of it and as the next task of the chain reads it."""
    width, height = size
    return {
        "bucket": bucket,
        "key": key,
        "etag": etag,
        "width": width,
        "height": height,
        "bytes": data_bytes,
        "content_type": content_type,
    }


def _is_current(bucket: str, key: str, etag: str | None) -> bool:
    now = storage.head(bucket, key)
    return now is not None and now.etag == etag


def _tidy(task: ObjectTask, origin: Source, key: str, careful: bool) -> None:
    """At the end of a chain: what an earlier version, or an earlier failure, may have left beside it."""
    settings = task.app.settings
    bucket = settings.required("output_bucket")
    mine = key.removeprefix(THUMBS_PREFIX)
    others = [f"{RESIZED_PREFIX}{origin.key}{ending}" for ending in suffixes(origin.key, settings)]
    others = [other for other in others if other != RESIZED_PREFIX + mine]
    if careful:
        others.append(failure_key(origin.key))
    if task.is_repeated or any(storage.head(bucket, other) is not None for other in others):
        task.look(origin)

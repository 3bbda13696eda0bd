"""The tasks: ``resize`` makes a rendition of an object, ``thumbnail`` makes a smaller one from that.

``reconcile`` makes what is stored of an object agree with the object as it is now.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from celery.exceptions import Reject

from pipeline.aws import storage
from pipeline.celery import app
from pipeline.core.names import stored_name
from pipeline.core.provenance import Provenance
from pipeline.core.source import Source
from pipeline.images.names import RESIZED_PREFIX, SUFFIXES, THUMBS_PREFIX, suffix, suffixes
from tasks.base import DUPLICATE, ObjectTask, parse_source
from tasks.convergence import Sight
from tasks.images.apart import render
from tasks.images.render import Limits, Recipe, Recipes, Rendition
from tasks.making import Made, already, from_original, is_current, store, tidy

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

    resized = None if before is None else _resized(self, origin, before)

    def work() -> dict[str, Any]:
        settings = self.app.settings
        recipe = Recipe.from_settings(settings, settings.thumb_box)
        thumb = Recipes.from_settings(settings).thumb
        if before is None or resized is None:
            result = _from_original(self, origin, THUMBS_PREFIX, recipe, thumb, careful)
        else:
            result = _from_resized(self, origin, before, *resized, recipe, thumb, careful)
        tidy(self, parse_source(result["source"]), result["rendition"]["key"], careful=careful)
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

    def make(data: bytes) -> Made:
        rendition = render(data, recipe, limits)
        source = {
            "source-size": f"{rendition.source_width}x{rendition.source_height}",
            "source-bytes": str(len(data)),
        }
        if rendition.salvaged is not None:
            source["salvaged"] = rendition.salvaged
        return _made(rendition, suffix(wanted.key, rendition.content_type, settings), source)

    return from_original(task, wanted, prefix, suffixes(wanted.key, settings), recipe_name, make, careful=careful)


def _resized(task: ObjectTask, origin: Source, before: dict[str, Any]) -> tuple[Source, str]:
    """The rendition that the task before has left, and what its name has behind the object's key."""
    found = Source(**{name: before["rendition"][name] for name in ("bucket", "key", "etag")})
    for ending in SUFFIXES:
        if found.bucket == task.app.settings.output_bucket and found.key == stored_name(
            RESIZED_PREFIX, origin.key, ending
        ):
            return found, ending
    raise Reject(f"{found.uri} is no rendition of {origin.uri}", requeue=False)


def _from_resized(
    task: ObjectTask,
    origin: Source,
    before: dict[str, Any],
    resized: Source,
    ending: str,
    recipe: Recipe,
    recipe_name: str,
    careful: bool,
) -> dict[str, Any]:
    if careful or before["outcome"] == DUPLICATE:
        there = already(resized.bucket, THUMBS_PREFIX, origin, recipe_name, (ending,))
        if there is not None:
            return there
    limits = Limits.from_settings(task.app.settings)
    sight = Sight(lambda: is_current(resized.bucket, resized.key, resized.etag))
    stored = storage.read(resized, check_bytes=limits.check_bytes)
    provenance = Provenance.read(stored.metadata)
    origin = replace(origin, etag=provenance.etag, version_id=provenance.version_id, sequencer=provenance.sequencer)
    known = {
        fact: stored.metadata[fact] for fact in ("source-size", "source-bytes", "salvaged") if fact in stored.metadata
    }
    made = _made(render(stored.data, recipe, limits), ending, known | {"made-from": stored.found.etag})
    provenance = replace(provenance, recipe=recipe_name)
    return store(
        task, origin, stored_name(THUMBS_PREFIX, origin.key, ending), made, provenance, stored.found.size, sight
    )


def _made(rendition: Rendition, ending: str, metadata: dict[str, str]) -> Made:
    return Made(
        rendition.data,
        rendition.content_type,
        ending,
        metadata=metadata | {"pixels": f"{rendition.width}x{rendition.height}"},
        read={"width": rendition.source_width, "height": rendition.source_height}
        | {fact: metadata[fact] for fact in ("salvaged",) if fact in metadata},
        facts={"width": rendition.width, "height": rendition.height},
    )

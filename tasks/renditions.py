"""The tasks: ``resize`` makes a rendition of an object, ``thumbnail`` makes a smaller one from that.

``reconcile`` makes what is stored of an object agree with the object as it is now.
"""

from __future__ import annotations

import logging
from typing import Any

from pipeline.celery import app
from pipeline.core.errors import MessageError
from pipeline.core.names import stored_name
from pipeline.core.source import Source
from pipeline.images.names import RESIZED_PREFIX, SUFFIXES, THUMBS_PREFIX, suffix, suffixes
from tasks.base import ObjectTask
from tasks.cleanup import reconcile_now
from tasks.images.apart import render
from tasks.images.render import Limits, Recipe, Recipes, Rendition
from tasks.job import Job
from tasks.making import Artifact, Original, Plan, produce
from tasks.outcome import Outcome

logger = logging.getLogger(__name__)


# ``careful`` is what version 0.1 enqueued: the flag is in the argument now.
@app.task(name="tasks.resize", bind=True, base=ObjectTask)
def resize(self: ObjectTask, source: str | dict[str, Any], careful: bool = False) -> dict[str, Any]:
    """Makes ``resized/<key>`` of one object, within RESIZE_BOX.

    ``source``: ``s3://bucket/key``, or the JSON form of a ``Source``. The result names the outcome,
    the source, and (when done) the sizes in pixels and bytes of what was read and of the rendition.
    """
    settings = self.app.settings
    recipe = Recipe.from_settings(settings, settings.resize_box)

    def plan(job: Job) -> Plan:
        folder = settings.output_prefix + RESIZED_PREFIX
        return _from_object(job, folder, recipe, Recipes.from_settings(settings).resized)

    return produce(self, source, plan, check_existing=careful)


@app.task(name="tasks.thumbnail", bind=True, base=ObjectTask)
def thumbnail(self: ObjectTask, source: str | dict[str, Any], careful: bool = False) -> dict[str, Any]:
    """Makes ``thumbs/<key>`` of one object, within THUMB_BOX.

    After ``resize`` in a chain, ``source`` is its result, and the thumbnail is made from that rendition, so
    that the original is read and decoded once. Otherwise it is what ``resize`` takes, and the original is read.
    """
    settings = self.app.settings
    recipe, name = Recipe.from_settings(settings, settings.thumb_box), Recipes.from_settings(settings).thumb

    def plan(job: Job) -> Plan:
        if job.previous is None:
            return _from_object(job, settings.output_prefix + THUMBS_PREFIX, recipe, name)
        return _from_resized(job, job.previous, recipe, name)

    return produce(self, source, plan, check_existing=careful)


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
    wanted = self.parse(source).source

    def work() -> dict[str, Any]:
        state = reconcile_now(self.app, wanted, again=not second_look, always=True, thorough=thorough)
        outcome = Outcome.REMOVED if state.removed else Outcome.RECONCILED
        logger.info(
            "%s: %s: %s",
            outcome.value,
            wanted.uri,
            ", ".join(state.removed) or "nothing to remove",
            extra={"action": outcome.value, "key": wanted.key, "task": self.name},
        )
        return {"outcome": outcome.value, "source": wanted.to_json(), "removed": list(state.removed)}

    return self.run_with_policy(wanted, work, record=False)


def _from_object(job: Job, folder: str, recipe: Recipe, recipe_name: str) -> Plan:
    settings = job.app.settings
    limits = Limits.from_settings(settings)

    def make(original: Original) -> Artifact:
        rendition = render(original.data, recipe, limits)
        source = {
            "source-size": f"{rendition.source_width}x{rendition.source_height}",
            "source-bytes": str(len(original.data)),
        }
        if rendition.salvaged is not None:
            source["salvaged"] = rendition.salvaged
        return _artifact(rendition, suffix(job.source.key, rendition.content_type, settings), source)

    return Plan(folder, suffixes(job.source.key, settings), recipe_name, make)


def _from_resized(job: Job, resized: Source, recipe: Recipe, recipe_name: str) -> Plan:
    prefix = job.app.settings.output_prefix
    by_name = {stored_name(prefix + RESIZED_PREFIX, job.source.key, ending): ending for ending in SUFFIXES}
    if resized.key not in by_name:
        raise MessageError(f"{resized.uri} is no rendition of {job.source.uri}")
    ending = by_name[resized.key]
    limits = Limits.from_settings(job.app.settings)

    def make(original: Original) -> Artifact:
        facts = ("source-size", "source-bytes", "salvaged")
        known = {fact: original.metadata[fact] for fact in facts if fact in original.metadata}
        return _artifact(render(original.data, recipe, limits), ending, known | {"made-from": original.found.etag})

    return Plan(prefix + THUMBS_PREFIX, (ending,), recipe_name, make, previous=resized)


def _artifact(rendition: Rendition, ending: str, metadata: dict[str, str]) -> Artifact:
    return Artifact(
        rendition.data,
        rendition.content_type,
        ending,
        metadata=metadata | {"pixels": f"{rendition.width}x{rendition.height}"},
        read={"width": rendition.source_width, "height": rendition.source_height}
        | {fact: metadata[fact] for fact in ("salvaged",) if fact in metadata},
        facts={"width": rendition.width, "height": rendition.height},
    )

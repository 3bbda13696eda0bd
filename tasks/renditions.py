"""The image tasks: ``resize`` makes a rendition, ``thumbnail`` a smaller one from that, and ``rendition`` any other.

``reconcile`` makes the stored outputs of an object agree with its current version.
"""

from __future__ import annotations

import logging
from typing import Any

from pipeline import enqueue
from pipeline.celery import app
from pipeline.core.errors import MessageError
from pipeline.core.source import Source
from pipeline.images import RENDITION, placed
from pipeline.images.names import FormatEndings
from pipeline.images.renditions import Declared, declared, named
from tasks.base import ObjectTask
from tasks.cleanup import reconcile_now
from tasks.images.apart import render
from tasks.images.decode import shown_size
from tasks.images.recipes import recipe
from tasks.images.render import Limits, Rendition
from tasks.job import Job
from tasks.making import Artifact, Original, Plan, produce
from tasks.outcome import Outcome

logger = logging.getLogger(__name__)

#: Metadata about the upload, which renditions made from a rendition copy.
_OF_THE_SOURCE = ("source-size", "source-bytes", "salvaged")


# Version 0.1 enqueued ``careful``; now the argument contains the flag.
@app.task(name="tasks.resize", bind=True, base=ObjectTask)
def resize(self: ObjectTask, source: str | dict[str, Any], careful: bool = False) -> dict[str, Any]:
    """Makes ``resized/<key>`` of one object, within RESIZE_BOX or as RENDITIONS declares it.

    ``source``: ``s3://bucket/key``, or the JSON form of a ``Source``. The result names the outcome and the source, and
    (when done) the sizes of the input and the rendition in pixels and bytes.
    """
    return make_rendition(self, source, "resized", check_existing=careful)


@app.task(name="tasks.thumbnail", bind=True, base=ObjectTask)
def thumbnail(self: ObjectTask, source: str | dict[str, Any], careful: bool = False) -> dict[str, Any]:
    """Makes ``thumbs/<key>`` of one object, within THUMB_BOX or as RENDITIONS declares it.

    After ``resize`` in a chain, ``source`` is its result, and the task makes the thumbnail from that rendition, so that
    the original is read and decoded once. Otherwise ``source`` is as for ``resize``, and the task reads the original.
    """
    return make_rendition(self, source, "thumbs", check_existing=careful)


@app.task(name=RENDITION, bind=True, base=ObjectTask)
def rendition(self: ObjectTask, source: str | dict[str, Any], name: str) -> dict[str, Any]:
    """Makes ``<name>/<key>`` of one object, as RENDITIONS declares it; otherwise works like ``thumbnail``."""
    return make_rendition(self, source, name)


@app.task(name="tasks.reconcile", bind=True, base=ObjectTask)
def reconcile(
    self: ObjectTask, source: str | dict[str, Any], second_look: bool = False, thorough: bool = False
) -> dict[str, Any]:
    """Makes the stored outputs of one object agree with its current version.

    Removes the renditions and the failure record of a deleted object (unless DELETE_RENDITIONS is off), and everything
    else that was not made from the current version. Enqueues the object if nothing is stored of that version. Takes a
    second look later, unless this is the ``second_look`` and it found nothing to remove.
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


def make_rendition(
    task: ObjectTask, source: str | dict[str, Any], name: str, *, check_existing: bool = False
) -> dict[str, Any]:
    """Makes the rendition of that name. If RENDITIONS has none, the message was published with other settings than this
    worker's, and the task enqueues the object again for the declared renditions."""
    wanted = named(task.app.settings, name)
    if wanted is None:
        return _enqueue_anew(task, source, name)
    return produce(task, source, lambda job: _plan(job, wanted), check_existing=check_existing)


def _enqueue_anew(task: ObjectTask, argument: str | dict[str, Any], name: str) -> dict[str, Any]:
    source = task.parse(argument).source

    def work() -> dict[str, Any]:
        enqueue.send(enqueue.work(task.app, source, check_existing=True))
        if task.request.chain:
            task.request.chain.clear()
        logger.info(
            "skipped: %s: RENDITIONS has no %s, so it is enqueued for those that it has",
            source.uri,
            name,
            extra={"action": Outcome.SKIPPED.value, "key": source.key, "task": task.name},
        )
        return {"outcome": Outcome.SKIPPED.value, "source": source.to_json()}

    return task.run_with_policy(source, work)


def _plan(job: Job, wanted: Declared) -> Plan:
    settings = job.app.settings
    asked, limits, made = recipe(settings, wanted), Limits.from_settings(settings), placed(settings, wanted)
    parent = None if wanted.made_from is None else named(settings, wanted.made_from)
    previous, suffix = _previous(job, parent)
    endings = FormatEndings(wanted.form)

    def make(original: Original) -> Artifact:
        rendered = render(original.data, asked, limits)
        if original.is_upload:
            facts = {
                "source-size": f"{rendered.source_width}x{rendered.source_height}",
                "source-bytes": str(len(original.data)),
            }
            if rendered.salvaged is not None:
                facts["salvaged"] = rendered.salvaged
        else:
            facts = {fact: original.metadata[fact] for fact in _OF_THE_SOURCE if fact in original.metadata}
            facts["made-from"] = original.found.etag
        return _artifact(rendered, endings.of(job.source.key, rendered.content_type), facts)

    def is_enough(original: Original) -> bool:
        """False for a very long picture that lost too much of its shorter side."""
        sizes = [_size(original.metadata.get(fact)) for fact in ("source-size", "pixels")]
        if None in sizes:
            return True
        whole, found = (shown_size(size, asked.box, asked.fit) for size in sizes if size is not None)
        return found[0] >= whole[0] - 1 and found[1] >= whole[1] - 1

    # A rendition in its parent's format has the parent's ending.
    is_alike = parent is not None and suffix is not None and parent.form == wanted.form
    return Plan(made, make, previous, (suffix,) if is_alike and suffix is not None else None, is_enough=is_enough)


def _previous(job: Job, parent: Declared | None) -> tuple[Source | None, str | None]:
    """The parent that the chain has stored, and the suffix of its name.

    Raises ``MessageError`` if the stored output is not a rendition of the object.
    """
    made = [(each, placed(job.app.settings, each)) for each in declared(job.app.settings)]
    for stored in job.stored:
        for each, output in made:
            if stored.key.startswith(output.folder):
                names = output.names(job.source.key, ever=True)
                name = next((name for name in names if name.name == stored.key), None)
                if name is None:
                    raise MessageError(f"{stored.uri} is not a rendition of {job.source.uri}")
                if each == parent:
                    return stored, name.suffix
    return None, None


def _size(text: str | None) -> tuple[int, int] | None:
    width, _, height = (text or "").partition("x")
    return (int(width), int(height)) if width.isdigit() and height.isdigit() else None


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

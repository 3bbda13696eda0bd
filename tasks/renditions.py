"""The tasks: ``resize`` makes a rendition of an object, ``thumbnail`` makes a smaller one from that."""

from __future__ import annotations

import logging
from typing import Any

from pipeline import storage
from pipeline.celery import app
from pipeline.source import Source
from tasks.base import DONE, ObjectTask, parse_source
from tasks.images import Limits, Recipe, render

logger = logging.getLogger(__name__)

RESIZED_PREFIX = "resized/"
THUMBS_PREFIX = "thumbs/"


@app.task(name="tasks.resize", bind=True, base=ObjectTask)
def resize(self: ObjectTask, source: str | dict[str, Any]) -> dict[str, Any]:
    """Makes ``resized/<key>`` of one object, within RESIZE_BOX.

    ``source``: ``s3://bucket/key``, or the JSON form of a ``Source``. The result names the outcome,
    the source, and (when done) the sizes in pixels and bytes of what was read and of the rendition.
    """
    wanted = parse_source(source)

    def work() -> dict[str, Any]:
        settings = self.app.settings
        return _make(
            self, wanted, wanted, RESIZED_PREFIX + wanted.key, Recipe.from_settings(settings, settings.resize_box)
        )

    return self.settle(wanted, work)


@app.task(name="tasks.thumbnail", bind=True, base=ObjectTask)
def thumbnail(self: ObjectTask, source: str | dict[str, Any]) -> dict[str, Any]:
    """Makes ``thumbs/<key>`` of one object, within THUMB_BOX.

    After ``resize`` in a chain, ``source`` is its result, and the thumbnail is made from that rendition, so
    that the original is read and decoded once. Otherwise it is what ``resize`` takes, and the original is read.
    """
    made = source.get("rendition") if isinstance(source, dict) else None
    origin = parse_source(source["source"] if isinstance(source, dict) and "source" in source else source)

    def work() -> dict[str, Any]:
        settings = self.app.settings
        recipe = Recipe.from_settings(settings, settings.thumb_box)
        if made is None:
            return _make(self, origin, origin, THUMBS_PREFIX + origin.key, recipe)
        resized = Source(bucket=made["bucket"], key=made["key"], etag=made["etag"])
        return _make(self, origin, resized, THUMBS_PREFIX + made["key"].removeprefix(RESIZED_PREFIX), recipe)

    return self.settle(origin, work)


def _make(task: ObjectTask, origin: Source, read_from: Source, key: str, recipe: Recipe) -> dict[str, Any]:
    """Reads, renders and stores one rendition, and returns the task's result."""
    limits = Limits.from_settings(task.app.settings)
    stored = storage.read(read_from, check_bytes=limits.check_bytes)
    rendition = render(stored.data, recipe, limits)
    bucket = task.app.settings.required("output_bucket")
    key += rendition.suffix
    etag = storage.write(
        bucket,
        key,
        rendition.data,
        content_type=rendition.content_type,
        metadata={
            "source-etag": origin.etag if origin.etag is not None else stored.etag,
            "source-size": f"{rendition.source_width}x{rendition.source_height}",
            "source-bytes": str(len(stored.data)),
        },
    )
    logger.info(
        "%s -> %s/%s %dx%d",
        origin.uri,
        bucket,
        key,
        rendition.width,
        rendition.height,
        extra={"action": DONE, "key": origin.key, "task": task.name},
    )
    return {
        "outcome": DONE,
        "source": origin.to_json(),
        "read": {"width": rendition.source_width, "height": rendition.source_height, "bytes": len(stored.data)},
        "rendition": {
            "bucket": bucket,
            "key": key,
            "etag": etag,
            "width": rendition.width,
            "height": rendition.height,
            "bytes": len(rendition.data),
            "content_type": rendition.content_type,
        },
    }

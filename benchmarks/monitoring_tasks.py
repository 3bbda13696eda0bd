"""The worker that ``benchmarks.monitoring`` measures: the pipeline's own configuration, tasks that only render."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.celery import make_app
from tasks.base import ObjectTask
from tasks.images.render import Recipe, render

PHOTO = (Path(__file__).parents[1] / "samples" / "hubble_deep_field.jpg").read_bytes()

app = make_app()
app.conf.imports = ("pipeline.sqs.monitoring.commands",)


@app.task(name="benchmark.resize", base=ObjectTask)
def resize(key: str) -> dict[str, Any]:
    """The image step alone: what reading and writing S3 costs would make the share of the events smaller."""
    made = render(PHOTO, Recipe.from_settings(app.settings, app.settings.resize_box))
    return {
        "outcome": "done",
        "source": {"bucket": "bucket", "key": key},
        "read": {"width": made.source_width, "height": made.source_height, "bytes": len(PHOTO)},
        "rendition": {
            "bucket": "bucket",
            "key": key,
            "width": made.width,
            "height": made.height,
            "bytes": len(made.data),
        },
    }


@app.task(name="benchmark.nothing", base=ObjectTask)
def nothing(key: str) -> dict[str, Any]:
    """The worst case: all that the worker does is what stands around a task."""
    return {"outcome": "done", "source": {"bucket": "bucket", "key": key}}

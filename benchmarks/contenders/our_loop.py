"""The loop with our image code: the baseline for every layer above it (Celery, retries, convergence)."""

from __future__ import annotations

import os

from benchmarks.contenders.loop import run
from tasks.images.render import Recipe, render

RESAMPLER = os.environ.get("RESAMPLER", "pillow")
RESIZED, THUMB = (Recipe(box, resampler=RESAMPLER) for box in ((1024, 768), (192, 192)))


def make_both(data: bytes) -> tuple[bytes, bytes]:
    resized = render(data, RESIZED).data
    return resized, render(resized, THUMB).data


if __name__ == "__main__":
    run(make_both)

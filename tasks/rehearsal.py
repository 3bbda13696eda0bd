"""What the tasks of images would make of an object, without storing anything: for estimates before work begins."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pipeline.core.settings import Settings
from tasks.images.render import Limits, Recipe, render

#: The tasks that can be rehearsed, as a route names them.
TASKS = ("tasks.resize", "tasks.thumbnail")


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """``sizes``: bytes of each rendition."""

    sizes: tuple[int, ...]
    cpu_s: float


def rehearse(data: bytes, settings: Settings) -> Rehearsed:
    """Both renditions, as a chain makes them. Raises ``PermanentError`` for what would end as a failure record."""
    limits = Limits.from_settings(settings)
    limits.check_bytes(len(data))
    before = time.process_time()
    resized = render(data, Recipe.from_settings(settings, settings.resize_box), limits)
    thumb = render(resized.data, Recipe.from_settings(settings, settings.thumb_box), limits)
    return Rehearsed((len(resized.data), len(thumb.data)), time.process_time() - before)

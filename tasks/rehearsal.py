"""Renders an object as the image tasks would, without storing anything: for estimates before work begins."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pipeline.core.settings import Settings
from pipeline.images import RENDITION, TASKS
from pipeline.images.renditions import declared
from tasks.images.recipes import recipe
from tasks.images.render import Limits, render

#: The tasks that can be rehearsed, by their names in a route.
REHEARSED = frozenset({RENDITION, *(step.task for step in TASKS.values())})


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """``sizes``: the bytes of each rendition."""

    sizes: tuple[int, ...]
    cpu_s: float


def rehearse(data: bytes, settings: Settings) -> Rehearsed:
    """All renditions, as a chain makes them. Raises ``PermanentError`` if it would end as a failure record."""
    limits = Limits.from_settings(settings)
    limits.check_bytes(len(data))
    before = time.process_time()
    made: dict[str, bytes] = {}
    for each in declared(settings):
        read = data if each.made_from is None else made[each.made_from]
        made[each.name] = render(read, recipe(settings, each), limits).data
    return Rehearsed(tuple(map(len, made.values())), time.process_time() - before)

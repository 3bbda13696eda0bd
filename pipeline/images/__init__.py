"""The route of the images: what SUFFIXES says becomes a resized rendition and a thumbnail of that.

Declared here, and not beside the tasks, so that a program that enqueues needs no module called ``tasks``: it may have
one of its own. The tasks, and what makes their recipes, are named by string.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module

from pipeline.core.routes import Output, Route
from pipeline.core.settings import Settings
from pipeline.images.names import RESIZED_PREFIX, SUFFIXES, THUMBS_PREFIX, suffixes

#: The module whose ``Recipes`` tell how renditions are made. It needs Pillow, which the bridge does not.
RECIPES = "tasks.images.render"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRoute(Route):
    """Its renditions' names and recipes follow from the settings, and some names from what is in the picture."""

    def suffixes(self, settings: Settings) -> tuple[str, ...]:
        return settings.suffixes

    def reject_reason(self, key: str, settings: Settings) -> str | None:
        return None if key.lower().endswith(settings.suffixes) else "its key ends in none of SUFFIXES"

    def output_sets(self, key: str, settings: Settings) -> tuple[tuple[Output, ...], ...]:
        return tuple(self._pair(suffix) for suffix in suffixes(key, settings))

    def all_outputs(self, key: str) -> tuple[Output, ...]:
        return tuple(output for suffix in SUFFIXES for output in self._pair(suffix))

    def recipes(self, settings: Settings) -> dict[str, str]:
        made = import_module(RECIPES).Recipes.from_settings(settings)
        resized, thumb = self.outputs
        return {resized.folder: made.resized, thumb.folder: made.thumb}

    def _pair(self, suffix: str) -> tuple[Output, ...]:
        return tuple(replace(output, append_suffix=suffix) for output in self.outputs)


IMAGES = ImageRoute(
    name="images",
    tasks=("tasks.resize", "tasks.thumbnail"),
    outputs=(Output(folder=RESIZED_PREFIX), Output(folder=THUMBS_PREFIX)),
)
ROUTES = (IMAGES,)

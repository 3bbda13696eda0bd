"""The route of the images: uploads with SUFFIXES become the renditions that RENDITIONS declares.

It is declared here and not beside the tasks, so that a program that enqueues needs no module called ``tasks``, of which
it may have its own. Strings name the tasks and the module with their recipes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from pipeline.core.outputs import Output, Step
from pipeline.core.routes import Route
from pipeline.core.settings import Settings
from pipeline.images.names import FormatEndings
from pipeline.images.renditions import Declared, declared

#: The module whose ``recipes`` gives the recipes of renditions. It needs Pillow, which the bridge does not.
RECIPES = "tasks.images.recipes"
#: The default two have a task each, under the names that programs and messages know.
TASKS = {"resized": Step("tasks.resize"), "thumbs": Step("tasks.thumbnail")}
#: The task that makes all others.
RENDITION = "tasks.rendition"


@dataclass(frozen=True)
class _Recipe:
    """The recipe of one rendition by these settings; found when it is needed."""

    settings: Settings
    name: str

    def __call__(self) -> str:
        found: str = import_module(RECIPES).recipes(self.settings)[self.name]
        return found


def step(name: str) -> Step:
    """The task that makes the rendition of that name."""
    return TASKS.get(name, Step(RENDITION, (("name", name),)))


def output(settings: Settings, rendition: Declared) -> Output:
    return Output(
        folder=rendition.folder,
        endings=FormatEndings(rendition.form),
        recipe=_Recipe(settings, rendition.name),
        made_from=None if rendition.made_from is None else f"{rendition.made_from}/",
    )


def placed(settings: Settings, rendition: Declared) -> Output:
    """The output below OUTPUT_PREFIX."""
    return output(settings, rendition).below(settings.output_prefix)


def images(settings: Settings) -> Route:
    """The route by these settings. Raises ``ConfigError``."""
    renditions = declared(settings)
    return Route(
        name="images",
        match_suffixes=settings.suffixes,
        tasks=tuple(step(each.name) for each in renditions),
        outputs=tuple(output(settings, each) for each in renditions),
    )


def ROUTES(settings: Settings) -> Sequence[Route]:  # noqa: N802 - what modules of routes have
    return (images(settings),)

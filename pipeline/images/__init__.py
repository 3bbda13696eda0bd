"""The route of the images: what SUFFIXES says becomes the renditions that RENDITIONS says.

Declared here, and not beside the tasks, so that a program that enqueues needs no module called ``tasks``: it may have
one of its own. The tasks, and what makes their recipes, are named by string.
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

#: The module whose ``recipes`` tells how renditions are made. It needs Pillow, which the bridge does not.
RECIPES = "tasks.images.recipes"
#: The two that there have always been have a task each, under the names that programs and messages know.
TASKS = {"resized": Step("tasks.resize"), "thumbs": Step("tasks.thumbnail")}
#: The task of all others.
RENDITION = "tasks.rendition"


@dataclass(frozen=True)
class _Recipe:
    """Of one rendition by these settings; told when it is asked for."""

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
    """The output where it is in the bucket."""
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

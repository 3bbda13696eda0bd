"""One rendition of one image with other settings, as a chain would make it, without storing anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.core.settings import Settings
from pipeline.images import RENDITION, TASKS
from pipeline.images.renditions import declared, named
from pipeline.images.spelling import box_text, spelled
from tasks.images.apart import render
from tasks.images.decode import shown_size
from tasks.images.recipes import recipe
from tasks.images.render import Limits, Recipe, Rendition

#: The tasks whose renditions can be tried, as a route names them.
TRIED = frozenset({RENDITION, *(step.task for step in TASKS.values())})


@dataclass(frozen=True, slots=True)
class Trial:
    rendition: Rendition
    setting: str  # the value of RENDITIONS that makes this rendition so, and leaves the others unchanged


def present(settings: Settings) -> list[dict[str, str]]:
    """The declared renditions: the name, box, fit, format and quality of each, as text; empty for a default."""
    return [
        {
            "name": each.name,
            "box": box_text(each.box),
            "fit": "cover" if each.is_cover else "contain",
            "format": each.form or "",
            "quality": "" if each.quality is None else str(each.quality),
        }
        for each in declared(settings)
    ]


def attempt(data: bytes, settings: Settings, asked: Mapping[str, str]) -> Trial:
    """Renders an original with changed settings of one rendition. ``asked``: the fields of ``present``.

    Decodes in a process of its own, within the limits of the settings. Raises ``ConfigError`` for invalid settings, and
    what ``tasks.images.apart.render`` raises.
    """
    options = [asked["fit"] if asked["fit"] == "cover" else "", asked["format"]]
    options.append(f"q{asked['quality']}" if asked["quality"] else "")
    setting = spelled(settings, changed=asked["name"], box=asked["box"], options=tuple(filter(None, options)))
    wanted = settings.model_copy(update={"renditions": setting})
    return Trial(_render(data, wanted, asked["name"], Limits.from_settings(settings)), setting)


def _render(data: bytes, settings: Settings, name: str, limits: Limits) -> Rendition:
    """Renders as a chain does: from the parent rendition, unless that lost too much of a very long picture."""
    made = named(settings, name)
    if made is None:
        raise KeyError(name)
    asked = recipe(settings, made)
    if made.made_from is None:
        return render(data, asked, limits)
    parent = _render(data, settings, made.made_from, limits)
    return render(parent.data if _is_enough(parent, asked) else data, asked, limits)


def _is_enough(parent: Rendition, asked: Recipe) -> bool:
    whole = shown_size((parent.source_width, parent.source_height), asked.box, asked.fit)
    found = shown_size((parent.width, parent.height), asked.box, asked.fit)
    return found[0] >= whole[0] - 1 and found[1] >= whole[1] - 1

"""Parses RENDITIONS: text in, values out.

::

    resized=1024x768, thumbs<resized=192x192:cover, medium=640x480:webp:q80, sizes/wide=1600x

Commas separate entries. An entry is ``name=box``, followed by options, each after a colon:

- The name is the folder, ``medium/``. ``name<other`` names the rendition that it is made from, and ``name<original``
  the upload; by default it is the smallest other one that is large enough.
- The box is in pixels: ``640x480``; ``640x`` limits only the width, and ``x480`` only the height.
- ``contain`` (the default) fits the whole picture in the box; ``cover`` fills the box, and cuts off two sides;
  ``width`` and ``height`` let only that side of the box count. None of them enlarges.
- ``jpeg``, ``png``, ``webp`` or ``avif``: its format; OUTPUT_FORMAT by default.
- ``q1`` to ``q100``: its quality; QUALITY by default.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import NoReturn

from pipeline.core.errors import ConfigError
from pipeline.core.settings import Settings

#: The longest side in pixels that WebP allows.
MAX_SIDE = 16_383
#: The most renditions: each is a task for every upload, with a request of its own.
MAX_RENDITIONS = 30
#: Stands for the upload in place of a rendition's name.
ORIGINAL = "original"
FORMATS = {"jpeg": "jpeg", "jpg": "jpeg", "png": "png", "webp": "webp", "avif": "avif"}
FITS = ("contain", "cover", "width", "height")
#: The assumed quality of a rendition without one, when two are compared.
_USUAL_QUALITY = 85

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*(/[A-Za-z0-9][A-Za-z0-9._@-]*)*")
_BOX = re.compile(r"(\d*)[xX×](\d*)")
_QUALITY = re.compile(r"[qQ](\d+)")


@dataclass(frozen=True, slots=True)
class Declared:
    """One rendition to make of every image."""

    name: str
    box: tuple[int, int]  # pixels; ``MAX_SIDE`` for a side that does not count
    is_cover: bool = False  # fills the box; else fits in it
    form: str | None = None  # "webp"; None: the source's, or OUTPUT_FORMAT
    quality: int | None = None  # None: the format's default
    made_from: str | None = None  # another one's name; None: the upload

    @property
    def folder(self) -> str:
        return f"{self.name}/"


@lru_cache(maxsize=64)
def _declared(text: str, form: str | None, quality: int | None) -> tuple[Declared, ...]:
    return parse(text, form=form, quality=quality)


def declared(settings: Settings) -> tuple[Declared, ...]:
    """All renditions of an image, each after its parent. Raises ``ConfigError``."""
    text = settings.renditions
    if text is None:
        resize, thumb = ("x".join(map(str, box)) for box in (settings.resize_box, settings.thumb_box))
        text = f"resized<{ORIGINAL}={resize},thumbs<resized={thumb}"
    return _declared(text, settings.output_format, settings.quality)


def named(settings: Settings, name: str) -> Declared | None:
    return next((each for each in declared(settings) if each.name == name), None)


def parse(text: str, *, form: str | None = None, quality: int | None = None) -> tuple[Declared, ...]:
    """The renditions, each after its parent.

    ``form`` and ``quality`` are the defaults. Raises ``ConfigError`` with the wrong text and its position.
    """
    found: dict[str, tuple[_Entry, Declared]] = {}
    for entry in _entries(text):
        made = entry.read()
        made = replace(
            made,
            form=form if made.form is None else made.form,
            quality=quality if made.quality is None else made.quality,
        )
        for other, (_, before) in found.items():
            if before.folder.startswith(made.folder) or made.folder.startswith(before.folder):
                entry.refuse(f"the name is taken, or one is a folder in the other: {other} stands before it")
        found[made.name] = entry, made
    if not found:
        raise ConfigError(f"RENDITIONS={text!r}: it names no rendition; write for example thumbs=192x192")
    if len(found) > MAX_RENDITIONS:
        raise ConfigError(f"RENDITIONS: {len(found)} renditions are more than {MAX_RENDITIONS}")
    return _in_order(_with_parents(found), text)


@dataclass(frozen=True, slots=True)
class _Entry:
    text: str
    at: int  # its position in the whole text, from 0
    whole: str

    def refuse(self, why: str) -> NoReturn:
        raise ConfigError(f"RENDITIONS: {self.text!r} at character {self.at + 1} of {self.whole!r}: {why}")

    @property
    def parent(self) -> str | None:
        """The name behind ``<``."""
        _, sign, name = self.text.partition("=")[0].partition("<")
        return name.strip() if sign else None

    def read(self) -> Declared:
        left, sign, right = self.text.partition("=")
        name = left.partition("<")[0].strip()
        if not sign:
            self.refuse("write it as NAME=WIDTHxHEIGHT, for example thumbs=192x192")
        if not _NAME.fullmatch(name) or name in (ORIGINAL, "failed") or name.startswith("failed/"):
            self.refuse(f"{name!r} can't be its name: letters, digits and . _ @ - make one, but not original or failed")
        box, *options = (part.strip() for part in right.split(":"))
        return self._with_options(name, box, options)

    def _with_options(self, name: str, box: str, options: Sequence[str]) -> Declared:
        fit = form = quality = None
        for option in options:
            asked = _QUALITY.fullmatch(option)
            if option.lower() in FITS and fit is None:
                fit = option.lower()
            elif option.lower() in FORMATS and form is None:
                form = FORMATS[option.lower()]
            elif asked and quality is None:
                quality = int(asked[1])
                if not 1 <= quality <= 100:
                    self.refuse(f"{option}: the quality is q1 to q100")
            else:
                known = ", ".join((*FITS, *FORMATS))
                self.refuse(f"{option!r} is said twice, or is none of {known} and q1 to q100")
        return Declared(name, self._box(box, fit), fit == "cover", form, quality)

    def _box(self, text: str, fit: str | None) -> tuple[int, int]:
        found = _BOX.fullmatch(text)
        if found is None or not any(found.groups()):
            self.refuse(f"{text!r} is no box: write WIDTHxHEIGHT in pixels, for example 192x192, or 640x, or x480")
        width, height = (int(side) if side else None for side in found.groups())
        if fit == "width":
            height = None
        elif fit == "height":
            width = None
        if (width is None and (height is None or fit == "width")) or (fit == "cover" and None in (width, height)):
            self.refuse(f"{fit} needs {'both sides' if fit == 'cover' else 'that side'} of the box")
        sides = tuple(MAX_SIDE if side is None else side for side in (width, height))
        if not all(1 <= side <= MAX_SIDE for side in sides):
            self.refuse(f"a side of the box is 1 to {MAX_SIDE} pixels")
        return sides[0], sides[1]


def _entries(text: str) -> Iterator[_Entry]:
    at = 0
    for part in text.split(","):
        stripped = part.strip()
        if stripped:
            yield _Entry(stripped, at + part.index(stripped), text)
        at += len(part) + 1


def _with_parents(found: Mapping[str, tuple[_Entry, Declared]]) -> dict[str, Declared]:
    """Each with its parent: the one in its entry, else the smallest that is surely good enough."""
    parents: dict[str, str | None] = {}
    for name, (entry, _) in found.items():
        asked = entry.parent
        if asked is not None and asked not in (ORIGINAL, *found):
            entry.refuse(f"{asked!r}, which it is to be made from, is none of the renditions, and not {ORIGINAL}")
        if asked is not None:
            parents[name] = None if asked == ORIGINAL else asked
    for name, (_, made) in found.items():
        if name not in parents:
            enough = [
                other
                for _, other in found.values()
                if _is_enough(other, made) and name not in _ancestors(other.name, parents)
            ]
            smallest = min(enough, key=lambda each: each.box[0] * each.box[1], default=None)
            parents[name] = None if smallest is None else smallest.name
    return {name: replace(made, made_from=parents[name]) for name, (_, made) in found.items()}


def _ancestors(name: str, parents: Mapping[str, str | None]) -> set[str]:
    """The rendition, its parent, and so on."""
    found: set[str] = set()
    above: str | None = name
    while above is not None and above not in found:
        found.add(above)
        above = parents.get(above)
    return found


def _is_enough(large: Declared, small: Declared) -> bool:
    """Whether nobody sees that one is made from the other, which is larger, whole, and encoded no worse.

    A very long picture may still be too small in one direction: its task sees that, and makes it from the upload.
    """
    alike = large.form in (None, small.form)
    ours, theirs = (_USUAL_QUALITY if each.quality is None else each.quality for each in (small, large))
    larger = all(big >= side for big, side in zip(large.box, small.box, strict=True)) and large.box != small.box
    return larger and not large.is_cover and alike and theirs >= ours


def _in_order(complete: dict[str, Declared], text: str) -> tuple[Declared, ...]:
    sorter = TopologicalSorter(
        {name: [] if made.made_from is None else [made.made_from] for name, made in complete.items()}
    )
    try:
        return tuple(complete[name] for name in sorter.static_order())
    except CycleError as exc:
        circle = " < ".join(exc.args[1])
        raise ConfigError(f"RENDITIONS={text!r}: each of {circle} is to be made from another of them") from None

"""What RENDITIONS says: text in, values out.

::

    resized=1024x768, thumbs<resized=192x192:cover, medium=640x480:webp:q80, sizes/wide=1600x

Entries have commas between them. An entry is ``name=box``, then what is particular, each behind a colon:

- the name is the folder, ``medium/``; ``name<other`` says which rendition it is made from, ``name<original`` that it
  is made from the upload; where nothing is said, it is the smallest other one that is large enough for it;
- the box is in pixels: ``640x480``; ``640x`` is as wide as that, however high; ``x480`` as high, however wide;
- ``contain`` (the usual): all of the picture fits in the box; ``cover``: it fills a box of that shape, what is over
  at two sides is cut off; ``width``, ``height``: only that side of the box counts. None of them enlarges;
- ``jpeg``, ``png``, ``webp`` or ``avif``: its format; else it is as OUTPUT_FORMAT says;
- ``q1`` to ``q100``: its quality; else it is as QUALITY says.
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

#: Pixels of a side; WebP holds no longer ones.
MAX_SIDE = 16_383
#: How many there may be: each is a task for every upload, and one more request of it.
MAX_RENDITIONS = 30
#: In the place of another rendition's name: the upload itself.
ORIGINAL = "original"
FORMATS = {"jpeg": "jpeg", "jpg": "jpeg", "png": "png", "webp": "webp", "avif": "avif"}
FITS = ("contain", "cover", "width", "height")
#: What a rendition without a quality of its own is taken to have, where two are compared.
_USUAL_QUALITY = 85

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*(/[A-Za-z0-9][A-Za-z0-9._@-]*)*")
_BOX = re.compile(r"(\d*)[xX×](\d*)")
_QUALITY = re.compile(r"[qQ](\d+)")


@dataclass(frozen=True, slots=True)
class Declared:
    """One rendition that is to be made of every image."""

    name: str
    box: tuple[int, int]  # pixels; a side that does not count is ``MAX_SIDE``
    is_cover: bool = False  # fills a box of this shape; else it fits in the box
    form: str | None = None  # "webp"; None: as the source, or OUTPUT_FORMAT
    quality: int | None = None  # None: the format's default
    made_from: str | None = None  # another one's name; None: the upload

    @property
    def folder(self) -> str:
        return f"{self.name}/"


@lru_cache(maxsize=64)
def _declared(text: str, form: str | None, quality: int | None) -> tuple[Declared, ...]:
    return parse(text, form=form, quality=quality)


def declared(settings: Settings) -> tuple[Declared, ...]:
    """All renditions of an image, each after the one that it is made from. Raises ``ConfigError``."""
    text = settings.renditions
    if text is None:
        resize, thumb = ("x".join(map(str, box)) for box in (settings.resize_box, settings.thumb_box))
        text = f"resized<{ORIGINAL}={resize},thumbs<resized={thumb}"
    return _declared(text, settings.output_format, settings.quality)


def named(settings: Settings, name: str) -> Declared | None:
    return next((each for each in declared(settings) if each.name == name), None)


def parse(text: str, *, form: str | None = None, quality: int | None = None) -> tuple[Declared, ...]:
    """The renditions, each after the one that it is made from.

    ``form``, ``quality``: of those that say nothing of their own. Raises ``ConfigError`` with the text and the place of
    what is wrong with it.
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
    at: int  # where it begins in the whole, from 0
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
    """Each with what it is made from: what its entry says, else the smallest that is surely good enough."""
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
    """It, and all that it is made from."""
    found: set[str] = set()
    above: str | None = name
    while above is not None and above not in found:
        found.add(above)
        above = parents.get(above)
    return found


def _is_enough(large: Declared, small: Declared) -> bool:
    """Whether nothing is seen of it when the one is made from the other: it is larger, whole, and no worse encoded.

    A very long picture may still be too small in one direction: that is seen, and it is made from the upload, when its
    turn comes.
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

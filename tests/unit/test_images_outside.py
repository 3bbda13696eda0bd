"""Renditions of every kind of file that is read, against what a decoder that nobody here wrote makes of the original.

libvips judges. It does not read BMPs; Pillow's own reader judges those, for the renderer reads them with another one.
No second decoder of HEIC installs as a wheel, and browsers do not show it: test_images_formats.py has its colours.
"""

from __future__ import annotations

import io

import pytest
from PIL import Image

from benchmarks.referee.comparing import BOX, compared
from benchmarks.referee.vips import by_vips
from tasks.images.identify import READ
from tasks.images.render import Recipe, render
from tests.support.kinds import KINDS

#: The largest mean difference of a channel and of a part of the picture, of 255: nothing is resized, so all that is
#: left is the rounding of 16-bit samples, and of colours behind alpha.
SAME = (0.5, 2.0)
#: libvips repeats samples of AVIF's halved chroma, libavif interpolates between them.
CHROMA = (4.0, 8.0)
BOUNDS = dict.fromkeys(("AVIF", "AVIF alpha", "AVIF P3", "AVIF turned"), CHROMA)

_INKS = "without a profile, libvips takes a generic one, and the plain formula is used here"
_NUMBERS = "libvips ignores this chunk; tests/unit/test_images_numbers.py has the colours that Chromium shows"
_PLANES = "libvips mixes up the rows of two planes; tests/unit/test_images_tiff.py has the samples"
#: A kind that comes out right must leave this list.
EXPECTED = {
    "JPEG CMYK": _INKS,
    "TIFF CMYK": _INKS,
    "PNG cICP P3": _NUMBERS,
    "PNG gAMA": _NUMBERS,
    "GIF with a margin": "libvips fills the margin with black, browsers leave it transparent",
    "TIFF LA 8 planes": _PLANES,
    "TIFF LA 16 planes": _PLANES,
    "TIFF LA 16 big-endian planes": _PLANES,
    "AVIF sequence": "libvips does not read it",
    "TIFF Lab": "libvips does not read it",
}


def difference(kind: str) -> str | None:
    data = KINDS[kind]()
    ours = pixels(render(data, Recipe(BOX, "PNG")).data)
    try:
        theirs = pixels(data) if kind.startswith("BMP") else by_vips(data)
    except ValueError as exc:
        return f"libvips: {exc}"
    return compared(ours, theirs, *BOUNDS.get(kind, SAME))


def pixels(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGBA")


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - EXPECTED.keys()))
def test_another_decoder_shows_the_same(kind: str) -> None:
    assert difference(kind) is None


@pytest.mark.parametrize("kind", EXPECTED)
def test_an_expected_difference_is_still_there(kind: str) -> None:
    assert difference(kind) is not None, f"take it out of EXPECTED: {EXPECTED[kind]}"


def test_every_format_is_among_the_kinds() -> None:
    shown = {render(made(), Recipe(BOX)).source_format for made in KINDS.values()}
    assert shown == set(READ) - {"HEIF"}

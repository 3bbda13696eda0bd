"""Sizes and orientations: in the box, in shape, never enlarged, upright."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks.images.decode import decode, fit
from tasks.images.render import Limits, Recipe, render
from tests.support.pictures import SHOWN, encoded, opened, png, quadrants, shown_corners

DATA = Path(__file__).parents[1] / "data"

sides = st.integers(1, 20_000)
sizes = st.tuples(sides, sides)


@given(sizes, sizes)
def test_fits_in_the_box_without_enlarging(size: tuple[int, int], box: tuple[int, int]) -> None:
    width, height = fit(size, box)
    assert 1 <= width <= min(size[0], box[0])
    assert 1 <= height <= min(size[1], box[1])


@given(sizes, sizes)
def test_keeps_the_shape_to_the_nearest_pixel_and_fills_the_box(size: tuple[int, int], box: tuple[int, int]) -> None:
    scale = min(Fraction(1), Fraction(box[0], size[0]), Fraction(box[1], size[1]))
    for got, side in zip(fit(size, box), size, strict=True):
        assert abs(got - side * scale) <= Fraction(1, 2) or (got == 1 and side * scale < 1)
    got = fit(size, box)
    assert got == size or got[0] == box[0] or got[1] == box[1]


@given(sizes, sizes)
def test_knows_no_up_and_no_down(size: tuple[int, int], box: tuple[int, int]) -> None:
    assert fit(size[::-1], box[::-1]) == fit(size, box)[::-1]


@given(sizes, sizes)
def test_what_fits_already_is_left_alone(size: tuple[int, int], box: tuple[int, int]) -> None:
    once = fit(size, box)
    assert fit(once, box) == once


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.tuples(st.integers(1, 200), st.integers(1, 200)),
    st.sampled_from(["JPEG", "PNG", "GIF"]),
    st.integers(1, 8),
)
def test_a_rendition_has_the_size_it_says(
    size: tuple[int, int], box: tuple[int, int], format: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation if format == "JPEG" else 1
    image = Image.new("RGB", size, (10, 200, 30))
    rendition = render(encoded(image, format, **({"exif": exif} if format == "JPEG" else {})), Recipe(box))
    shown = size[::-1] if exif[0x0112] >= 5 else size
    assert (rendition.source_width, rendition.source_height) == shown
    assert (rendition.width, rendition.height) == opened(rendition.data).size == fit(shown, box)


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (1, 1), (2, 5000)])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
def test_a_line_of_pixels_survives(size: tuple[int, int], format: str) -> None:
    rendition = render(encoded(Image.new("RGB", size, (200, 30, 30)), format), Recipe((192, 192)))
    assert (rendition.width, rendition.height) == fit(size, (192, 192))
    assert min(rendition.width, rendition.height) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("size", [(96, 64), (1600, 1000)])  # as it is, and shrunk (a JPEG by way of a draft)
def test_every_exif_orientation_comes_out_upright(format: str, orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"AVIF": {"speed": 10}, "WEBP": {"method": 0}}.get(format, {})
    rendition = render(encoded(quadrants(*size), format, exif=exif, **options), Recipe((300, 200)))
    image = opened(rendition.data)
    assert shown_corners(image) == SHOWN[orientation]
    shown = size[::-1] if orientation >= 5 else size
    assert (rendition.source_width, rendition.source_height) == shown
    assert image.size == fit(shown, (300, 200))
    assert image.getexif().get(0x0112, 1) == 1, "a viewer would turn it once more"


def test_the_box_is_that_of_the_picture_as_shown() -> None:
    """A photo of 4000x1000 that is shown upright must become 192 high, not 192 wide and 768 high."""
    exif = Image.Exif()
    exif[0x0112] = 6
    rendition = render(encoded(quadrants(4000, 1000), "JPEG", exif=exif), Recipe((1024, 768)))
    assert (rendition.width, rendition.height) == (192, 768)


def test_heic_is_turned_once() -> None:
    upright = render(DATA.joinpath("quadrants.heic").read_bytes(), Recipe((90, 90)))
    turned = render(DATA.joinpath("quadrants-turned.heic").read_bytes(), Recipe((90, 90)))
    assert shown_corners(opened(upright.data)) == SHOWN[1]
    assert shown_corners(opened(turned.data)) == SHOWN[6]
    assert (turned.source_width, turned.source_height) == (64, 96)


@pytest.mark.parametrize("tag", [0, 9, 65535])
def test_a_senseless_orientation_is_none(tag: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = tag
    assert shown_corners(opened(render(encoded(quadrants(), "JPEG", exif=exif), Recipe((90, 90))).data)) == SHOWN[1]


def test_damaged_exif_does_not_cost_the_picture() -> None:
    data = encoded(quadrants(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff junk")
    assert shown_corners(opened(render(data, Recipe((90, 90))).data)) == SHOWN[1]


@pytest.mark.parametrize(
    ("side", "scale"),
    [
        (1000, 1),
        (2559, 1),  # half of it would be 1.249 times the target: too little for LANCZOS to work on
        (2560, 2),
        (4000, 2),
        (5461, 2),
        (5462, 4),  # 4/3 times
        (6000, 4),
        (12_280, 4),
        (12_288, 8),  # 1.5 times
        (20_480, 8),  # libjpeg goes no further
    ],
)
@pytest.mark.parametrize("turn", [1, 6])
def test_a_jpeg_is_decoded_no_further_than_the_quality_needs(side: int, scale: int, turn: int) -> None:
    """Also guards against a Pillow in which `draft` has come to mean something else."""
    exif = Image.Exif()
    exif[0x0112] = turn
    box = (1024, 1000) if turn == 1 else (1000, 1024)  # the box for the picture as shown
    decoded = decode(encoded(Image.new("L", (side, side // 16)), "JPEG", exif=exif), box, Limits())
    assert decoded.image.width == -(-side // scale)
    assert decoded.target[0] == min(side, 1024)


def test_the_thumbnail_of_a_full_size_rendition_needs_a_quarter_of_it() -> None:
    decoded = decode(encoded(Image.new("L", (1024, 768)), "JPEG"), (192, 192), Limits())
    assert decoded.image.size == (256, 192)


def test_the_edge_of_a_drafted_jpeg_is_where_it_was() -> None:
    """2561 is odd: half of it ends in a pixel that is half picture. Only the picture may be resized."""
    image = Image.new("L", (2561, 40))
    image.paste(255, (1281, 0, 2561, 40))
    rendition = opened(render(encoded(image, "JPEG", quality=95), Recipe((1000, 1000))).data)
    row = [rendition.getpixel((x, 5)) for x in range(1000)]
    edge = sum(255 - value for value in row if isinstance(value, (int, float))) / 255
    assert edge == pytest.approx(1281 / 2561 * 1000, abs=0.25)


def test_orientation_behind_the_pixels_of_a_png_does_not_turn_it() -> None:
    """It must come before them (PNG, third edition, 5.6); readers that show a picture as it arrives never see it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    before = png(8, 4, 8, 0, [bytes(8)] * 4, eXIf=exif.tobytes()[6:])
    at = before.index(b"eXIf") - 4
    end = before.index(b"IDAT") - 4
    iend = before.index(b"IEND") - 4
    behind = before[:at] + before[end:iend] + before[at:end] + before[iend:]
    assert opened(render(before, Recipe((8, 8), "PNG")).data).size == (4, 8)
    assert opened(render(behind, Recipe((8, 8), "PNG")).data).size == (8, 4)

"""A JPEG that becomes a JPEG stays in YCbCr, and its chroma goes straight to the half size that the file keeps."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageDraw

from tasks.images.decode import decode
from tasks.images.jpeg import read_header
from tasks.images.render import Limits, Recipe, render
from tasks.images.resample import halve_chroma, resample
from tests.support.icc import rgb_profile, srgb_of_rgb
from tests.support.pictures import encoded, jpeg_error, opened, quadrants, rgb

BOX = (128, 96)
AS_JPEG, AS_PNG = Recipe(BOX), Recipe(BOX, "PNG")
SAMPLINGS = ("4:2:0", "4:2:2", "4:4:4")


def detailed(width: int, height: int) -> Image.Image:
    """Coloured edges, and noise that is another in each channel."""
    dice = random.Random(width * height)
    noise = Image.merge("RGB", [Image.frombytes("L", (width, height), dice.randbytes(width * height)) for _ in "RGB"])
    return Image.blend(quadrants(width, height), noise, 0.15)


def components_of_rgb(image: Image.Image, *, adobe: bool) -> bytes:
    """A JPEG without the YCbCr transform, as some scanners and programs write: known by an Adobe segment that says
    so, or by the identifiers 'R', 'G' and 'B' (what libjpeg goes by where there is neither JFIF nor Adobe)."""
    data = encoded(image, "JPEG", keep_rgb=True, quality=95)
    frame = data.index(b"\xff\xc0")
    assert data[frame + 10 : frame + 19 : 3] == b"RGB"
    if not adobe:
        return data
    ids = bytearray(data)
    scan = data.index(b"\xff\xda")
    for number in range(3):
        ids[frame + 10 + 3 * number] = ids[scan + 5 + 2 * number] = number + 1
    return bytes(ids[:2]) + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0" + bytes(ids[2:])


def psnr(image: Image.Image, other: Image.Image) -> float:
    histogram = ImageChops.difference(image, other).histogram()
    squares = sum(count * (index % 256) ** 2 for index, count in enumerate(histogram))
    return math.inf if squares == 0 else 10 * math.log10(255**2 * sum(histogram) / squares)


def by_way_of_rgb(data: bytes, recipe: Recipe) -> bytes:
    """The same draft, resized in RGB and encoded alike."""
    source = decode(data, recipe.box, Limits())
    return encoded(resample(source.image, source.target, source.box), "JPEG", quality=85)


def ideal(data: bytes, size: tuple[int, int]) -> Image.Image:
    return opened(data).convert("RGB").resize(size, Image.Resampling.LANCZOS)


# Which pictures


@pytest.mark.parametrize("subsampling", SAMPLINGS)
@pytest.mark.parametrize("progressive", [False, True])
def test_a_colour_jpeg_that_is_made_smaller_stays_in_ycbcr(subsampling: str, progressive: bool) -> None:
    data = encoded(detailed(400, 300), "JPEG", subsampling=subsampling, progressive=progressive)
    assert decode(data, BOX, Limits(), ycbcr=True).image.mode == "YCbCr"
    assert decode(data, BOX, Limits()).image.mode == "RGB"
    in_full = decode(data, (300, 225), Limits(), ycbcr=True)
    assert in_full.image.size == (400, 300)
    assert in_full.image.mode == ("YCbCr" if subsampling == "4:2:0" else "RGB"), "else chroma would lose by it"
    assert decode(data, (400, 300), Limits(), ycbcr=True).image.mode == "RGB", "nothing to resize"


@pytest.mark.parametrize("adobe", [True, False])
def test_a_jpeg_of_red_green_and_blue_is_shown_in_its_colours(adobe: bool) -> None:
    """libjpeg can't make YCbCr of it: asking for that would be an error."""
    data = components_of_rgb(quadrants(400, 300), adobe=adobe)
    assert not read_header(data).ycbcr
    shown = opened(render(data, AS_JPEG).data)
    expected = quadrants(*shown.size)
    for at in ((30, 20), (100, 20), (30, 70), (100, 70)):
        error = jpeg_error(data) + jpeg_error(render(data, AS_JPEG).data)
        assert all(abs(a - b) <= error for a, b in zip(rgb(shown, at), rgb(expected, at), strict=True))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_inks_go_as_before(mode: str) -> None:
    data = encoded(detailed(400, 300).convert(mode), "JPEG")
    assert not read_header(data).ycbcr
    assert decode(data, BOX, Limits(), ycbcr=True).image.mode == mode
    assert render(data, AS_JPEG).data == encoded(opened(render(data, AS_PNG).data), "JPEG", quality=85)


def test_a_jpeg_without_jfif_is_known_by_its_components() -> None:
    """Cameras write EXIF only: identifiers 1, 2 and 3, or whatever else is not 'RGB'."""
    data = encoded(detailed(400, 300), "JPEG")
    assert data[2:4] == b"\xff\xe0"
    bare = data[:2] + data[4 + int.from_bytes(data[4:6], "big") :]
    assert read_header(bare).ycbcr
    assert render(bare, AS_JPEG).data == render(data, AS_JPEG).data


@pytest.mark.parametrize("forced", ["PNG", "WEBP", "AVIF", "GIF"])
def test_other_formats_get_all_of_the_colour(forced: str) -> None:
    """What is written in another format comes from RGB: a PNG keeps a sample of colour for every pixel."""
    data = encoded(quadrants(400, 300), "JPEG", quality=100, subsampling="4:4:4")
    recipe = Recipe(BOX, forced)
    assert opened(render(data, recipe).data).size == BOX
    source = decode(data, BOX, Limits())
    exact = resample(source.image, source.target, source.box)
    if forced == "PNG":
        assert opened(render(data, recipe).data).tobytes() == exact.tobytes()


def test_the_simd_resampler_keeps_to_rgb() -> None:
    pytest.importorskip("cykooz_resizer")  # on ARM
    data = encoded(detailed(400, 300), "JPEG", subsampling="4:4:4")
    simd = opened(render(data, Recipe(BOX, resampler="simd")).data)
    assert psnr(simd, opened(by_way_of_rgb(data, AS_JPEG))) > 45  # roundings


def test_a_tiff_in_ycbcr_is_shown_in_its_colours() -> None:
    """Pillow opens one that is not compressed in this mode; as a PNG it keeps all of its colour."""
    image = quadrants(400, 300)
    data = encoded(image.convert("YCbCr"), "TIFF")
    assert opened(data).mode == "YCbCr"
    for recipe in (AS_JPEG, AS_PNG):
        assert psnr(opened(render(data, recipe).data).convert("RGB"), ideal(data, BOX)) > 30
    exact = opened(data).resize(BOX, Image.Resampling.LANCZOS).convert("RGB")
    assert opened(render(data, AS_PNG).data).tobytes() == exact.tobytes()


# What comes out


def test_the_file_is_of_the_same_kind() -> None:
    """As if from RGB: its quantization, and chroma by half, which is what the resize relies on."""
    data = encoded(detailed(400, 300), "JPEG", subsampling="4:4:4")
    ours, other = opened(render(data, AS_JPEG).data), opened(by_way_of_rgb(data, AS_JPEG))
    assert ours.quantization == other.quantization  # type: ignore[attr-defined]
    assert ours.layer == other.layer == [(1, 2, 2, 0), (2, 1, 1, 1), (3, 1, 1, 1)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("quality", [50, 85, 100])
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 255), (0, 0, 0), (90, 120, 40)])
def test_an_even_colour_stays_what_it_is(colour: tuple[int, int, int], quality: int) -> None:
    data = encoded(Image.new("RGB", (401, 299), colour), "JPEG", quality=95)
    made = render(data, Recipe(BOX, quality=quality)).data
    error = jpeg_error(data) + jpeg_error(made)
    image = opened(made)
    for at in ((0, 0), (60, 40), (image.width - 1, image.height - 1)):
        assert all(abs(a - b) <= error for a, b in zip(rgb(image, at), colour, strict=True))


@pytest.mark.parametrize("colour", [(20, 120, 230), (200, 100, 50)])
def test_a_profile_is_applied_to_colours_not_to_ycbcr(colour: tuple[int, int, int]) -> None:
    data = encoded(Image.new("RGB", (400, 300), colour), "JPEG", quality=100, subsampling=0, icc_profile=rgb_profile())
    made = render(data, Recipe(BOX, quality=100)).data
    error = 2 + 2 * jpeg_error(data) + jpeg_error(made)  # as in test_images_colour
    assert all(abs(a - b) <= error for a, b in zip(rgb(opened(made), (50, 50)), srgb_of_rgb(colour), strict=True))


@pytest.mark.parametrize("size", [(128, 96), (127, 96), (128, 95), (127, 95), (65, 33)])
@pytest.mark.parametrize("scale", [1.3, 2.0, 2.6, 5.3])
def test_chroma_lies_where_the_luma_lies(size: tuple[int, int], scale: float) -> None:
    """A ramp of colour: each two by two pixels have its value at their middle, for odd sizes too, to the last one."""
    width, height = round(size[0] * scale), round(size[1] * scale)
    ramp = Image.linear_gradient("L").transpose(Image.Transpose.ROTATE_90).resize((width, height))
    down = Image.linear_gradient("L").resize((width, height))
    small = halve_chroma(Image.merge("YCbCr", (ramp, ramp, down)), size, None)
    luma, blue, red = small.split()
    assert small.size == size
    for x in range(8, size[0] - 9, 2):  # away from the edges, where a filter sees no ramp
        for y in (8, 2 * (size[1] // 4)):
            middle = (value(luma, x, y) + value(luma, x + 1, y)) / 2
            assert value(blue, x, y) == value(blue, x + 1, y) == pytest.approx(middle, abs=1.5)
    expected = down.resize(size, Image.Resampling.LANCZOS)
    for y in range(8, size[1] - 9, 2):
        middle = (value(expected, 8, y) + value(expected, 8, y + 1)) / 2
        assert value(red, 8, y) == value(red, 8, y + 1) == pytest.approx(middle, abs=1.5)
    corner = size[0] - 1, size[1] - 1
    assert value(blue, *corner) == pytest.approx(value(luma, *corner), abs=255 * 3 / min(size) + 2)


def value(band: Image.Image, x: int, y: int) -> float:
    found = band.getpixel((x, y))
    assert isinstance(found, (int, float))
    return found


PHOTO = opened((Path(__file__).parents[2] / "samples" / "astronaut.png").read_bytes()).convert("RGB")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.tuples(st.integers(300, 1300), st.integers(300, 1300)),
    st.tuples(st.integers(100, 300), st.integers(100, 300)),
    st.sampled_from(SAMPLINGS),
)
def test_a_photo_is_as_close_to_the_original_as_by_way_of_rgb(
    size: tuple[int, int], box: tuple[int, int], subsampling: str
) -> None:
    """Within the 0.3 dB that a draft may lose, whatever the sizes."""
    data = encoded(PHOTO.resize(size), "JPEG", quality=92, subsampling=subsampling)
    recipe = Recipe(box)
    made = opened(render(data, recipe).data)
    other = opened(by_way_of_rgb(data, recipe))
    perfect = ideal(data, made.size)
    assert psnr(made, perfect) >= psnr(other, perfect) - 0.3


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 0, 255)])
@pytest.mark.parametrize("width", [140, 200, 300, 400, 500])
@pytest.mark.parametrize("subsampling", SAMPLINGS)
def test_thin_lines_of_pure_colour_stay_as_strong_as_by_way_of_rgb(
    colour: tuple[int, int, int], width: int, subsampling: str
) -> None:
    """The hardest thing for chroma, of which a file of 4:2:0 keeps the mean of two by two pixels. Measured against
    what was drawn, before it became a JPEG."""
    image = Image.new("RGB", (width, width * 3 // 4), "white")
    draw = ImageDraw.Draw(image)
    for at in range(5, width, 11):
        draw.line((at, 0, width - at, image.height), fill=colour)
    data = encoded(image, "JPEG", quality=95, subsampling=subsampling)
    recipe = Recipe(BOX)
    made, other = opened(render(data, recipe).data), opened(by_way_of_rgb(data, recipe))
    drawn = image.resize(made.size, Image.Resampling.LANCZOS)
    gain = psnr(made, drawn) - psnr(other, drawn)
    # Where chroma is blurred, the way by RGB cuts off what lies outside of it, and the lines lose colour for good.
    assert gain > (1.5 if subsampling == "4:2:0" and width < 400 else -0.3)


@pytest.mark.parametrize("size", [(1, 500), (500, 1), (2, 500), (3, 700), (500, 3)])
def test_a_line_of_pixels_keeps_its_colour(size: tuple[int, int]) -> None:
    data = encoded(Image.new("RGB", size, (200, 60, 60)), "JPEG", quality=95)
    made = render(data, Recipe((100, 100)))
    assert (made.width, made.height) == opened(made.data).size
    error = jpeg_error(data) + jpeg_error(made.data)
    assert all(abs(a - b) <= error for a, b in zip(rgb(opened(made.data), (0, 0)), (200, 60, 60), strict=True))

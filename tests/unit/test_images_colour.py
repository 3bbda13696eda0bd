"""Colours and samples: the expected pixels come from the formats' own definitions, not from a run."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from PIL import Image, ImageCms, ImageDraw, PngImagePlugin

from tasks.images.colour import to_srgb
from tasks.images.decode import decode
from tasks.images.render import Limits, Recipe, render
from tasks.images.resample import resample
from tests.support.icc import cmyk_lab, cmyk_profile, grey_profile, rgb_profile, srgb_of_lab, srgb_of_rgb
from tests.support.pictures import encoded, jpeg_error, opened, png, rgb, tiff

DATA = Path(__file__).parents[1] / "data"
SMALL = Recipe((20, 20))
SMALL_PNG = Recipe((20, 20), "PNG")

#: A conversion computes in 8-bit tables and rounds at their edges and at its end: 1 each; so does the expectation.
CMS = 2


def near(got: tuple[int, ...], expected: tuple[int, ...], within: int) -> bool:
    return all(abs(a - b) <= within for a, b in zip(got, expected, strict=True))


def even(mode: str, colour: object, format: str, **options: object) -> bytes:
    return encoded(Image.new(mode, (64, 64), colour), format, **options)  # type: ignore[arg-type]


def pixel(data: bytes, recipe: Recipe = SMALL, at: tuple[int, int] = (10, 10)) -> tuple[int, ...]:
    image = opened(render(data, recipe).data)
    found = image.getpixel(at)
    return tuple(int(v) for v in found) if isinstance(found, tuple) else (int(found or 0),)


# Colour profiles


@pytest.mark.parametrize("colour", [(20, 120, 230), (200, 100, 50), (128, 128, 128), (255, 255, 255), (0, 0, 0)])
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_an_rgb_profile_is_converted_to_srgb(colour: tuple[int, int, int], format: str) -> None:
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(format, {})
    data = even("RGB", colour, format, icc_profile=rgb_profile(), **options)
    expected = srgb_of_rgb(colour)
    # A gamma of 1.8 shown as 2.2 spreads dark samples, and with them the error of a JPEG, by less than 2.
    error = CMS + (2 * jpeg_error(data) if format == "JPEG" else 0)
    assert near(pixel(data, SMALL_PNG), expected, error)
    assert "icc_profile" not in opened(render(data, SMALL).data).info


def test_alpha_keeps_its_colours_and_itself_through_a_profile() -> None:
    data = even("RGBA", (20, 120, 230, 128), "PNG", icc_profile=rgb_profile())
    *colour, alpha = pixel(data)
    assert near(tuple(colour), srgb_of_rgb((20, 120, 230)), CMS + 1)  # and a rounding by half the alpha
    assert alpha == 128


@pytest.mark.parametrize("inks", [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 1, 0, 0), (0, 0, 0, 0)])
def test_cmyk_goes_through_its_profile(inks: tuple[int, int, int, int]) -> None:
    colour = tuple(255 * ink for ink in inks)
    expected = srgb_of_lab(*cmyk_lab(*inks))
    data = even("CMYK", colour, "TIFF", icc_profile=cmyk_profile())
    assert near(pixel(data, SMALL_PNG), expected, CMS)
    # Full ink and no ink are whole numbers of quantization steps away from the middle, or are clipped: exact.
    data = even("CMYK", colour, "JPEG", icc_profile=cmyk_profile(), quality=100)
    assert near(pixel(data, SMALL_PNG), expected, CMS + 2)
    assert render(data, SMALL).content_type == "image/jpeg"
    assert opened(render(data, SMALL).data).mode == "RGB", "browsers show CMYK wrong, or not at all"


def test_cmyk_without_a_profile_is_the_plain_formula() -> None:
    assert pixel(even("CMYK", (255, 0, 0, 0), "TIFF"), SMALL_PNG) == (0, 255, 255)
    assert pixel(even("CMYK", (0, 0, 0, 255), "TIFF"), SMALL_PNG) == (0, 0, 0)


def ycck(data: bytes) -> bytes:
    """The same samples, declared as YCCK: what libjpeg then converts them to is known (ITU-T T.872)."""
    at = data.index(b"Adobe\0")
    return data[: at + 11] + b"\2" + data[at + 12 :]


def test_ycck_is_read_as_ycck() -> None:
    """Samples 128, 128, 128 are grey as YCC, so C = M = Y = 127, as Adobe stores it: inverted."""
    plain = even("CMYK", (127, 127, 127, 55), "JPEG", quality=100)
    assert b"Adobe\0" in plain
    with Image.open(io.BytesIO(ycck(plain))) as image:
        expected = image.convert("RGB").getpixel((10, 10))
    grey = pixel(ycck(plain), SMALL_PNG)
    assert near(grey, (100, 100, 100), 2)  # (255 - 127) * (255 - 55) / 255
    assert isinstance(expected, tuple)
    assert near(grey, tuple(int(v) for v in expected), 1)


@pytest.mark.parametrize("sample", [0, 50, 128, 200, 255])
def test_grey_goes_through_a_grey_profile(sample: int) -> None:
    linear = sample / 255
    expected = 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
    assert near(pixel(even("L", sample, "PNG", icc_profile=grey_profile(1.0))), (round(255 * expected),), CMS)


def test_grey_goes_through_the_rgb_profile_of_its_program() -> None:
    got = pixel(even("L", 128, "PNG", icc_profile=rgb_profile()))
    assert near(got, srgb_of_rgb((128, 128, 128))[:1], CMS)


@pytest.mark.parametrize("profile", [b"", b"junk", rgb_profile()[:200], cmyk_profile()[:1000], b"x" * 5_000_000])
@pytest.mark.parametrize(("mode", "colour"), [("L", 90), ("RGB", (90, 90, 90)), ("CMYK", (0, 0, 0, 165))])
def test_a_profile_that_makes_no_sense_is_ignored(mode: str, colour: object, profile: bytes) -> None:
    assert pixel(even(mode, colour, "TIFF", icc_profile=profile), SMALL_PNG)[0] == 90


@pytest.mark.parametrize(
    ("mode", "colour", "profile"),
    [
        ("L", 90, cmyk_profile()),
        ("RGB", (90, 90, 90), cmyk_profile()),
        ("RGB", (90, 90, 90), grey_profile()),
        ("CMYK", (0, 0, 0, 165), rgb_profile()),
    ],
)
def test_the_profile_of_another_kind_of_image_is_ignored(mode: str, colour: object, profile: bytes) -> None:
    assert pixel(even(mode, colour, "TIFF", icc_profile=profile), SMALL_PNG)[0] == 90


def test_srgb_under_any_name_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for colour in [(1, 2, 3), (250, 3, 99), (17, 200, 31)]:
        assert pixel(even("RGB", colour, "PNG", icc_profile=profile)) == colour


def test_lab_is_shown_in_its_colours() -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    colour = (180, 60, 90)
    image = ImageCms.profileToProfile(Image.new("RGB", (64, 64), colour), srgb, lab, outputMode="LAB")
    assert image is not None
    # a* and b* are whole numbers in LAB, and one of them is worth up to 3 samples of sRGB here.
    assert near(pixel(encoded(image, "TIFF"), SMALL_PNG), colour, CMS + 3)


def test_colours_are_converted_after_the_resize(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 12 MP the conversion would cost twice as much as all the rest."""
    seen = []

    def convert(image: Image.Image, profile: bytes | None) -> Image.Image:
        seen.append(image.size)
        return to_srgb(image, profile)

    monkeypatch.setattr("tasks.images.render.to_srgb", convert)
    render(encoded(Image.new("RGB", (640, 480)), "PNG", icc_profile=rgb_profile()), SMALL)
    assert seen == [(20, 15)]


# 16 bits


def ramp16(order: str = "big") -> list[bytes]:
    """256 columns: 0, 257, 514 … 65535, so that column x must be shown as x."""
    row = b"".join((257 * x).to_bytes(2, order) for x in range(256))  # type: ignore[arg-type]
    return [row] * 16


def columns(data: bytes, recipe: Recipe = Recipe((256, 16))) -> list[object]:  # noqa: B008 - frozen
    image = opened(render(data, recipe).data).convert("L")
    return [image.getpixel((x, 1)) for x in range(image.width)]


def test_16_bit_grey_png_is_scaled_not_clipped() -> None:
    assert columns(png(256, 16, 16, 0, ramp16())) == list(range(256))


def test_16_bit_colour_png_is_scaled() -> None:
    rows = [b"".join((257 * x).to_bytes(2, "big") * 3 for x in range(256))] * 16
    assert columns(png(256, 16, 16, 2, rows)) == list(range(256))


def test_16_bit_grey_is_averaged_like_8_bit_grey() -> None:
    """Shrunk to a quarter, the ramp is the same ramp: each pixel the mean of four, 257 apart."""
    got = columns(png(256, 16, 16, 0, ramp16()), Recipe((64, 16)))
    inner = [got[x] for x in range(4, 60)]  # at the edges LANCZOS has pixels on one side only
    assert all(
        isinstance(value, (int, float)) and abs(value - (4 * x + 1.5)) <= 1 for x, value in enumerate(inner, start=4)
    )


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_16_bit_tiff(mode: str, compression: str) -> None:
    order = "little" if mode == "I;16" else "big"
    image = Image.frombytes(mode, (256, 16), b"".join(ramp16(order)))
    recipe = Recipe((256, 16), "PNG")
    assert columns(encoded(image, "TIFF", compression=compression), recipe) == list(range(256))


def test_16_bit_tiff_where_white_is_zero() -> None:
    data = tiff(256, 16, 16, 0, b"".join(ramp16("little")))
    assert columns(data, Recipe((256, 16), "PNG")) == list(range(255, -1, -1))


def test_12_bit_tiff() -> None:
    """Two samples in three bytes; column x holds what is nearest to x / 255 of white, 4095."""
    samples = [round(x * 4095 / 255) for x in range(256)]
    row = b"".join((a << 12 | b).to_bytes(3, "big") for a, b in zip(samples[::2], samples[1::2], strict=True))
    assert columns(tiff(256, 16, 12, 1, row * 16), Recipe((256, 16), "PNG")) == list(range(256))


# Palettes


def test_a_palette_is_averaged_not_sampled() -> None:
    """Stripes of one black and one white column become grey; the nearest neighbour of each would be one of them."""
    image = Image.new("P", (400, 40))
    image.putpalette([0, 0, 0, 255, 255, 255] + [0] * 762)
    for x in range(0, 400, 2):
        image.paste(1, (x, 0, x + 1, 40))
    for format in ("PNG", "GIF"):
        got = opened(render(encoded(image, format), Recipe((100, 100))).data).convert("L")
        assert all(abs(int(got.getpixel((x, 5)) or 0) - 127.5) <= 3 for x in range(5, 95)), format  # type: ignore[arg-type]


def test_bilevel_is_averaged_not_sampled() -> None:
    image = Image.new("1", (400, 40))
    for x in range(0, 400, 2):
        image.paste(1, (x, 0, x + 1, 40))
    for format in ("PNG", "TIFF", "BMP"):
        got = opened(render(encoded(image, format), Recipe((100, 100), "PNG")).data)
        assert got.mode == "L"
        assert all(abs(int(got.getpixel((x, 5)) or 0) - 127.5) <= 1 for x in range(5, 95)), format  # type: ignore[arg-type]


# Alpha


def disc(mode: str = "RGBA") -> Image.Image:
    """A red disc on nothing, where the nothing is green underneath."""
    image = Image.new("RGBA", (400, 400), (0, 255, 0, 0))
    ImageDraw.Draw(image).ellipse((50, 50, 350, 350), fill=(255, 0, 0, 255))
    return image.convert(mode)


def assert_no_fringe(image: Image.Image, lossy_within: int = 0) -> None:
    partly = 0
    for x in range(image.width):
        for y in range(image.height):
            red, green, blue, alpha = rgb(image, (x, y))
            if alpha:
                # A colour is stored times alpha, rounded to a whole number: worth up to 255 / alpha afterwards.
                within = math.ceil(255 / alpha) + lossy_within
                assert near((red, green, blue), (255, 0, 0), within), (x, y, red, green, blue, alpha)
                partly += alpha < 255
    assert partly > 50, "the edge must be soft"


def test_alpha_leaves_no_fringe() -> None:
    image = opened(render(encoded(disc(), "PNG"), Recipe((60, 60))).data)
    assert image.mode == "RGBA"
    assert rgb(image, (30, 30)) == (255, 0, 0, 255)
    assert rgb(image, (0, 0))[3] == 0
    assert_no_fringe(image)


def test_a_palette_with_transparency_leaves_no_fringe() -> None:
    """Red and a transparent green: as a PNG, and as a GIF."""
    image = Image.new("P", (400, 400), 1)
    image.putpalette([255, 0, 0, 0, 255, 0] + [0] * 762)
    ImageDraw.Draw(image).ellipse((50, 50, 350, 350), fill=0)
    assert_no_fringe(opened(render(encoded(image, "PNG", transparency=1), Recipe((60, 60))).data))
    gif = opened(render(encoded(image, "GIF", transparency=1), Recipe((60, 60))).data).convert("RGBA")
    assert {rgb(gif, (x, y))[:3] for x in range(60) for y in range(60) if rgb(gif, (x, y))[3]} == {(255, 0, 0)}
    assert rgb(gif, (0, 0))[3] == 0


def test_grey_alpha_leaves_no_fringe() -> None:
    image = Image.new("LA", (400, 400), (255, 0))
    ImageDraw.Draw(image).ellipse((50, 50, 350, 350), fill=(0, 255))
    got = opened(render(encoded(image, "PNG"), Recipe((60, 60))).data)
    assert got.mode == "LA"
    for x in range(60):
        grey, alpha = rgb(got, (x, 30))
        assert alpha == 0 or grey <= math.ceil(255 / alpha), (x, grey, alpha)


def packed(samples: list[int], depth: int) -> bytes:
    """One row of PNG samples."""
    bits = "".join(f"{sample:0{depth}b}" for sample in samples)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_a_png_of_any_depth(depth: int) -> None:
    """Left half the transparent grey, right half another."""
    white = (1 << depth) - 1
    row = packed([white] * 16 + [0] * 16, depth)
    data = png(32, 16, depth, 0, [row] * 16, tRNS=white.to_bytes(2, "big"))
    for recipe in (Recipe((32, 32)), Recipe((16, 16))):
        image = opened(render(data, recipe).data).convert("RGBA")
        assert rgb(image, (2, 4))[3] == 0, "the transparent grey shows"
        assert rgb(image, (image.width - 3, 4)) == (0, 0, 0, 255)


@pytest.mark.parametrize("depth", [8, 16])
def test_the_transparent_colour_of_a_png(depth: int) -> None:
    def sample(value: int) -> bytes:
        return (value * 257 >> (16 - depth)).to_bytes(depth // 8, "big")

    green, red = sample(10) + sample(200) + sample(30), sample(250) + sample(0) + sample(0)
    key = b"".join((v * 257 >> (16 - depth)).to_bytes(2, "big") for v in (10, 200, 30))
    data = png(32, 16, depth, 2, [green * 16 + red * 16] * 16, tRNS=key)
    for recipe in (Recipe((32, 32)), Recipe((16, 16))):
        image = opened(render(data, recipe).data).convert("RGBA")
        assert rgb(image, (2, 4))[3] == 0
        assert rgb(image, (image.width - 3, 4)) == (250, 0, 0, 255)


def test_an_alpha_channel_that_says_nothing_is_dropped() -> None:
    assert opened(render(encoded(Image.new("RGBA", (40, 40), (1, 2, 3, 255)), "PNG"), SMALL).data).mode == "RGB"


def test_transparent_heic_becomes_a_png() -> None:
    rendition = render(DATA.joinpath("alpha.heic").read_bytes(), Recipe((90, 90)))
    assert (rendition.content_type, rendition.suffix) == ("image/png", ".png")
    image = opened(rendition.data)
    assert image.mode == "RGBA"
    assert rgb(image, (40, 3))[3] < 40
    assert rgb(image, (40, image.height - 4))[3] > 215


def test_without_alpha_what_was_transparent_is_white() -> None:
    data = render(encoded(disc(), "PNG"), Recipe((200, 200), "JPEG")).data
    image = opened(data)  # in blocks of 16: neither of these two has an edge in its block
    assert near(rgb(image, (1, 1)), (255, 255, 255), jpeg_error(data))
    assert near(rgb(image, (100, 100)), (255, 0, 0), jpeg_error(data))


# Strips


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "I;16"])
def test_strips_give_the_pixels_of_one_piece(mode: str) -> None:
    noise = Image.effect_noise((700, 900), 90)
    image = {
        "RGBA": lambda: Image.merge("RGBA", [noise, noise.rotate(90), noise.rotate(180), noise.rotate(33)]),
        "LA": lambda: Image.merge("LA", [noise, noise.rotate(180)]),
        "P": lambda: noise.quantize(16),
        "1": lambda: noise.convert("1"),
        "I;16": lambda: noise.convert("I").point(lambda v: v * 257).convert("I;16"),
    }[mode]()
    whole = {
        "RGBA": lambda: image.resize((200, 257), Image.Resampling.LANCZOS),  # Pillow multiplies alpha in, too
        "LA": lambda: image.resize((200, 257), Image.Resampling.LANCZOS),
        "P": lambda: image.convert("RGB").resize((200, 257), Image.Resampling.LANCZOS),
        "1": lambda: image.convert("L").resize((200, 257), Image.Resampling.LANCZOS),
        "I;16": lambda: noise.resize((200, 257), Image.Resampling.LANCZOS),
    }[mode]()
    assert resample(image, (200, 257)).tobytes() == whole.tobytes()


def test_a_text_chunk_that_unpacks_to_megabytes_is_no_reason_to_fail() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("XML:com.adobe.xmp", "x" * 3_000_000, zip=True)
    data = encoded(Image.new("RGB", (40, 40), (9, 8, 7)), "PNG", pnginfo=info)
    assert pixel(data) == (9, 8, 7)


def test_decoding_keeps_what_the_header_says() -> None:
    decoded = decode(even("RGB", (1, 2, 3), "PNG", icc_profile=rgb_profile()), (20, 20), Limits())
    assert (decoded.format, decoded.size, decoded.target, decoded.turn) == ("PNG", (64, 64), (20, 20), 1)
    assert decoded.profile == rgb_profile()

"""An upload that is shown as it is keeps its picture to the bit, loses everything else, and never grows."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, PngImagePlugin

from tasks.images.formats import exact_palette
from tasks.images.lossless import stripped
from tasks.images.render import Recipe, render

SAMPLES = Path(__file__).parents[2] / "samples"
BOX = Recipe((1024, 768))
SECRET = b"GPS 52.5200 N"


def photo(size: tuple[int, int] = (120, 80), mode: str = "RGB") -> Image.Image:
    found = Image.open(SAMPLES / "rocket.jpg").convert("RGB").resize(size)
    found.info.clear()  # its profile
    return found if mode == "RGB" else found.convert(mode)


def with_secrets(form: str, image: Image.Image | None = None, **options: Any) -> bytes:
    image = photo() if image is None else image
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()
    out = io.BytesIO()
    if form == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Comment", SECRET.decode())
        image.save(out, form, exif=exif, pnginfo=texts, **options)
    elif form == "JPEG":
        image.save(out, form, exif=exif, comment=SECRET, **options)
    else:
        image.save(out, form, exif=exif, xmp=SECRET, **options)
    assert SECRET in out.getvalue()
    return out.getvalue()


def pixels(data: bytes) -> tuple[str, tuple[int, int], bytes]:
    with Image.open(io.BytesIO(data)) as image:
        return str(image.format), image.size, image.convert("RGBA").tobytes()


UPLOADS = {
    "jpeg": with_secrets("JPEG", quality=40),
    "progressive": with_secrets("JPEG", quality=40, progressive=True),
    "4:4:4": with_secrets("JPEG", quality=40, subsampling=0),
    "grey": with_secrets("JPEG", photo(mode="L"), quality=40),
    "restarts": with_secrets("JPEG", quality=40, restart_marker_rows=1),
    "png": with_secrets("PNG", optimize=True),
    "palette": with_secrets("PNG", photo().quantize(64), optimize=True),
    "bits": with_secrets("PNG", photo(mode="1"), optimize=True),
    "webp": with_secrets("WEBP", quality=40, method=6),
    "webp lossless": with_secrets("WEBP", lossless=True, method=6),
    "webp alpha": with_secrets("WEBP", photo(mode="RGBA"), quality=40, method=6),
}


@pytest.mark.parametrize("name", UPLOADS)
def test_the_picture_is_kept_to_the_bit_and_nothing_else(name: str) -> None:
    data = UPLOADS[name]
    made = render(data, BOX)
    # Of a photo that is stored without loss, a WebP with loss is far smaller, and taken.
    assert (pixels(made.data) == pixels(data)) == (name != "webp lossless")
    assert SECRET not in made.data
    assert len(made.data) < len(data)
    with Image.open(io.BytesIO(made.data)) as image:
        assert not image.getexif()
        assert not {"comment", "xmp", "Comment", "icc_profile"} & image.info.keys()
        assert (made.width, made.height) == image.size


@pytest.mark.parametrize("name", UPLOADS)
def test_what_follows_the_end_is_dropped(name: str) -> None:
    made = render(UPLOADS[name] + b"\0" * 3 + SECRET * 40, BOX)
    assert SECRET not in made.data
    assert len(made.data) < len(UPLOADS[name])


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("jpeg", Recipe((60, 60))),  # resized
        ("jpeg", Recipe((80, 80), fit="cover")),  # cut
        ("jpeg", Recipe((1024, 768), "WEBP")),  # converted
        ("webp", Recipe((1024, 768), "PNG")),
    ],
)
def test_what_is_changed_is_encoded(name: str, recipe: Recipe) -> None:
    made = render(UPLOADS[name], recipe)
    assert pixels(made.data) != pixels(UPLOADS[name])


def test_what_is_smaller_encoded_anew_is() -> None:
    out = io.BytesIO()
    photo().save(out, "JPEG", quality=100, subsampling=0)
    assert len(render(out.getvalue(), BOX).data) < len(out.getvalue()) / 2
    kept = render(UPLOADS["jpeg"], BOX).data
    assert len(render(UPLOADS["jpeg"], Recipe((1024, 768), quality=5)).data) < len(kept)


def test_a_turned_one_and_one_in_other_colours_are_encoded() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    out = io.BytesIO()
    photo().save(out, "JPEG", quality=40, exif=exif)
    assert pixels(render(out.getvalue(), BOX).data) != pixels(out.getvalue())
    out = io.BytesIO()
    photo(mode="CMYK").save(out, "JPEG", quality=40)
    with Image.open(io.BytesIO(render(out.getvalue(), BOX).data)) as image:
        assert image.mode == "RGB"


def avif(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "AVIF", **options)
    return out.getvalue()


def test_an_avif_is_kept_as_it_is_unless_it_has_metadata() -> None:
    plain = avif(photo(), quality=30)
    assert render(plain, BOX).data == plain
    told = avif(photo(), quality=30, xmp=SECRET)
    assert SECRET not in render(told, BOX).data
    assert stripped(told, "AVIF") is None
    assert stripped(plain + struct.pack(">I4s", 8 + len(SECRET), b"free") + SECRET, "AVIF") is None
    assert stripped(avif(photo(mode="RGBA")), "AVIF") is not None


def test_a_png_that_hides_something_is_encoded() -> None:
    data = UPLOADS["bits"]
    at = data.index(b"IDAT")
    size = int.from_bytes(data[at - 4 : at], "big")
    body = data[at + 4 : at + 4 + size] + SECRET
    chunk = struct.pack(">I", len(body)) + b"IDAT" + body + struct.pack(">I", zlib.crc32(b"IDAT" + body))
    hidden = data[: at - 4] + chunk + data[at + 8 + size :]
    assert stripped(hidden, "PNG") is None
    assert stripped(data, "PNG") is not None


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_any_bytes_are_stripped_or_refused(form: str) -> None:
    """It is given only what has been decoded; but nothing that it is given may raise anything."""
    whole = {"JPEG": UPLOADS["jpeg"], "PNG": UPLOADS["png"], "WEBP": UPLOADS["webp alpha"], "AVIF": avif(photo())}[form]
    rng = random.Random(1)
    for _ in range(400):
        damaged = bytearray(whole[: rng.randrange(12, len(whole))] if rng.random() < 0.3 else whole)
        for _ in range(rng.randrange(4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        found = stripped(bytes(damaged), form)
        assert found is None or len(found) <= len(damaged) + 20


def drawing(mode: str) -> Image.Image:
    image = Image.new(mode, (400, 300), "white")
    pen = ImageDraw.Draw(image)
    for at in range(0, 400, 8):
        pen.line((at, 0, 400 - at, 300), "black")
    return image


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def test_a_fax_and_a_drawing_are_png_and_a_photo_is_jpeg() -> None:
    fax = saved(drawing("1"), "TIFF", compression="group4")
    made = render(fax, BOX)
    assert (made.content_type, made.suffix) == ("image/png", ".png")
    assert len(made.data) < 10_000  # as a JPEG it has 60,000
    assert pixels(made.data)[2] == pixels(fax)[2]
    assert render(saved(drawing("P"), "BMP"), BOX).content_type == "image/png"
    assert render(saved(photo(), "TIFF"), BOX).content_type == "image/jpeg"
    assert render(saved(photo(mode="L"), "BMP"), BOX).content_type == "image/jpeg"
    assert render(fax, Recipe((1024, 768), "JPEG")).content_type == "image/jpeg"


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["L", "RGB"]), st.lists(st.integers(0, 255), min_size=3, max_size=60), st.integers(1, 30))
def test_a_palette_changes_no_pixel(mode: str, samples: list[int], width: int) -> None:
    per_pixel = 1 if mode == "L" else 3
    count = width * 10 * per_pixel
    image = Image.frombytes(mode, (width, 10), bytes((samples * count)[:count]))
    large = image.resize((40, 40), Image.Resampling.NEAREST)
    indexed = exact_palette(large)
    assert indexed is None or pixels(saved(indexed, "PNG")) == pixels(saved(large, "PNG"))
    colours = large.getcolors(40 * 40)
    assert colours is not None
    assert (indexed is None) == (len(colours) > 16) or mode == "RGB"

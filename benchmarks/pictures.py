"""Inputs of the image benchmark, made from the bundled photos with seeded noise, so every run has the same bytes."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

SAMPLES = Path(__file__).parents[1] / "samples"
PHOTOS = ("astronaut.png", "cats & dogs/chelsea.webp", "coffee.tiff", "rocket.jpg", "hubble_deep_field.jpg")
COLUMNS, ROWS = 4, 3
#: Half the range of the noise: its standard deviation is 6, as in a phone's photo in the shade.
NOISE = 10


def photo(width: int, height: int) -> Image.Image:
    """The bundled photos side by side: full of detail, however much it is reduced."""
    wall = Image.new("RGB", (width, height))
    tile = -(-width // COLUMNS), -(-height // ROWS)
    for index in range(COLUMNS * ROWS):
        with Image.open(SAMPLES / PHOTOS[index % len(PHOTOS)]) as source:
            image = source.convert("RGB")
        scale = max(tile[0] / image.width, tile[1] / image.height)
        size = round(image.width * scale) + 1, round(image.height * scale) + 1
        image = image.resize(size, Image.Resampling.BICUBIC).crop((0, 0, *tile))
        if index // len(PHOTOS) % 2:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        wall.paste(image, (index % COLUMNS * tile[0], index // COLUMNS * tile[1]))
    grain = Image.frombytes("L", wall.size, random.Random(1).randbytes(width * height))
    grain = grain.point([128 + (value - 128) * NOISE // 128 for value in range(256)])
    noise = Image.merge("RGB", [grain, ImageChops.offset(grain, 7, 3), ImageChops.offset(grain, 3, 11)])
    return ImageChops.add(wall, noise, 1, -128)


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def jpeg(image: Image.Image, **options: Any) -> bytes:
    return encoded(image, "JPEG", **{"quality": 92, "subsampling": "4:2:0", **options})


def _turned(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return jpeg(image, exif=exif)


def _with_alpha(image: Image.Image) -> Image.Image:
    image.putalpha(Image.radial_gradient("L").resize(image.size))
    return image


#: Name → size in pixels, and the function that makes the file from a photo of that size.
INPUTS: dict[str, tuple[tuple[int, int], Callable[[Image.Image], bytes]]] = {
    "12 MP JPEG": ((4000, 3000), jpeg),
    "24 MP JPEG": ((6000, 4000), jpeg),
    "12 MP progressive": ((4000, 3000), lambda image: jpeg(image, progressive=True)),
    "12 MP turned (EXIF 6)": ((4000, 3000), _turned),
    "12 MP CMYK": ((4000, 3000), lambda image: jpeg(image.convert("CMYK"), subsampling="4:4:4")),
    "worst case 2136x1602": ((2136, 1602), jpeg),
    "edge case 2560x1920": ((2560, 1920), jpeg),
    "web JPEG 1600x1200": ((1600, 1200), lambda image: jpeg(image, quality=80)),
    "web JPEG 800x600": ((800, 600), lambda image: jpeg(image, quality=80)),
    "PNG 2400x1800": ((2400, 1800), lambda image: encoded(image, "PNG", compress_level=6)),
    "PNG with alpha 2400x1800": ((2400, 1800), lambda image: encoded(_with_alpha(image), "PNG", compress_level=6)),
    "WebP 2400x1800": ((2400, 1800), lambda image: encoded(image, "WEBP", quality=85, method=2)),
}


def write_inputs(folder: Path, names: list[str]) -> dict[str, Path]:
    paths = {}
    for name in names:
        size, make = INPUTS[name]
        paths[name] = folder / name.replace(" ", "-")
        paths[name].write_bytes(make(photo(*size)))
    return paths

"""Small pictures whose every pixel is known, and files of them in any format."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]

RED, GREEN, BLUE, YELLOW = (200, 40, 40), (40, 180, 60), (50, 70, 200), (230, 220, 80)
#: Top left, top right, bottom left, bottom right.
CORNERS = (RED, GREEN, BLUE, YELLOW)

#: Where each corner of the stored picture is shown, for each EXIF orientation (EXIF 2.32, 4.6.4 A):
#: the colours at the top left, top right, bottom left and bottom right of the screen.
SHOWN = {
    1: (RED, GREEN, BLUE, YELLOW),
    2: (GREEN, RED, YELLOW, BLUE),
    3: (YELLOW, BLUE, GREEN, RED),
    4: (BLUE, YELLOW, RED, GREEN),
    5: (RED, BLUE, GREEN, YELLOW),
    6: (BLUE, RED, YELLOW, GREEN),
    7: (YELLOW, GREEN, BLUE, RED),
    8: (GREEN, YELLOW, RED, BLUE),
}


def quadrants(width: int = 96, height: int = 64) -> Image.Image:
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    for index, colour in enumerate(CORNERS):
        x, y = index % 2 * width // 2, index // 2 * height // 2
        draw.rectangle((x, y, x + width // 2, y + height // 2), fill=colour)
    return image


def shown_corners(image: Image.Image) -> tuple[Colour, ...]:
    """Which of the four colours is in the middle of each quarter: the nearest, so no tolerance is needed."""
    image = image.convert("RGB")
    middles = [(image.width * x // 4, image.height * y // 4) for y in (1, 3) for x in (1, 3)]
    return tuple(min(CORNERS, key=lambda colour: math.dist(colour, rgb(image, at))) for at in middles)


def rgb(image: Image.Image, at: tuple[int, int]) -> tuple[int, ...]:
    pixel = image.getpixel(at)
    assert isinstance(pixel, tuple)
    return tuple(int(sample) for sample in pixel)


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def jpeg_error(data: bytes) -> int:
    """How far a sample of an evenly coloured area can be off in this JPEG, by its own quantization tables.

    An even area has only a DC coefficient, eight times its sample: rounding it to the table's step moves the
    sample by up to step / 16. Rounding to whole samples adds 1/2, twice (to YCbCr, and back); blue takes
    1.772 times the error of Cb (ITU-T T.871).
    """
    tables = opened(data).quantization  # type: ignore[attr-defined]
    luma = tables[0][0] / 16 + 0.5
    chroma = tables[max(tables)][0] / 16 + 0.5
    return math.ceil(luma + 1.772 * chroma + 0.5)


def png(width: int, height: int, depth: int, colour_type: int, rows: Sequence[bytes], **chunks: bytes) -> bytes:
    """A PNG file from scratch (RFC 2083), for what Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)),
            *(chunk(name.encode(), data) for name, data in chunks.items()),
            chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))),
            chunk(b"IEND", b""),
        )
    )


def tiff(width: int, height: int, bits: int, photometric: int, data: bytes) -> bytes:
    """A little-endian TIFF file of one uncompressed strip of grey (TIFF 6.0, section 3)."""
    tags = [
        (256, width),
        (257, height),
        (258, bits),
        (259, 1),  # no compression
        (262, photometric),
        (273, 8),  # where the strip is
        (277, 1),  # samples per pixel
        (278, height),
        (279, len(data)),
    ]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + bytes(4)

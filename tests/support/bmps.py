"""Windows and OS/2 bitmaps from scratch, for what Pillow does not write."""

from __future__ import annotations

import struct
from collections.abc import Sequence


def bmp(
    size: tuple[int, int],
    bits: int,
    pixels: bytes,
    *,
    header: int = 40,
    compression: int = 0,
    masks: Sequence[int] = (),
    palette: Sequence[tuple[int, int, int]] = (),
) -> bytes:
    """``pixels`` as they are stored; a negative height: the top row comes first. Palette: red, green and blue."""
    width, height = size
    if header == 12:
        info = struct.pack("<IHHHH", header, width, height, 1, bits)
    else:
        fields = (width, height, 1, bits, compression, len(pixels), 0, 0, len(palette), 0)
        info = struct.pack("<IiiHHIIiiII", header, *fields)
        if header >= 52:
            info += struct.pack(f"<{len(masks)}I", *masks)
        info = info[:header].ljust(header, b"\0")
        if header == 40:
            info += struct.pack(f"<{len(masks)}I", *masks)
    table = b"".join(bytes((blue, green, red)) + bytes(header != 12) for red, green, blue in palette)
    at = 14 + len(info) + len(table)
    return struct.pack("<2sIHHI", b"BM", at + len(pixels), 0, 0, at) + info + table + pixels


def rows(stored: Sequence[bytes]) -> bytes:
    """Rows, each padded to four bytes."""
    return b"".join(row + bytes(-len(row) % 4) for row in stored)

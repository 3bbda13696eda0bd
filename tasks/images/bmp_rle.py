"""Run-length encoded bitmaps: runs, literal stretches, and jumps that leave pixels out."""

from __future__ import annotations

RLE8, RLE4 = 1, 2

_END_OF_LINE, _END_OF_BITMAP, _DELTA = 0, 1, 2


def unpack(runs: bytes, width: int, height: int, kind: int) -> tuple[bytes, bytes | None] | None:
    """One index a pixel, in the file's order of rows. If runs skip pixels, also a mask: 0 for those, 255 for others.

    Returns None if the data ends before the picture does.
    """
    indices, covered = bytearray(width * height), bytearray(width * height)
    at, x, y, size = 0, 0, 0, len(runs)
    while True:
        if y >= height or (y == height - 1 and x >= width and at >= size):
            break
        if at + 2 > size:
            return None
        count, value = runs[at], runs[at + 1]
        at += 2
        if count:
            samples = bytes((value,)) * count if kind == RLE8 else bytes((value >> 4, value & 15)) * (count + 1 >> 1)
        elif value == _END_OF_LINE:
            x, y = 0, y + 1
            continue
        elif value == _END_OF_BITMAP:
            break
        elif value == _DELTA:
            if at + 2 > size:
                return None
            x, y, at = x + runs[at], y + runs[at + 1], at + 2
            continue
        else:
            count = value
            length = count if kind == RLE8 else count + 1 >> 1
            stretch = runs[at : at + length]
            if len(stretch) < length:
                return None
            samples = stretch if kind == RLE8 else _nibbles(stretch)
            at += length + (length & 1)
        count = min(count, width - x)
        if count > 0:
            begin = y * width + x
            indices[begin : begin + count] = samples[:count]
            covered[begin : begin + count] = b"\xff" * count
            x += count
    return bytes(indices), bytes(covered) if 0 in covered else None


def _nibbles(stretch: bytes) -> bytes:
    return bytes(nibble for byte in stretch for nibble in (byte >> 4, byte & 15))

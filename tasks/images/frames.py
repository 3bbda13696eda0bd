"""How many frames a file has, without decoding any, and no further than need be."""

from __future__ import annotations

import struct

from PIL import ImageFile


def has_more_frames_than(limit: int, name: str, data: bytes, source: ImageFile.ImageFile) -> bool:
    """Counts up to the limit only: a small file can claim millions of frames, and a walk costs time."""
    if name == "GIF":
        return _gif_has_more(limit, data)
    if name == "TIFF":
        return _tiff_has_more(limit, data)
    return int(getattr(source, "n_frames", 1)) > limit  # from the header in the other formats


def _gif_has_more(limit: int, data: bytes) -> bool:
    def table_bytes(flags: int) -> int:
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    frames = 0
    try:
        at = 13 + table_bytes(data[10])
        while frames <= limit:
            block = data[at]
            if block == 0x2C:  # an image: its descriptor, a colour table, one byte of code size, data
                frames += 1
                at += 11 + table_bytes(data[at + 9])
            elif block == 0x21:  # an extension
                at += 2
            else:
                return False  # the trailer, or junk
            while data[at]:
                at += 1 + data[at]
            at += 1
    except IndexError:
        return False  # cut short: decoding finds out whether the first frame is whole
    return True


def _tiff_has_more(limit: int, data: bytes) -> bool:
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    entries, entry_bytes, offset = ("Q", 20, "Q") if big else ("H", 12, "I")
    frames = 0
    try:
        (at,) = struct.unpack_from(order + offset, data, 8 if big else 4)
        while at and frames <= limit:  # a chain in a circle is too long as well
            frames += 1
            (count,) = struct.unpack_from(order + entries, data, at)
            at += struct.calcsize(order + entries) + count * entry_bytes
            (at,) = struct.unpack_from(order + offset, data, at)
    except struct.error:
        return False
    return frames > limit

"""TIFF files from scratch (TIFF 6.0, and BigTIFF), for what Pillow does not write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence

_RAW, _DEFLATE = 1, 8


def tiff(
    size: tuple[int, int],
    strips: Sequence[bytes],
    *,
    bits: Sequence[int] = (8,),
    photometric: int = 1,
    order: str = "<",
    big: bool = False,
    deflate: bool = False,
    tags: Mapping[int, Sequence[int]] | None = None,
) -> bytes:
    """Every strip has the same number of rows; of planes, each is a strip. ``tags`` are added to the usual ones."""
    packed = [zlib.compress(strip) if deflate else strip for strip in strips]
    at = 16 if big else 8
    offsets = [at + sum(map(len, packed[:index])) for index in range(len(packed))]
    planes = len(bits) if (tags or {}).get(284) == (2,) else 1
    rows = -(-size[1] * planes // len(strips))
    usual: dict[int, Sequence[int]] = {
        256: (size[0],),
        257: (size[1],),
        258: bits,
        259: (_DEFLATE if deflate else _RAW,),
        262: (photometric,),
        273: offsets,
        277: (len(bits),),
        278: (rows,),
        279: [len(strip) for strip in packed],
    }
    directory_at = at + sum(map(len, packed))
    short = b"II" if order == "<" else b"MM"
    header = struct.pack(order + "HHHQ", 43, 8, 0, directory_at) if big else struct.pack(order + "HI", 42, directory_at)
    return short + header + b"".join(packed) + _directory({**usual, **(tags or {})}, directory_at, order, big)


def _directory(tags: Mapping[int, Sequence[int]], at: int, order: str, big: bool) -> bytes:
    entries = sorted(tags.items())
    entry, inline, count, offset = ("HHQ", 8, "Q", "Q") if big else ("HHI", 4, "H", "I")
    size = struct.calcsize("<" + count) + len(entries) * (20 if big else 12) + struct.calcsize("<" + offset)
    head, tail = struct.pack(order + count, len(entries)), b""
    for tag, values in entries:
        kind, letter = (3, "H") if max(values, default=0) < 1 << 16 and tag not in (273, 279) else (4, "I")
        data = struct.pack(f"{order}{len(values)}{letter}", *values)
        head += struct.pack(order + entry, tag, kind, len(values))
        if len(data) <= inline:
            head += data.ljust(inline, b"\0")
        else:
            head += struct.pack(order + offset, at + size + len(tail))
            tail += data + bytes(len(data) % 2)
    return head + struct.pack(order + offset, 0) + tail

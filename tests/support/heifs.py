"""HEIF files without pictures (ISO/IEC 23008-12): only what their description says, for what is judged by that."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence


def box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), name) + body


def heif(
    items: Mapping[int, str],
    sizes: Mapping[int, tuple[int, int]],
    made_of: Mapping[int, Sequence[int]],
    *,
    primary: int = 1,
    beside: Mapping[int, int] | None = None,
    brand: bytes = b"heic",
) -> bytes:
    """``items``: their types; ``made_of``: what a derived item refers to; ``beside``: auxiliary item -> its master."""
    infos = [
        box(b"infe", b"\2\0\0\0", struct.pack(">HH4sB", item, 0, kind.encode(), 0)) for item, kind in items.items()
    ]
    ispe = [box(b"ispe", bytes(4), struct.pack(">II", *size)) for size in sizes.values()]
    owns = b"".join(struct.pack(">HBB", item, 1, 1 + index) for index, item in enumerate(sizes))
    references = [
        box(b"dimg", struct.pack(f">HH{len(parts)}H", item, len(parts), *parts)) for item, parts in made_of.items()
    ]
    references += [box(b"auxl", struct.pack(">HHH", item, 1, master)) for item, master in (beside or {}).items()]
    meta = box(
        b"meta",
        bytes(4),
        box(b"hdlr", bytes(8), b"pict", bytes(13)),
        box(b"pitm", bytes(4), struct.pack(">H", primary)),
        box(b"iinf", bytes(4), struct.pack(">H", len(infos)), *infos),
        box(b"iprp", box(b"ipco", *ispe), box(b"ipma", bytes(4), struct.pack(">I", len(sizes)), owns)),
        box(b"iref", bytes(4), *references),
    )
    return box(b"ftyp", brand, bytes(4), b"mif1", brand) + meta


def with_split_properties(data: bytes) -> bytes:
    """An AVIF of libavif with two items, each with its own list of properties (``ipma``), as some encoders write it."""
    at = data.index(b"ipma") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    head, lists = data[at + 8 : at + 12], data[at + 16 : at + size]
    one = 3 + lists[2]  # item, number of properties, a byte for each
    split = b"".join(box(b"ipma", head, struct.pack(">I", 1), each) for each in (lists[:one], lists[one:]))
    grown = bytearray(data[:at] + split + data[at + size :])
    for name in (b"meta", b"iprp"):
        start = data.index(name) - 4
        grown[start : start + 4] = (int.from_bytes(data[start : start + 4], "big") + len(split) - size).to_bytes(
            4, "big"
        )
    places = data.index(b"iloc") + 8  # sizes of 4 bytes, no base: item, place of the data, number, offset, length
    for item in range(int.from_bytes(data[places + 2 : places + 4], "big")):
        offset = places + 4 + 14 * item + 6
        moved = int.from_bytes(data[offset : offset + 4], "big") + len(split) - size
        grown[offset : offset + 4] = moved.to_bytes(4, "big")
    return bytes(grown)

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

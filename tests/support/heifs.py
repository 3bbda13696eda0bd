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


def grid_of(tile: bytes, columns: int) -> bytes:
    """A HEIC whose picture is a row of the picture of a HEIC with one item, each a tile with data of its own."""
    at = tile.index(b"ispe") + 8
    width, height = struct.unpack_from(">II", tile, at)
    start = tile.index(b"hvcC")
    config = tile[start - 4 : start - 4 + int.from_bytes(tile[start - 4 : start], "big")]
    start = tile.index(b"mdat")
    coded = tile[start + 4 : start - 4 + int.from_bytes(tile[start - 4 : start], "big")]
    tiles = range(2, 2 + columns)
    properties = box(
        b"ipco",
        box(b"ispe", bytes(4), struct.pack(">II", columns * width, height)),
        box(b"ispe", bytes(4), struct.pack(">II", width, height)),
        config,
    )
    owns = struct.pack(">HBB", 1, 1, 1) + b"".join(struct.pack(">HBBB", item, 2, 2, 0x83) for item in tiles)
    layout = struct.pack(">BBBBHH", 0, 0, 0, columns - 1, columns * width, height)
    infos = [box(b"infe", b"\2\0\0\0", struct.pack(">HH4sB", 1, 0, b"grid", 0))]
    infos += [box(b"infe", b"\2\0\0\1", struct.pack(">HH4sB", item, 0, b"hvc1", 0)) for item in tiles]

    def meta(begin: int) -> bytes:
        places = struct.pack(">HHHHII", 1, 1, 0, 1, 0, len(layout))  # in idat
        for index, item in enumerate(tiles):
            places += struct.pack(">HHHHII", item, 0, 0, 1, begin + index * len(coded), len(coded))
        return box(
            b"meta",
            bytes(4),
            box(b"hdlr", bytes(8), b"pict", bytes(13)),
            box(b"pitm", bytes(4), struct.pack(">H", 1)),
            box(b"iloc", b"\1\0\0\0", b"\x44\0", struct.pack(">H", 1 + columns), places),
            box(b"iinf", bytes(4), struct.pack(">H", len(infos)), *infos),
            box(b"iref", bytes(4), box(b"dimg", struct.pack(f">HH{columns}H", 1, columns, *tiles))),
            box(b"iprp", properties, box(b"ipma", bytes(4), struct.pack(">I", 1 + columns), owns)),
            box(b"idat", layout),
        )

    head = box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    return head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", coded * columns)

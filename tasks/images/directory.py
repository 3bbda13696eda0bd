"""Reads the tags in a TIFF's directory, and writes another directory over the same pixels."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.core.errors import DamagedImage, TruncatedImage

#: Integer types: size in bytes, and the letter for struct (TIFF 6.0, section 2; BigTIFF).
_TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_BYTES = {5: 8, 10: 8, 11: 4, 12: 8} | {kind: struct.calcsize("=" + letter) for kind, letter in _TYPES.items()}


#: The tags that describe the pixels: geometry, samples, positions, compression and colours.
NEEDED = frozenset(
    {256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 332, 338, 339}
    | {347, 512, 513, 514, 519, 520, 521, 530, 34675}
)
#: With the tags that distinguish kinds of pictures: a reduced one, its sub-directories, DNG's version.
WANTED = NEEDED | {254, 330, 50706}


@dataclass(frozen=True, slots=True)
class Directory:
    order: str  # "<" or ">"
    big: bool
    tags: Mapping[int, Sequence[int]]
    types: Mapping[int, int]
    more_pages: bool = False  # whether there are more pages than the limit

    def one(self, tag: int, default: int) -> int:
        values = self.tags.get(tag, ())
        return values[0] if values else default


def read(data: bytes, max_pages: int) -> Directory:
    """The first directory. Raises ``TruncatedImage`` or ``DamagedImage``."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    try:
        (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        tags, types, following = _entries(data, at, order, big)
    except (struct.error, OverflowError) as exc:
        raise TruncatedImage("The TIFF file ends before or within its directory.") from exc
    pages = 1
    while following and pages <= max_pages:  # so a circular chain ends, too
        pages += 1
        try:
            following = _next(data, following, order, big)
        except (struct.error, OverflowError):
            break
    return Directory(order, big, tags, types, pages > max_pages)


def read_at(data: bytes, at: int, like: Directory) -> Directory | None:
    """The directory at this offset of the file, or None."""
    try:
        tags, types, _ = _entries(data, at, like.order, like.big)
    except (struct.error, OverflowError, TruncatedImage, DamagedImage):
        return None
    return Directory(like.order, like.big, tags, types)


def _next(data: bytes, at: int, order: str, big: bool) -> int:
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    at += (8 + 20 * count) if big else (2 + 12 * count)
    (following,) = struct.unpack_from(order + ("Q" if big else "I"), data, at)
    return int(following)


def _entries(data: bytes, at: int, order: str, big: bool) -> tuple[dict[int, Sequence[int]], dict[int, int], int]:
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    at += 8 if big else 2
    entry_bytes, inline, layout = (20, 8, "HHQ") if big else (12, 4, "HHI")
    if count > 4096 or count == 0:
        raise DamagedImage(f"The TIFF's directory says that it has {count:,} entries.")
    tags: dict[int, Sequence[int]] = {}
    types: dict[int, int] = {}
    for index in range(count):
        entry = at + index * entry_bytes
        tag, kind, values = struct.unpack_from(order + layout, data, entry)
        letter = _TYPES.get(kind)
        if letter is None or tag in tags or tag not in WANTED:  # others may be as long as the file
            continue
        size, where = values * _BYTES[kind], entry + struct.calcsize("=" + layout)
        if size > inline:
            (where,) = struct.unpack_from(order + ("Q" if big else "I"), data, where)
        if where + size > len(data):
            if tag in NEEDED:
                raise TruncatedImage(f"The TIFF file ends before the values of its tag {tag}.")
            continue
        numbers = f"{order}{values}{letter}"
        tags[tag] = data[where : where + size] if letter == "B" else struct.unpack_from(numbers, data, where)
        types[tag] = kind
    try:
        (following,) = struct.unpack_from(order + ("Q" if big else "I"), data, at + count * entry_bytes)
    except struct.error:
        following = 0
    return tags, types, following


def rewritten(data: bytes, like: Directory, pages: Sequence[Mapping[int, Sequence[int]]]) -> bytes:
    """The file as a classic TIFF with these pages in place of its own; their offsets are those of ``data``."""
    order = like.order
    out = bytearray(data)
    out += bytes(len(out) % 2)
    struct.pack_into(order + "HI", out, 2, 42, len(out))
    for number, tags in enumerate(pages):
        entries = sorted(tags.items())
        at = len(out)
        behind = at + 2 + 12 * len(entries) + 4
        head, tail = bytearray(struct.pack(order + "H", len(entries))), bytearray()
        for tag, values in entries:
            kind = like.types.get(tag, 4)
            kind = 7 if kind == 7 else 1 if kind in (1, 2, 6) else 3 if kind in (3, 8) else 4
            if max(values, default=0) >= 1 << 8 * _BYTES[kind]:
                kind = 4
            packed = struct.pack(f"{order}{len(values)}{_TYPES[kind]}", *values)
            head += struct.pack(order + "HHI", tag, kind, len(values))
            if len(packed) <= 4:
                head += packed.ljust(4, b"\0")
            else:
                head += struct.pack(order + "I", behind + len(tail))
                tail += packed + bytes(len(packed) % 2)
        last = number + 1 == len(pages)
        head += struct.pack(order + "I", 0 if last else behind + len(tail))
        out += head + tail
    return bytes(out)

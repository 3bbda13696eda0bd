"""Reads the boxes of HEIC and AVIF that describe the picture, and counts the pixels that must be decoded for it.

A picture can be derived from others: a grid of tiles, a turned picture, an overlay of layers. Since each refers to its
parts, a file of a few kilobytes can make a decoder decode one big picture hundreds of times.
(ISO/IEC 14496-12, 8.11, and 23008-12, 6.6.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from PIL import Image

from pipeline.core.errors import DamagedImage, ImageTooLarge, TruncatedImage, UnsupportedImage
from tasks.images.limits import Limits

_CONTAINERS = (b"iprp", b"ipco")
#: The transforms of a decoded picture, and the EXIF orientations of rotations to the left, by quarter turns.
_TRANSFORMS, _TURNS = (b"clap", b"irot", b"imir"), (1, 8, 3, 6)
_DERIVED = ("grid", "iden", "iovl", "tmap")
#: A grid has at most 256 by 256 tiles; iPhones make 48 of 512 by 512 pixels for 12 megapixels.
_MAX_TILES = 1024
_MAX_DEPTH = 4
#: The range of green that luma and chroma of 0 become, with the matrices of H.273 and either range.
_GREEN = 60, 200
_MAX_BESIDE = 100
#: Maximum of pixels to decode, as a multiple of those shown: tiles may extend over the picture's edge, and alpha and a
#: gain map are pictures, too.
_MAX_EXCESS = 2.0

#: CICP's numbers for primaries and transfer (ITU-T H.273).
Nclx = tuple[int, int]


@dataclass(slots=True)
class HeifFile:
    primary: int = 0
    kinds: dict[int, str] = field(default_factory=dict)  # item -> "hvc1", "av01", "grid", "iovl"…
    made_of: dict[int, list[int]] = field(default_factory=dict)  # derived item -> the items it refers to
    beside: list[int] = field(default_factory=list)  # alpha, depth and other pictures that belong to another item
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)  # item -> where its data ends
    places: list[int] = field(default_factory=list)  # offset of each property's contents
    has: dict[int, list[int]] = field(default_factory=dict)  # item -> indices of its properties, from 1
    described_in: tuple[int, int] = (0, 0)  # offsets of the beginning and end of iprp's contents
    associations: list[tuple[int, int]] = field(default_factory=list)  # the same of each ipma
    truncated: bool = False

    def size(self, item: int) -> tuple[int, int]:
        found = self._property(item, b"ispe")
        return struct.unpack_from(">II", found, 4) if found is not None and len(found) >= 12 else (0, 0)

    def nclx(self) -> Nclx | None:
        """The numbers that describe the primary picture's colours, or None."""
        found = self._property(self.primary, b"colr", b"nclx")
        return struct.unpack_from(">HH", found, 4) if found is not None and len(found) >= 8 else None

    @property
    def is_deep(self) -> bool:
        """Whether a picture has more than 8 bits a sample (hvcC: ISO/IEC 14496-15, 8.3.2.1)."""
        return any(kind == b"hvcC" and any(depth & 7 for depth in body[17:19]) for kind, body in self.properties)

    def is_alpha(self, item: int) -> bool:
        kind = self._property(item, b"auxC") or b""
        return b"auxiliary:alpha" in kind or b"hevc:2015:auxid:1\0" in kind

    def kind_of(self, index: int) -> bytes:
        """The name of a property. Indices begin with 1; 0 means no property."""
        return self.properties[index - 1][0] if 0 < index <= len(self.properties) else b""

    def _property(self, item: int, kind: bytes, begins: bytes = b"") -> bytes | None:
        for index in self.has.get(item, ()):
            if self.kind_of(index) == kind and (body := self.properties[index - 1][1]).startswith(begins):
                return body
        return None


def read(data: bytes) -> HeifFile:
    """Raises ``DamagedImage`` or ``TruncatedImage``."""
    file, described = HeifFile(), False
    try:
        for name, start, end in _boxes(data, 0, len(data)):
            described = described or name in (b"meta", b"moov")
            file.truncated = file.truncated or end > len(data)
            if name == b"meta":
                if end > len(data):
                    raise TruncatedImage("The file ends within its description (meta).")
                _read_meta(data, start + 4, end, file)
    except (struct.error, IndexError) as exc:
        raise DamagedImage("The boxes that describe the picture (meta) make no sense.") from exc
    file.truncated = file.truncated or not described
    return file


def with_one_association_box(data: bytes, file: HeifFile) -> bytes | None:
    """The file with the lists of several ``ipma`` boxes in one; None if that is not needed, or not possible.

    The format allows one ``ipma`` of each version (ISO/IEC 23008-12, 9.3.1). Some encoders write one for each item;
    libavif refuses such a file, but browsers show it. No other data moves: an empty box (``free``) after ``iprp`` fills
    the space of the removed headers.
    """
    spans, (begin, end) = file.associations, file.described_in
    heads = {data[start : start + 4] for start, _ in spans}
    follow = all(finish + 8 == start for (_, finish), (start, _) in pairwise(spans))
    if len(spans) < 2 or len(heads) > 1 or not follow or spans[-1][1] != end or end > len(data):
        return None
    count = sum(int.from_bytes(data[start + 4 : start + 8], "big") for start, _ in spans)
    lists = b"".join(data[start + 8 : finish] for start, finish in spans)
    merged = struct.pack(">I4s", 16 + len(lists), b"ipma") + heads.pop() + struct.pack(">I", count) + lists
    first = spans[0][0] - 8
    if (data[begin - 4 : begin], data[first + 4 : first + 8]) != (b"iprp", b"ipma"):  # a header of 16 bytes
        return None
    left = end - first - len(merged)
    kept = struct.pack(">I4s", end - left - begin + 8, b"iprp") + data[begin:first]
    return data[: begin - 8] + kept + merged + struct.pack(">I4s", left, b"free") + bytes(left - 8) + data[end:]


def check_complete(name: str, file: HeifFile, size: int) -> None:
    """Raises ``TruncatedImage`` if the file ends before the picture does: libheif would fill the rest with green.

    If only a thumbnail, a depth map or metadata is cut off, the picture is complete.
    """
    shown = {file.primary, *(item for item in file.beside if file.is_alpha(item))}
    if any(file.ends.get(item, 0) > size for item in shown | _parts(file, shown)):
        raise TruncatedImage(f"The {name} data ends early: the end of the picture is missing.")


def has_lost_a_tile(image: Image.Image, file: HeifFile) -> bool:
    """Whether libheif left out a damaged tile of a grid: all of its samples are 0, a green that no camera produces.

    ``image``: as stored, without its rotation.
    """
    parts = file.made_of.get(file.primary, ())
    if file.kinds.get(file.primary) != "grid" or not parts or image.size != file.size(file.primary):
        return False
    width, height = file.size(parts[0])
    if width * height == 0:
        return False
    corners = [(x, y) for y in range(0, image.height, height) for x in range(0, image.width, width)]
    return len(corners) == len(parts) and any(
        _is_left_out(image, (x, y, min(x + width, image.width), min(y + height, image.height))) for x, y in corners
    )


def _is_left_out(image: Image.Image, tile: tuple[int, int, int, int]) -> bool:
    pixel = image.getpixel(tile[:2])
    if not isinstance(pixel, tuple) or pixel[0] or pixel[2] or not _GREEN[0] <= pixel[1] <= _GREEN[1]:
        return False  # for nearly every tile, the first pixel is enough to tell
    return all(low == high for low, high in image.crop(tile).convert("RGB").getextrema())  # type: ignore[misc]


def turned_later(data: bytes, file: HeifFile) -> tuple[bytes, int]:
    """The file without its rotation (``irot``), and the EXIF orientation that replaces it; 1: nothing was changed.

    libheif would turn the whole picture, which needs memory for a copy of it; turning the rendition needs almost none.
    Only a rotation that comes last, and that no part of the picture shares, can be done so late.
    """
    transforms = [index for index in file.has.get(file.primary, ()) if file.kind_of(index) in _TRANSFORMS]
    if not transforms or file.kind_of(transforms[-1]) != b"irot":
        return data, 1
    last = transforms[-1]
    shown = {file.primary, *file.beside}  # alpha is turned with the picture
    for item in shown | _parts(file, shown):
        rotations = {index for index in file.has.get(item, ()) if file.kind_of(index) == b"irot"}
        if (item not in shown and last in rotations) or (item in file.beside and rotations - {last}):
            return data, 1
    at, angle = file.places[last - 1], file.properties[last - 1][1][:1]
    if transforms.count(last) > 1 or not angle:
        return data, 1
    return data[:at] + bytes((angle[0] & ~3,)) + data[at + 1 :], _TURNS[angle[0] & 3]


def _parts(file: HeifFile, items: set[int]) -> set[int]:
    """All items that these are derived from."""
    found: set[int] = set()
    new = set(items)
    while new:
        new = {part for item in new for part in file.made_of.get(item, ())} - found
        found |= new
    return found


def check(name: str, file: HeifFile, limits: Limits) -> None:
    """Raises ``UnsupportedImage`` or ``ImageTooLarge``."""
    if not file.kinds:
        return  # a sequence without a still picture, or damage: the decoder distinguishes them
    shown = file.size(file.primary)
    own = max(shown[0] * shown[1], 1)
    asked = {item: _coded_pixels(name, file, item, 0) for item in (file.primary, *file.beside[:_MAX_BESIDE])}
    limits.check_pixels(shown, cost(name, file))
    for item, coded in asked.items():
        if file.kinds.get(item) not in _DERIVED or coded <= own * _MAX_EXCESS + (1 << 20):
            continue
        raise ImageTooLarge(
            f"The {name} puts together {coded:,} pixels to show {own:,}; the limit is {_MAX_EXCESS:g} times, and fixed."
        )


def cost(name: str, file: HeifFile) -> str:
    """The kind for ``Limits.check_pixels``."""
    return "HEIF of more than 8 bits" if name == "HEIF" and file.is_deep else name


def _coded_pixels(name: str, file: HeifFile, item: int, depth: int) -> int:
    """The number of pixels to decode for this item, counting each part as often as it is referred to."""
    kind = file.kinds.get(item, "")
    if kind == "iovl":
        raise UnsupportedImage(f"The {name} is an overlay of layers (iovl), which is not read.")
    width, height = file.size(item)
    if kind not in _DERIVED:
        return width * height
    parts = file.made_of.get(item, [])
    if kind == "tmap":  # a gain map over a picture: the decoder shows the picture
        parts = parts[:1]
    if depth >= _MAX_DEPTH:
        raise ImageTooLarge(f"The {name} derives pictures from pictures {depth} times; the limit is fixed.")
    if len(parts) > _MAX_TILES:
        raise ImageTooLarge(f"The {name} is a grid of {len(parts)} tiles; the limit is {_MAX_TILES}, and fixed.")
    once = {part: _coded_pixels(name, file, part, depth + 1) for part in set(parts)}
    return sum(once[part] for part in parts)


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, and the offsets of the contents' beginning and end, which may be beyond the end of the file."""
    while at + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        finish = end if size == 0 else at + size
        if finish < start:
            return
        yield name, start, finish
        at = finish


def _read_meta(data: bytes, at: int, end: int, file: HeifFile) -> None:
    for name, start, finish in _boxes(data, at, end):
        if name in _CONTAINERS:
            if name == b"ipco":
                found = list(_boxes(data, start, finish))
                file.properties, file.places = [(kind, data[a:b]) for kind, a, b in found], [a for _, a, _ in found]
            else:
                file.described_in = start, finish
                _read_meta(data, start, finish, file)
        elif name == b"pitm":
            file.primary = struct.unpack_from(">I" if data[start] else ">H", data, start + 4)[0]
        elif name == b"iinf":
            first = start + (8 if data[start] else 6)
            for kind, a, _ in _boxes(data, first, finish):
                if kind == b"infe" and data[a] >= 2:
                    wide = data[a] >= 3
                    (item,) = struct.unpack_from(">I" if wide else ">H", data, a + 4)
                    named = a + (10 if wide else 8)
                    file.kinds[item] = data[named : named + 4].decode("latin-1")
        elif name == b"iref":
            _read_references(data, start, finish, file)
        elif name == b"ipma":
            _read_associations(data, start, file)
            file.associations.append((start, finish))
        elif name == b"iloc":
            file.ends = _ends(data, start)
            file.truncated = file.truncated or max(file.ends.values(), default=0) > len(data)


def _read_references(data: bytes, start: int, finish: int, file: HeifFile) -> None:
    letter = "I" if data[start] else "H"
    for kind, a, _ in _boxes(data, start + 4, finish):
        if kind == b"auxl":
            file.beside.append(*struct.unpack_from(f">{letter}", data, a))
        if kind == b"dimg":
            item, count = struct.unpack_from(f">{letter}H", data, a)
            parts = struct.unpack_from(f">{count}{letter}", data, a + struct.calcsize(f">{letter}H"))
            file.made_of.setdefault(item, []).extend(parts)


def _read_associations(data: bytes, start: int, file: HeifFile) -> None:
    version, wide = data[start], data[start + 3] & 1
    (count,) = struct.unpack_from(">I", data, start + 4)
    at = start + 8
    for _ in range(min(count, 100_000)):
        (item,) = struct.unpack_from(">I" if version else ">H", data, at)
        at += 4 if version else 2
        number = data[at]
        at += 1
        indices = struct.unpack_from(f">{number}{'H' if wide else 'B'}", data, at)
        at += number * (2 if wide else 1)
        file.has.setdefault(item, []).extend(index & (0x7FFF if wide else 0x7F) for index in indices)


def _ends(data: bytes, start: int) -> dict[int, int]:
    """The offset of the end of each item's data, for items in the file itself (ISO/IEC 14496-12, 8.11.3)."""
    version = data[start]
    offset_bytes, length_bytes = data[start + 4] >> 4, data[start + 4] & 15
    base_bytes, index_bytes = data[start + 5] >> 4, data[start + 5] & 15 if version in (1, 2) else 0
    number_bytes = 4 if version == 2 else 2
    at = start + 6
    count = int.from_bytes(data[at : at + number_bytes], "big")
    at += number_bytes
    ends: dict[int, int] = {}
    for _ in range(min(count, 100_000)):
        item = int.from_bytes(data[at : at + number_bytes], "big")
        at += number_bytes
        method = 0
        if version in (1, 2):
            method, at = data[at + 1] & 15, at + 2
        at += 2
        base = int.from_bytes(data[at : at + base_bytes], "big")
        at += base_bytes
        extents = int.from_bytes(data[at : at + 2], "big")
        at += 2
        for _ in range(extents):
            at += index_bytes
            offset = int.from_bytes(data[at : at + offset_bytes], "big")
            at += offset_bytes
            length = int.from_bytes(data[at : at + length_bytes], "big")
            at += length_bytes
            if method == 0 and at <= len(data):
                ends[item] = max(ends.get(item, 0), base + offset + length)
    return ends

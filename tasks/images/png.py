"""Checks the chunks of a PNG, and passes only those to the decoder that the picture needs.

So neither a text that unpacks to gigabytes nor a damaged chunk that the pixels don't need does any harm.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.core.errors import DamagedImage, TruncatedImage, UnsupportedImage
from tasks.images.cicp import are_known, profile_of_numbers, profile_of_png

_MAX_PROFILE_BYTES = 4_000_000
#: Chunks that Pillow gets in addition to the critical ones.
_KEPT = (b"tRNS",)
#: Chunks that are read here, if they come before the pixels, as they must (PNG, third edition, 5.6). Not acTL: the
#: decoder does not get the chunks with an animation's frames, so it decodes one picture, whatever the number of frames.
_READ_HERE = (b"iCCP", b"eXIf", b"gAMA", b"cHRM", b"sRGB", b"cICP")
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
#: Where the pixels of Adam7's seven passes begin, and their distance (PNG, 8.2): x, y, dx, dy.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_END = struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))


@dataclass(slots=True)
class PngFile:
    data: bytes  # the file with only the chunks that the picture needs
    facts: dict[bytes, bytes] = field(default_factory=dict)  # contents of the chunks in `_READ_HERE`
    salvaged: str | None = None  # the damage of a file whose picture is complete

    @property
    def size(self) -> tuple[int, int]:
        width, height = struct.unpack_from(">II", self.data, 16)
        return width, height

    @property
    def profile(self) -> bytes | None:
        """The description of the colours, as an ICC profile; None: sRGB (PNG, third edition, 4.3, table 1)."""
        primaries, transfer, *rest = self.facts.get(b"cICP", bytes(4)).ljust(4, b"\0")
        if rest == [0, 1] and are_known(primaries, transfer):  # no matrix, and full range, as PNG requires
            return profile_of_numbers(primaries, transfer)
        own, gamma = self.own_profile, self.facts.get(b"gAMA")
        if own is not None or b"sRGB" in self.facts or gamma is None:
            return own
        return profile_of_png(gamma, self.facts.get(b"cHRM"))

    @property
    def own_profile(self) -> bytes | None:
        """The ICC profile; None if there is none, or it can't be unpacked."""
        name, found, packed = self.facts.get(b"iCCP", b"").partition(b"\0")
        if not found or not name or packed[:1] != b"\0":
            return None
        unpacker = zlib.decompressobj()
        try:
            profile = unpacker.decompress(packed[1:], _MAX_PROFILE_BYTES)
        except zlib.error:
            return None
        return profile if unpacker.eof else None


def read(data: bytes) -> PngFile:
    """Raises ``TruncatedImage``, ``DamagedImage`` or ``UnsupportedImage``."""
    found = _Found()
    for name, start, end in _chunks(data):
        if not found.kept:
            _check_first(name, data[start : end - 4])
        if end > len(data):
            if name == b"IDAT":
                found.pixels.append(memoryview(data)[start : end - 4])
            break
        found.take(name, memoryview(data)[start - 8 : end])
        if found.ended:
            break
    if not found.kept or not found.pixels:
        raise TruncatedImage("The PNG ends before its pixels.")
    if not found.ended:
        found.problems.append("its end (IEND) is missing")
    parts: list[bytes | memoryview] = [data[:8], *found.kept]
    if not found.ended or found.doubtful:
        parts = _repaired(data, found)
    file = PngFile(data, found.facts)
    if b"iCCP" in found.facts and file.own_profile is None:
        found.problems.append("its colour profile (iCCP) can't be used")
    file.salvaged = "; ".join(dict.fromkeys(found.problems)) or None
    if sum(map(len, parts)) != len(data):
        file.data = b"".join(parts)
    return file


@dataclass(slots=True)
class _Found:
    """What has been found in the chunks so far."""

    kept: list[memoryview] = field(default_factory=list)  # whole chunks
    pixels: list[memoryview] = field(default_factory=list)  # contents of IDAT
    facts: dict[bytes, bytes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    ended: bool = False
    doubtful: bool = False  # an IDAT has a wrong checksum

    def take(self, name: bytes, chunk: memoryview) -> None:
        body = chunk[8:-4]
        right = zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        needed = not name[0] & 0x20 or name in _KEPT
        if needed and not right and name != b"IDAT":
            raise DamagedImage(f"The checksum of the PNG's chunk {_text(name)} is wrong.")
        if not right:
            self.problems.append(f"the checksum of the chunk {_text(name)} is wrong")
        elif name in _READ_HERE and name not in self.facts and not self.pixels:
            self.facts[name] = bytes(body)
        if name == b"IDAT":
            self.pixels.append(body)
            self.doubtful = self.doubtful or not right
        self.ended = name == b"IEND"
        if needed:
            self.kept.append(chunk)


def _check_first(name: bytes, body: bytes) -> None:
    if name == b"CgBI":
        raise UnsupportedImage("The PNG was changed by Apple's tools for iOS (CgBI), and is not read.")
    if name != b"IHDR":
        raise DamagedImage("The PNG does not begin with its header, IHDR.")
    if len(body) == 13:
        _check_header(body)


def _repaired(data: bytes, found: _Found) -> list[bytes | memoryview]:
    """The file with correct checksums and an end, if zlib's own checksum proves that the pixels are complete."""
    if not _all_there(data[16:29], found.pixels):
        if not found.ended:
            raise TruncatedImage("The PNG data ends early: the end of the picture is missing.")
        raise DamagedImage("The PNG's pixels (IDAT) have a wrong checksum.")
    stream = b"".join(found.pixels)
    head = [chunk for chunk in found.kept if bytes(chunk[4:8]) not in (b"IDAT", b"IEND")]
    length, checksum = struct.pack(">I", len(stream)), struct.pack(">I", zlib.crc32(b"IDAT" + stream))
    return [data[:8], *head, length, b"IDAT", stream, checksum, _END]


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, offset of the contents, and offset after the checksum, which may be beyond the end of the file."""
    at = 8
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        yield name, at + 8, end
        at = end


def _check_header(header: bytes) -> None:
    width, height, depth, colours, packing, filtering, interlace = struct.unpack(">IIBBBBB", header)
    if not (0 < width < 2**31 and 0 < height < 2**31):
        raise DamagedImage(f"The PNG says that it has {width}x{height} pixels.")
    if depth not in _DEPTHS.get(colours, ()) or packing or filtering or interlace > 1:
        raise DamagedImage(
            f"The PNG's header says what no PNG may have: colour type {colours} with {depth} bits, "
            f"compression {packing}, filter {filtering}, interlace {interlace}."
        )


def _all_there(header: bytes, pixels: list[memoryview]) -> bool:
    """Whether the compressed pixels are complete: zlib's own checksum and their number are correct."""
    width, height, depth, colours, _, _, interlace = struct.unpack(">IIBBBBB", header)
    bits = depth * _CHANNELS[colours]
    passes = _PASSES if interlace else ((0, 0, 1, 1),)
    sizes = [(-((x - width) // dx), -((y - height) // dy)) for x, y, dx, dy in passes]
    expected = sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns > 0 and rows > 0)
    unpacker, found = zlib.decompressobj(), 0
    try:
        for part in pixels:
            waiting: bytes | memoryview = part
            while waiting and not unpacker.eof and found <= expected:
                found += len(unpacker.decompress(waiting, 1 << 20))
                waiting = unpacker.unconsumed_tail
    except zlib.error:
        return False
    return unpacker.eof and found == expected


def _text(name: bytes) -> str:
    return name.decode("latin-1") if name.isalpha() else name.hex()

"""Copies the compressed pixels of an upload that needs no change: the same pixels, and never more bytes.

It keeps a fixed list of parts, and drops all others: metadata, profiles, previews, comments, other frames, and bytes
after the end. If a file contains anything that makes this unsafe, the picture is encoded again instead.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable

#: JPEG (T.81, table B.1): quantization and Huffman tables, restart interval, and frames that browsers show.
_TABLES = frozenset({0xDB, 0xC4, 0xDD})
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_SCAN, _END, _ADOBE, _JFIF = 0xDA, 0xD9, 0xEE, 0xE0
#: Ends the data of a scan: any marker but a stuffed zero and a restart.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
#: Version 1.01, no density, no thumbnail.
_PLAIN_JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"

_PNG_KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})

#: VP8X's flag for alpha; the flags for profile, EXIF, XMP and animation are cleared.
_WEBP_ALPHA = 0x10

#: The only boxes that an AVIF may have here, so that nothing hides in it.
_AVIF_BOXES = frozenset({b"ftyp", b"meta", b"mdat"})
_AVIF_META = frozenset({b"hdlr", b"pitm", b"iloc", b"iinf", b"iref", b"iprp", b"idat"})
_AVIF_ITEMS = frozenset({b"av01", b"grid"})


def stripped(data: bytes, format: str) -> bytes | None:
    """The file with only its picture; None if that is not certain. The file must have been decoded without errors."""
    read = _READERS.get(format)
    try:
        return None if read is None else read(data)
    except (struct.error, zlib.error, IndexError, ValueError):
        return None


def _jpeg(data: bytes) -> bytes | None:
    kept, at = [data[:2]], 2
    while True:
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == _END:
            return b"".join((*kept, data[at : at + 2]))
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data) or marker in (0, 0xFF, 1) or 0xD0 <= marker <= 0xD8:
            return None
        if marker == _SCAN:
            following = _MARKER.search(data, end)
            if following is None:
                return None
            end = following.start()
            kept.append(data[at:end])
        elif marker in _TABLES or marker in _FRAMES:
            kept.append(data[at:end])
        elif marker == _JFIF and data.startswith(b"JFIF\0", at + 4):
            kept.append(_PLAIN_JFIF)
        elif marker == _ADOBE and data.startswith(b"Adobe", at + 4):
            kept.append(data[at:end])  # the colour transform
        elif not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            return None  # another kind of frame, or of coding
        at = end


def _png(data: bytes) -> bytes | None:
    kept, at = [data[:8]], 8
    depth, colour = data[24], data[25]  # of IHDR, which always comes first
    if depth == 16:
        return None  # renditions have 8 bits a sample
    while True:
        size, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + size
        if end > len(data):
            return None
        if name == b"tRNS" and colour == 0 and depth < 8:
            return None  # many decoders misread which grey is transparent
        if name in _PNG_KEPT:
            kept.append(data[at:end])
        elif not name[0] & 0x20:
            return None  # critical, and unknown
        if name == b"IEND":
            return b"".join(kept) if _ends_with_its_pixels(b"".join(kept)) else None
        at = end


def _ends_with_its_pixels(data: bytes) -> bool:
    """Whether nothing follows the compressed pixels."""
    unpacker, at = zlib.decompressobj(), 8
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if name == b"IDAT":
            packed = data[at + 8 : at + 8 + size]
            while packed:
                unpacker.decompress(packed, 1 << 20)
                packed = unpacker.unconsumed_tail
        at += 12 + size
    return unpacker.eof and not unpacker.unused_data


def _webp(data: bytes) -> bytes | None:
    found: dict[bytes, bytes] = {}
    at, finish = 12, min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    while at + 8 <= finish:
        name, size = struct.unpack_from("<4sI", data, at)
        if at + 8 + size > finish or name in found or name == b"ANIM":
            return None
        found[name] = data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    if b"VP8L" in found:
        parts = [b"VP8L"]
    elif b"ALPH" in found and b"VP8X" in found:
        found[b"VP8X"] = bytes([_WEBP_ALPHA, 0, 0, 0]) + found[b"VP8X"][4:]
        parts = [b"VP8X", b"ALPH", b"VP8 "]
    else:
        parts = [b"VP8 "]
    if any(name not in found for name in parts):
        return None
    body = b"".join(
        struct.pack("<4sI", name, len(found[name])) + found[name] + bytes(len(found[name]) % 2) for name in parts
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _avif(data: bytes) -> bytes | None:
    """The file unchanged, if it contains only the picture: removing parts would break its offsets."""
    for name, start, end in _boxes(data, 0, len(data)):
        if name not in _AVIF_BOXES or end > len(data):
            return None
        if name != b"meta":
            continue
        for inner, begin, finish in _boxes(data, start + 4, end):
            if inner not in _AVIF_META:
                return None
            if inner == b"iinf" and not _only_pictures(data, begin, finish):
                return None
            if inner == b"iprp" and (b"colrprof" in data[begin:finish] or b"colrrICC" in data[begin:finish]):
                return None
    return data


def _only_pictures(data: bytes, start: int, end: int) -> bool:
    """Whether every item is a picture, and none is metadata (ISO/IEC 14496-12, 8.11.6)."""
    count_bytes = 2 if data[start] == 0 else 4
    for name, begin, _ in _boxes(data, start + 4 + count_bytes, end):
        version = data[begin]
        kind = begin + 4 + (2 if version < 3 else 4) + 2
        if name != b"infe" or version < 2 or data[kind : kind + 4] not in _AVIF_ITEMS:
            return False
    return True


def _boxes(data: bytes, at: int, end: int) -> list[tuple[bytes, int, int]]:
    """Name, and the offsets of the contents' beginning and end. Raises ``ValueError`` if the data is not boxes."""
    found = []
    while at < end:
        size, name = struct.unpack_from(">I4s", data, at)
        if size < 8:
            raise ValueError("a box of a size that is not written here")
        found.append((name, at + 8, at + size))
        at += size
    return found


_READERS: dict[str, Callable[[bytes], bytes | None]] = {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp, "AVIF": _avif}

"""Finds what Pillow does not report about a JPEG: its kind, the memory it needs, and whether its end is missing."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from pipeline.core.errors import ImageTooLarge, TruncatedImage, UnsupportedImage

#: Progressive encoders write about ten scans. With thousands, even a small file is slow to decode.
MAX_SCANS = 100

_FRAME_HEADERS = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)  # SOF: baseline, extended, progressive; Huffman or arithmetic
_OTHER_FRAMES = {0xC3: "lossless JPEG", 0xC5: "hierarchical JPEG", 0xC6: "hierarchical JPEG", 0xC7: "hierarchical JPEG"}
_OTHER_FRAMES |= {0xCB: "lossless JPEG", 0xCD: "hierarchical JPEG", 0xCE: "hierarchical JPEG", 0xF7: "JPEG-LS"}
_PROGRESSIVE = (0xC2, 0xCA)
_ADOBE = 0xEE  # APP14: its last byte says which transform leads to the components; 0 is none, so they are RGB
_START_OF_SCAN = 0xDA
_END = b"\xff\xd9"
#: In the data of a scan 0xFF is followed by 0, by itself, or by a restart marker; anything else ends the scan.
_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
#: Films that phones append to a picture begin like this.
_FILM = re.compile(rb"\0\0\0.ftyp", re.DOTALL)
#: Substitutes for data that may be missing: a complete picture decodes to the same pixels with each of them.
_PADDINGS = (b"\0" * 64, b"\xff\0" * 32, b"\xa5\x3c" * 32)
#: The APPn segments that a decoder needs, and how their contents begin.
_NEEDED_SEGMENTS = {0xE1: b"Exif\0\0", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}


@dataclass(frozen=True, slots=True)
class JpegHeader:
    buffered: bool  # the picture has several scans: libjpeg keeps all its coefficients, whatever the draft
    ycbcr: bool  # its three components are certainly luma and chroma, and libjpeg agrees
    subsampled: bool  # 4:2:0: one sample of chroma for two by two pixels
    scan_at: int  # offset of the first scan's header
    progressive: bool = False


def read_header(data: bytes) -> JpegHeader:
    """Reads the segments up to the first scan.

    Raises ``TruncatedImage`` if there is none, ``UnsupportedImage``, and ``ImageTooLarge`` for too many scans.
    """
    components, progressive, transformed = b"", False, True  # components: three bytes for each
    for marker, at in _segments(data):
        if _segment_end(data, marker, at) > len(data):
            break
        if marker == _START_OF_SCAN:
            buffered = progressive or 3 * data[at + 4] < len(components)
            if buffered and (scans := data.count(b"\xff\xda", at)) > MAX_SCANS:
                raise ImageTooLarge(f"The progressive JPEG has {scans} scans; the limit is {MAX_SCANS}, and fixed.")
            ids, sampling = components[::3], components[1::3]
            ycbcr = len(ids) == 3 and ids != b"RGB" and transformed
            return JpegHeader(buffered, ycbcr, ycbcr and sampling == b"\x22\x11\x11", at, progressive)
        if marker in _OTHER_FRAMES:
            raise UnsupportedImage(f"The file is {_OTHER_FRAMES[marker]} (marker {marker:02X}), which is not read.")
        if marker in _FRAME_HEADERS and at + 10 <= _segment_end(data, marker, at):
            bits, count = data[at + 4], data[at + 9]
            if bits != 8:
                raise UnsupportedImage(f"The JPEG has {bits} bits a sample; only 8 are read.")
            if count not in (1, 3, 4):
                raise UnsupportedImage(f"The JPEG has {count} components; 1, 3 and 4 are read.")
            components, progressive = data[at + 10 : at + 10 + 3 * count], marker in _PROGRESSIVE
        if marker == _ADOBE and data[at + 4 : at + 9] == b"Adobe" and data[at + 15 : at + 16] == b"\0":
            transformed = False
    raise TruncatedImage("The JPEG ends within its header: its pixels are missing.")


def _segment_end(data: bytes, marker: int, at: int) -> int:
    alone = 0xD0 <= marker <= 0xD8
    return at + 2 if alone else at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker and offset of each segment, up to and including the first scan's."""
    at = 2
    while at + 4 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker in (0, 0xFF):  # fill bytes, or junk that Pillow skips too
            at = data.find(b"\xff", at + 1)
            if at < 0:
                return
            continue
        yield marker, at
        if marker == _START_OF_SCAN:
            return
        at = _segment_end(data, marker, at)


def without_metadata(data: bytes) -> bytes | None:
    """The file without the segments that the decoder does not need; None if there are none.

    Pillow can't open a file with a damaged segment, although the picture may be fine.
    """
    kept, dropped = [data[:2]], False
    for marker, at in _segments(data):
        if marker == _START_OF_SCAN:
            kept.append(data[at:])
            return b"".join(kept) if dropped else None
        end = _segment_end(data, marker, at)
        begins = _NEEDED_SEGMENTS.get(marker)
        metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if metadata and (begins is None or not data.startswith(begins, at + 4)):
            dropped = True
        else:
            kept.append(data[at:end])
    return None


def has_end(data: bytes, header: JpegHeader) -> bool:
    """Whether an end marker follows the pixels, whatever follows it. A marker in an appended film does not count."""
    if data.endswith(_END) and len(data) > header.scan_at + 4:
        return True  # true for nearly every file; searching all of it would take a tenth of its decoding time
    end = data.rfind(_END) if header.buffered else data.find(_END, header.scan_at)
    return end > header.scan_at and data.find(b"ftyp", header.scan_at, end) < 0


def ends_early(data: bytes, header: JpegHeader, decoded: Image.Image) -> bool:
    """Whether the end of the picture is missing, although there is an end marker and libjpeg found no error.

    An aborted download into a file of the final size leaves zeros, and some tools add an end marker to any data.
    libjpeg then fills the rest with grey and only warns, and Pillow does not report the warning.
    """
    return not header.buffered and _ends_in_grey(decoded) and _wants_more(data, header)


def completed(data: bytes, header: JpegHeader) -> bytes | None:
    """The file with an end marker, if the picture is proven to be complete without it; else None.

    It is complete if different data after it makes no difference, since a missing part would be decoded from that data.
    The scans of a progressive picture must also include the last refinement.
    """
    film = _FILM.search(data, header.scan_at)
    end = len(data) if film is None else film.start()
    if header.progressive:
        if not _all_refined(data[:end], header):
            return None
    elif header.buffered:
        return None  # separate scans: their number is unknown
    elif (marker := _scan_end(data, header)) is not None and marker < end:
        end = marker
    stem = data[:end].rstrip(b"\xff")
    seen: bytes | None = None
    for padding in _PADDINGS:
        tail = padding + _END if header.progressive else padding
        with Image.open(io.BytesIO(stem + tail), formats=["JPEG"]) as image:
            try:
                image.load()
            except OSError:
                return None  # the decoder waits for more data
            pixels = image.tobytes()
        if seen is not None and pixels != seen:
            return None
        seen = pixels
    return stem + _END


def _all_refined(data: bytes, header: JpegHeader) -> bool:
    """Whether the scans of a progressive picture contain every bit of every coefficient (ITU-T T.81, G.1.1.1)."""
    left: dict[tuple[int, int], int] = {}
    at = header.scan_at
    while at >= 0 and at + 5 <= len(data):
        count = data[at + 4]
        scan = data[at + 5 : at + 5 + 2 * count + 3]
        if len(scan) < 2 * count + 3:
            return False
        first, last, bits = scan[-3:]
        left |= {(scan[2 * index], band): bits & 15 for index in range(count) for band in range(first, last + 1)}
        at = data.find(b"\xff\xda", at + 2)
    components = {component for component, _ in left}
    return all(left.get((component, band), 1) == 0 for component in components for band in range(64))


def _scan_end(data: bytes, header: JpegHeader) -> int | None:
    end = _SCAN_END.search(data, header.scan_at + 2)
    return None if end is None else end.start()


def _ends_in_grey(image: Image.Image) -> bool:
    corner = image.getpixel((image.width - 1, image.height - 1))
    samples = corner if isinstance(corner, tuple) else (corner,)
    return all(sample is not None and 126 <= sample <= 129 for sample in samples)


def _wants_more(data: bytes, header: JpegHeader) -> bool:
    """Decodes again, with a little padding instead of the end marker.

    A complete picture decodes as before; if it ends early, libjpeg waits for more data, which Pillow reports.
    """
    padded = data[: _scan_end(data, header)] + bytes(16)
    with Image.open(io.BytesIO(padded), formats=["JPEG"]) as image:
        image.draft(None, (1, 1))
        try:
            image.load()
        except OSError:
            return True
    return False

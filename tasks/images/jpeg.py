"""What Pillow does not tell about a JPEG: how much memory it needs, and whether its end is missing."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

from PIL import Image

from pipeline.core.errors import ImageTooLarge

#: Progressive encoders write about ten scans. Thousands of them make a small file slow to decode.
MAX_SCANS = 100

_FRAME_HEADERS = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)  # SOF: baseline, extended, progressive; Huffman or arithmetic
_PROGRESSIVE = (0xC2, 0xCA)
_ADOBE = 0xEE  # APP14: its last byte says which transform leads to the components; 0 is none, so they are RGB
_START_OF_SCAN = 0xDA
_END = b"\xff\xd9"
#: In the data of a scan 0xFF is followed by 0, by itself, or by a restart marker; anything else ends the scan.
_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


@dataclass(frozen=True, slots=True)
class JpegHeader:
    buffered: bool  # more than one scan makes the picture: libjpeg keeps all its coefficients, whatever the draft
    ycbcr: bool  # its three components are certainly luma and chroma: libjpeg takes them for that, too
    subsampled: bool  # 4:2:0: one sample of chroma for two by two pixels
    scan_at: int  # offset of the first scan's header


def read_header(data: bytes) -> JpegHeader:
    """Walks the segments up to the first scan. Raises ``ValueError`` when there is none, and ``ImageTooLarge``."""
    at, components, progressive, transformed = 2, b"", False, True  # components: three bytes for each
    while at + 4 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker in (0, 0xFF):  # fill bytes, or junk that Pillow skips too
            at = data.find(b"\xff", at + 1)
            if at < 0:
                break
            continue
        if marker == _START_OF_SCAN:
            buffered = progressive or 3 * data[at + 4] < len(components)
            if buffered and (scans := data.count(b"\xff\xda", at)) > MAX_SCANS:
                raise ImageTooLarge(f"The progressive JPEG has {scans} scans; the limit is {MAX_SCANS}.")
            ids, sampling = components[::3], components[1::3]
            ycbcr = len(ids) == 3 and ids != b"RGB" and transformed
            return JpegHeader(buffered, ycbcr, ycbcr and sampling == b"\x22\x11\x11", at)
        if marker in _FRAME_HEADERS and at + 10 <= len(data):
            components, progressive = data[at + 10 : at + 10 + 3 * data[at + 9]], marker in _PROGRESSIVE
        if marker == _ADOBE and data[at + 4 : at + 9] == b"Adobe" and data[at + 15 : at + 16] == b"\0":
            transformed = False
        at += 2 if 0xD0 <= marker <= 0xD8 else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise ValueError("it has a header only")


def ends_early(data: bytes, header: JpegHeader, decoded: Image.Image) -> bool:
    """Whether the end of the picture is missing, although libjpeg decoded it without an error.

    Two ways lead here: a download into a file of the final size leaves zeros, and some tools put
    an end marker after whatever there is. libjpeg fills up with grey then, and says so only in a
    warning that Pillow does not pass on.
    """
    if data.rfind(_END) < header.scan_at:
        return True
    return not header.buffered and _ends_in_grey(decoded) and _wants_more(data, header)


def _ends_in_grey(image: Image.Image) -> bool:
    corner = image.getpixel((image.width - 1, image.height - 1))
    samples = corner if isinstance(corner, tuple) else (corner,)
    return all(sample is not None and 126 <= sample <= 129 for sample in samples)


def _wants_more(data: bytes, header: JpegHeader) -> bool:
    """Decodes once more, with a little padding in place of the end marker.

    A complete picture decodes as before; one that ends early makes libjpeg wait for more,
    which Pillow reports.
    """
    end = _SCAN_END.search(data, header.scan_at + 2)
    padded = data[: None if end is None else end.start()] + bytes(16)
    with Image.open(io.BytesIO(padded), formats=["JPEG"]) as image:
        image.draft(None, (1, 1))
        try:
            image.load()
        except OSError:
            return True
    return False

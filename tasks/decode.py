"""From bytes to pixels: the format is what the bytes say, and the header is judged before anything is decoded."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Self

import pi_heif
from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from pipeline.config import Settings
from pipeline.errors import ImageTooLarge, NotAnImage, TruncatedImage, UnsupportedImage
from tasks.frames import has_more_frames_than
from tasks.jpeg import ends_early, read_header

#: What Pillow may open, in the order in which it is asked. Nothing else is ever opened: other
#: plugins start programs (EPS), have had more than their share of holes (FITS, PSD), or are
#: never uploaded on purpose. AVIF comes before HEIF: both accept the neutral brand ``mif1``.
READ = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "HEIF")

#: How a file of each format begins, to tell a damaged image from what never was one.
_BEGINNINGS = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF....WEBP",
    "GIF": rb"GIF8[79]a",
    "TIFF": rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]",
    "AVIF": rb"....ftyp(avif|avis)",
    "HEIF": rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)",
}

#: What Pillow and its codecs raise for data that is damaged or ends early. Not `Exception`:
#: Celery's time limit is one too, and it says nothing about the image.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    RuntimeError,
    struct.error,
    zlib.error,
)

#: What a pixel counts against ``max_pixels``, in units of the 4 bytes that Pillow needs for one RGB
#: pixel: the memory that decoding was measured to take (benchmarks/results/images.md). WebP and AVIF
#: hold a picture in several forms at once, HEIF in two; a progressive JPEG needs all its coefficients
#: (up to 8 bytes) whatever the draft; a drafted JPEG needs next to nothing.
_WEIGHTS = {"WEBP": 4.0, "AVIF": 3.0, "HEIF": 2.0}
_WEIGHT_BUFFERED_JPEG = 2.0
_WEIGHT_DRAFTED_JPEG = 0.5

#: The draft is never smaller than this many times the target. Below that LANCZOS has too little to
#: work on: at 1.04 times, 0.7 dB are lost against a full decode; at 1.25 times 0.2 dB; and leaving
#: more would push 24 MP photos from a quarter to half of the original, for twice the time.
DRAFT_MARGIN = 1.25

pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
# `Limits` judges sizes. Pillow's own guard would warn below our limit; it stays as a second one,
# at the largest size that the settings allow.
Image.MAX_IMAGE_PIXELS = 500_000_000
# Pillow refuses a PNG whose compressed texts unpack to more than 1 MB each. Photoshop's history can be longer.
PngImagePlugin.MAX_TEXT_CHUNK = 8_000_000
PngImagePlugin.MAX_TEXT_MEMORY = 32_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused unseen. They do not change the bytes of a rendition."""

    max_pixels: int = 100_000_000
    max_bytes: int = 100_000_000
    max_frames: int = 2_000

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(settings.max_pixels, settings.max_bytes, settings.max_frames)

    def check_bytes(self, size: int) -> None:
        """Raises ``ImageTooLarge``. Who knows the size beforehand can save the download."""
        if size > self.max_bytes:
            raise ImageTooLarge(f"The file has {size:,} bytes; the limit MAX_BYTES is {self.max_bytes:,}.")


@dataclass(frozen=True, slots=True)
class Decoded:
    """Pixels, perhaps drafted, and what the header said about the whole picture."""

    image: Image.Image  # as stored: in the file's own mode, orientation and colours
    box: tuple[float, float, float, float] | None  # the part of `image` that is picture; None: all of it
    target: tuple[int, int]  # pixels that `image` is to be resized to, before it is turned
    format: str  # "JPEG"; one of READ
    size: tuple[int, int]  # pixels of the original, turned as it is shown
    turn: int  # the EXIF orientation that is left to apply: 1 to 8
    profile: bytes | None  # ICC
    levels: tuple[int, int]  # the 16-bit samples that are shown as black and as white


def fit(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    """The largest size in the box with the shape of ``size``, to the nearest pixel; never enlarged, never 0."""
    (width, height), (box_width, box_height) = size, box
    if width <= box_width and height <= box_height:
        return size
    if width * box_height >= height * box_width:
        return box_width, max(1, (2 * height * box_width + width) // (2 * width))
    return max(1, (2 * width * box_height + height) // (2 * height)), box_height


def decode(data: bytes, box: tuple[int, int], limits: Limits) -> Decoded:
    """Decodes an image no further than is needed to make it fit in ``box``.

    Raises ``NotAnImage``, ``TruncatedImage``, ``UnsupportedImage`` or ``ImageTooLarge``.
    """
    limits.check_bytes(len(data))
    with _open(data, limits) as source:
        name = "JPEG" if source.format == "MPO" else str(source.format)
        with _damage_reported(name):
            turn = _turn(source)
            stored = source.size
            shown = stored[::-1] if turn >= 5 else stored
            target = fit(shown, box)
            target = target[::-1] if turn >= 5 else target
            jpeg = read_header(data) if name == "JPEG" else None
            drafted = source.draft(None, (ceil(target[0] * DRAFT_MARGIN), ceil(target[1] * DRAFT_MARGIN)))
        buffered = jpeg is not None and jpeg.buffered
        _check_pixels(stored, name, limits, buffered=buffered, drafted=source.size != stored)
        if has_more_frames_than(limits.max_frames, name, data, source):
            raise ImageTooLarge(
                f"The {name} file has more than {limits.max_frames:,} frames, the limit MAX_FRAMES; "
                "only the first would be shown."
            )
        if source.mode in ("F", "I"):
            raise UnsupportedImage(
                f"The {name} has samples of 32 bits or with a sign (mode {source.mode}), "
                "which do not say what is black and what is white."
            )
        with _damage_reported(name):
            source.load()
            _fix_transparency_key(source, data)
            early = jpeg is not None and ends_early(data, jpeg, source)
        if early:
            raise TruncatedImage("The JPEG data ends early: the end of the picture is missing.")
        return Decoded(
            image=source,
            box=None if drafted is None else drafted[1],
            target=target,
            format=name,
            size=shown,
            turn=turn,
            profile=source.info.get("icc_profile"),
            levels=_levels(source),
        )


def _open(data: bytes, limits: Limits) -> ImageFile.ImageFile:
    try:
        return Image.open(io.BytesIO(data), formats=READ)
    except Image.DecompressionBombError as exc:
        raise ImageTooLarge(f"{exc} The limit MAX_PIXELS is {limits.max_pixels:,}.") from exc
    except _DECODER_ERRORS as exc:
        if not data:
            raise NotAnImage("The file is empty.") from exc
        reason = "" if isinstance(exc, UnidentifiedImageError) else f" ({_one_line(exc)})"
        for name, beginning in _BEGINNINGS.items():
            if re.match(beginning, data, re.DOTALL):
                raise TruncatedImage(
                    f"The file begins like {name}, but its header is damaged, cut short, or says zero size{reason}."
                ) from exc
        raise NotAnImage(
            f"The file begins with {data[:8]!r}: that is none of the formats that are read ({', '.join(READ)})."
        ) from exc


@contextmanager
def _damage_reported(name: str) -> Iterator[None]:
    try:
        yield
    except _DECODER_ERRORS as exc:
        raise TruncatedImage(f"The {name} data is damaged or ends early: {_one_line(exc)}.") from exc


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split())


def _turn(source: ImageFile.ImageFile) -> int:
    """The EXIF orientation that is still to be applied: 1 to 8."""
    if source.format in ("TIFF", "HEIF"):
        return 1  # these two plugins turn the pixels themselves
    try:
        found = source.getexif().get(0x0112)
    except _DECODER_ERRORS:
        return 1  # damaged metadata does not make the picture unreadable
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _check_pixels(size: tuple[int, int], name: str, limits: Limits, *, buffered: bool, drafted: bool) -> None:
    width, height = size
    weight, kind = _WEIGHTS.get(name, 1.0), name
    if buffered:
        weight, kind = _WEIGHT_BUFFERED_JPEG, "progressive JPEG"
    elif drafted:
        weight = _WEIGHT_DRAFTED_JPEG
    counted = int(width * height * weight)
    if counted > limits.max_pixels:
        times = (
            "" if weight == 1 else f", which count {weight:g} times as {kind}, for the memory they take: {counted:,}"
        )
        raise ImageTooLarge(
            f"The image has {width}x{height} = {width * height:,} pixels{times}; "
            f"the limit MAX_PIXELS is {limits.max_pixels:,}."
        )


def _levels(source: ImageFile.ImageFile) -> tuple[int, int]:
    """Which samples of a 16-bit picture are shown as black and as white. TIFF has two ways to differ."""
    tags = getattr(source, "tag_v2", {})
    bits = tags.get(258, (16,))[0]
    white = (1 << bits) - 1
    return (white, 0) if tags.get(262) == 0 else (0, white)  # PhotometricInterpretation 0 is WhiteIsZero


def _fix_transparency_key(source: ImageFile.ImageFile, data: bytes) -> None:
    """In a PNG the colour that stands for transparency has the depth of the file; Pillow scales the samples only."""
    key = source.info.get("transparency")
    if source.format != "PNG" or key is None or source.mode not in ("L", "RGB"):
        return
    depth = data[24]  # of IHDR, which always comes first
    if depth == 16:
        source.info["transparency"] = tuple(sample >> 8 for sample in key)
    elif source.mode == "L":
        source.info["transparency"] = key * 255 // ((1 << depth) - 1)

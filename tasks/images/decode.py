"""From bytes to pixels: the format is what the bytes say, and the header is judged before anything is decoded."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pi_heif
from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from pipeline.core.errors import ImageTooLarge, NotAnImage, TruncatedImage, UnsupportedImage
from tasks.images.frames import has_more_frames_than
from tasks.images.jpeg import ends_early, read_header
from tasks.images.limits import Limits

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

#: The scales at which libjpeg may decode, and how many times the target must then be left, so that LANCZOS has
#: enough to work on: no more than 0.3 dB are lost against a full decode, on photos full of detail (docs/images.md).
DRAFT_MARGINS = {8: 1.5, 4: 4 / 3, 2: 1.25}

pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
# `Limits` judges sizes. Pillow's own guard would warn below our limit; it stays as a second one,
# at the largest size that the settings allow.
Image.MAX_IMAGE_PIXELS = 500_000_000
# Pillow refuses a PNG whose compressed texts unpack to more than 1 MB each. Photoshop's history can be longer.
PngImagePlugin.MAX_TEXT_CHUNK = 8_000_000
PngImagePlugin.MAX_TEXT_MEMORY = 32_000_000


@dataclass(frozen=True, slots=True)
class Decoded:
    """Pixels, perhaps drafted, and what the header said about the whole picture."""

    image: Image.Image  # as stored: in the file's own mode (or YCbCr, where asked for), orientation and colours
    format: str  # "JPEG"; one of READ
    size: tuple[int, int]  # pixels of the original as stored
    turn: int  # the EXIF orientation that is left to apply: 1 to 8
    target: tuple[int, int]  # pixels that `image` is to be resized to, before it is turned
    profile: bytes | None  # ICC
    box: tuple[float, float, float, float] | None = None  # the part of a draft that is picture; None: all of it
    levels: tuple[int, int] = (0, 65535)  # the 16-bit samples that are shown as black and as white


def fit(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    """The largest size in the box with the shape of ``size``, to the nearest pixel; never enlarged, never 0."""
    (width, height), (box_width, box_height) = size, box
    if width <= box_width and height <= box_height:
        return size
    if width * box_height >= height * box_width:
        return box_width, max(1, (2 * height * box_width + width) // (2 * width))
    return max(1, (2 * width * box_height + height) // (2 * height)), box_height


def draft_scale(size: tuple[int, int], target: tuple[int, int]) -> int:
    """1, 2, 4 or 8: what part of a JPEG of this size is enough to be resized to the target."""
    left = max(size) / max(target)
    return next((scale for scale, margin in DRAFT_MARGINS.items() if left >= scale * margin), 1)


def decode(data: bytes, box: tuple[int, int], limits: Limits, *, ycbcr: bool = False) -> Decoded:
    """Decodes an image no further than is needed to make it fit in ``box``.

    With ``ycbcr`` the picture of a colour JPEG that is to be made smaller stays in the YCbCr that it is stored in;
    but not where it has chroma for every pixel and is decoded in full, such as a drawing with thin lines of colour.
    Raises ``NotAnImage``, ``TruncatedImage``, ``UnsupportedImage`` or ``ImageTooLarge``.
    """
    limits.check_bytes(len(data))
    with _open(data, limits) as source:
        if source.format in ("JPEG", "MPO"):
            return _decode_jpeg(source, data, box, limits, ycbcr)
        return _decode_other(source, data, box, limits)


def _decode_jpeg(
    source: ImageFile.ImageFile, data: bytes, box: tuple[int, int], limits: Limits, ycbcr: bool
) -> Decoded:
    size = source.size
    with _damage_reported("JPEG"):
        header = read_header(data)
        turn = _turn(source)
        target = _target(size, box, turn)
        scale = draft_scale(size, target)
        ycbcr = ycbcr and target != size and (header.subsampled or (header.ycbcr and scale > 1))
        draft = source.draft("YCbCr" if ycbcr else None, (max(1, size[0] // scale), max(1, size[1] // scale)))
    plain = "JPEG" if source.size == size else "drafted JPEG"
    limits.check_pixels(size, "progressive JPEG" if header.buffered else plain)
    _check_frames("JPEG", data, source, limits)
    with _damage_reported("JPEG"):
        source.load()
        incomplete = ends_early(data, header, source)
    if incomplete:
        raise TruncatedImage("The JPEG data ends early: the end of the picture is missing.")
    profile = source.info.get("icc_profile")
    return Decoded(source, "JPEG", size, turn, target, profile, box=None if draft is None else draft[1])


def _decode_other(source: ImageFile.ImageFile, data: bytes, box: tuple[int, int], limits: Limits) -> Decoded:
    name = str(source.format)
    limits.check_pixels(source.size, "turned TIFF" if name == "TIFF" and _orientation(source) != 1 else name)
    _check_frames(name, data, source, limits)
    if source.mode in ("F", "I"):
        raise UnsupportedImage(
            f"The {name} has samples of 32 bits or with a sign (mode {source.mode}), "
            "which do not say what is black and what is white."
        )
    with _damage_reported(name):
        source.load()
        turn = _turn(source)  # not before: for this, Pillow decodes a PNG
        _fix_transparency_key(source, data)
        levels = _levels(source)
    target = _target(source.size, box, turn)
    return Decoded(source, name, source.size, turn, target, source.info.get("icc_profile"), levels=levels)


def _open(data: bytes, limits: Limits) -> ImageFile.ImageFile:
    try:
        return Image.open(io.BytesIO(data), formats=READ)
    except Image.DecompressionBombError as exc:
        raise ImageTooLarge(f"{exc} The limit MAX_PIXELS is {limits.max_pixels:,}.") from exc
    except _DECODER_ERRORS as exc:
        if not data:
            raise NotAnImage("The file is empty.", advice="Upload the file again.") from exc
        reason = "" if isinstance(exc, UnidentifiedImageError) else f" ({_one_line(exc)})"
        for name, beginning in _BEGINNINGS.items():
            if re.match(beginning, data, re.DOTALL):
                raise TruncatedImage(
                    f"The file begins like {name}, but its header is damaged, cut short, says zero size, "
                    f"or is of a kind that is not read{reason}."
                ) from exc
        raise NotAnImage(
            f"The file begins with {_quoted(data[:8])}: that is none of the formats that are read ({', '.join(READ)})."
        ) from exc


@contextmanager
def _damage_reported(name: str) -> Iterator[None]:
    try:
        yield
    except _DECODER_ERRORS as exc:
        raise TruncatedImage(f"The {name} data is damaged or ends early: {_one_line(exc)}.") from exc


def _quoted(data: bytes) -> str:
    """As text where it is text, else in hexadecimal digits."""
    text = data.decode("latin-1")
    return f"“{text}”" if text.isascii() and text.isprintable() else data.hex(" ").upper()


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split())


def _target(size: tuple[int, int], box: tuple[int, int], turn: int) -> tuple[int, int]:
    """What ``size`` is to be resized to, both as stored; the box is for the picture as shown."""
    return fit(size, box) if turn < 5 else fit(size, box[::-1])


def _turn(source: ImageFile.ImageFile) -> int:
    """The EXIF orientation that is still to be applied: 1 to 8."""
    return 1 if source.format in ("TIFF", "HEIF") else _orientation(source)  # these two are turned already


def _orientation(source: ImageFile.ImageFile) -> int:
    try:
        found = source.getexif().get(0x0112)
    except _DECODER_ERRORS:
        return 1  # damaged metadata does not make the picture unreadable
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _check_frames(name: str, data: bytes, source: ImageFile.ImageFile, limits: Limits) -> None:
    if has_more_frames_than(limits.max_frames, name, data, source):
        raise ImageTooLarge(
            f"The {name} file has more than {limits.max_frames:,} frames, the limit MAX_FRAMES; "
            "only the first would be shown."
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

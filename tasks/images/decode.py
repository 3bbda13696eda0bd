"""Decodes images: the bytes determine the format, and the header is checked before anything is decoded."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pi_heif
from PIL import AvifImagePlugin, Image, ImageFile, UnidentifiedImageError

from pipeline.core.errors import DamagedImage, ImageTooLarge, TruncatedImage, UnsupportedImage
from tasks.images import bmp, gif, heif, png, tiff
from tasks.images.cicp import profile_of_numbers
from tasks.images.identify import READ, identify
from tasks.images.jpeg import completed, ends_early, has_end, read_header, without_metadata
from tasks.images.limits import Limits

__all__ = ["FITS", "READ", "Decoded", "cover", "cut_to", "decode", "draft_scale", "fit", "shown_size"]

#: The errors of Pillow and its codecs for data that is damaged or ends early. Not `Exception`, which includes the error
#: of Celery's time limit, and that says nothing about the image.
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

#: The scales at which libjpeg may decode, each with the minimum size of the draft as a multiple of the target's. So
#: LANCZOS loses at most 0.3 dB against a full decode, on photos full of detail (docs/images.md).
DRAFT_MARGINS = {8: 1.5, 4: 4 / 3, 2: 1.25}

pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # a worker has a process for each core
# `Limits` checks sizes. Pillow's own guard would warn below our limit; it stays as a second one, at the largest size
# that the settings allow.
MAX_EVER = 500_000_000
Image.MAX_IMAGE_PIXELS = MAX_EVER


@dataclass(frozen=True, slots=True)
class Decoded:
    """The pixels, maybe drafted, and what the header says about the whole picture."""

    image: Image.Image  # as stored: in the file's own mode (or YCbCr, if requested), orientation and colours
    format: str  # "JPEG"; one of READ
    size: tuple[int, int]  # pixels of the original as stored
    turn: int  # the EXIF orientation still to apply: 1 to 8
    target: tuple[int, int]  # the size in pixels to resize `image` to, before turning it
    profile: bytes | None  # ICC
    box: tuple[float, float, float, float] | None = None  # the part of a draft that shows the picture; None: all of it
    levels: tuple[int, int] = (0, 65535)  # the 16-bit samples that are shown as black and as white
    salvaged: str | None = None  # the damage of a file whose picture is complete


@dataclass(frozen=True, slots=True)
class _Opened:
    """The whole picture in full size, and what must still be done with it."""

    image: Image.Image
    turn: int = 1
    profile: bytes | None = None
    levels: tuple[int, int] = (0, 65535)
    salvaged: str | None = None


def fit(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    """The largest size in the box with the shape of ``size``, to the nearest pixel; never enlarges, never 0."""
    (width, height), (box_width, box_height) = size, box
    if width <= box_width and height <= box_height:
        return size
    if width * box_height >= height * box_width:
        return box_width, max(1, (2 * height * box_width + width) // (2 * width))
    return max(1, (2 * width * box_height + height) // (2 * height)), box_height


def cover(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    """The smallest size that covers the box with the whole picture; never enlarges."""
    (width, height), (box_width, box_height) = size, box
    if width <= box_width or height <= box_height:
        return size
    if width * box_height >= height * box_width:
        return (2 * width * box_height + height) // (2 * height), box_height
    return box_width, (2 * height * box_width + width) // (2 * width)


#: The size to resize the whole picture to, by the recipe's ``fit``.
FITS = {"contain": fit, "cover": cover}


def cut_size(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    """The size of the largest part of a picture that has the box's shape and fits in the box."""
    (width, height), (box_width, box_height) = size, box
    if width >= box_width and height >= box_height:
        return box
    if width * box_height >= height * box_width:
        return max(1, (2 * height * box_width + box_height) // (2 * box_height)), height
    return width, max(1, (2 * width * box_height + box_width) // (2 * box_width))


def cut_to(image: Image.Image, box: tuple[int, int]) -> Image.Image:
    """The middle of the picture, in the shape of the box."""
    width, height = cut_size(image.size, box)
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def shown_size(size: tuple[int, int], box: tuple[int, int], fit: str) -> tuple[int, int]:
    """The size of the rendition of an upright picture."""
    whole = FITS[fit](size, box)
    return cut_size(whole, box) if fit == "cover" else whole


def draft_scale(size: tuple[int, int], target: tuple[int, int]) -> int:
    """1, 2, 4 or 8: the largest divisor at which a JPEG of this size is still large enough for the target."""
    left = max(size) / max(target)
    return next((scale for scale, margin in DRAFT_MARGINS.items() if left >= scale * margin), 1)


def decode(data: bytes, box: tuple[int, int], limits: Limits, *, ycbcr: bool = False, fit: str = "contain") -> Decoded:
    """Decodes an image at no higher resolution than it needs to fit in ``box``, or cover it (one of ``FITS``).

    With ``ycbcr``, a colour JPEG that will be made smaller stays in its own YCbCr, unless it has chroma for every pixel
    and is decoded in full, such as a drawing with thin lines of colour.
    Raises ``NotAnImage``, ``TruncatedImage``, ``DamagedImage``, ``UnsupportedImage`` or ``ImageTooLarge``.
    """
    limits.check_bytes(len(data))
    name = identify(data)
    with _damage_reported(name):  # the parsers of this package raise such errors too
        if name == "JPEG":
            return _decode_jpeg(data, box, limits, ycbcr, fit)
        opened = _READERS[name](data, limits)
    size = opened.image.size
    target = _target(size, box, opened.turn, fit)
    return Decoded(
        opened.image,
        name,
        size,
        opened.turn,
        target,
        opened.profile,
        levels=opened.levels,
        salvaged=opened.salvaged,
    )


def _decode_jpeg(data: bytes, box: tuple[int, int], limits: Limits, ycbcr: bool, fit: str) -> Decoded:
    header = read_header(data)
    source, stripped = _open_jpeg(data)
    problems = [] if stripped is None else ["a segment of its metadata is damaged"]
    data = data if stripped is None else stripped
    _check_frames("JPEG", int(getattr(source, "n_frames", 1)), limits)
    if not has_end(data, header := read_header(data)):
        limits.check_pixels(source.size, "JPEG without end")
        whole = completed(data, header)
        if whole is None:
            raise TruncatedImage("The JPEG data ends early: the end of the picture is missing.")
        problems.append("its end marker is missing")
        data = whole
        source, _ = _open_jpeg(data)
    with source, _damage_reported("JPEG"):
        size = source.size
        turn = _turn(source.info.get("exif"))
        target = _target(size, box, turn, fit)
        scale = draft_scale(size, target)
        ycbcr = ycbcr and target != size and (header.subsampled or (header.ycbcr and scale > 1))
        draft = source.draft("YCbCr" if ycbcr else None, (max(1, size[0] // scale), max(1, size[1] // scale)))
        plain = "JPEG" if source.size == size else "drafted JPEG"
        limits.check_pixels(size, "progressive JPEG" if header.buffered else plain)
        source.load()
        if ends_early(data, header, source):
            raise TruncatedImage("The JPEG data ends early: the end of the picture is missing.")
    profile = source.info.get("icc_profile")
    return Decoded(
        source,
        "JPEG",
        size,
        turn,
        target,
        profile,
        box=None if draft is None else draft[1],
        salvaged="; ".join(problems) or None,
    )


def _open_jpeg(data: bytes) -> tuple[ImageFile.ImageFile, bytes | None]:
    """The opened file. If damaged metadata prevented opening it, also the data without metadata that was opened."""
    try:
        return _open("JPEG", data), None
    except _DECODER_ERRORS:
        stripped = without_metadata(data)
    with _damage_reported("JPEG"):
        return _open("JPEG", data if stripped is None else stripped), stripped


def _read_png(data: bytes, limits: Limits) -> _Opened:
    file = png.read(data)
    limits.check_pixels(file.size, "PNG")
    with _damage_reported("PNG"), _open("PNG", file.data) as source:
        source.load()
        _fix_transparency_key(source, file.data)
    return _Opened(source, _turn(file.facts.get(b"eXIf")), file.profile, salvaged=file.salvaged)


def _read_gif(data: bytes, limits: Limits) -> _Opened:
    layout = gif.read_layout(data, limits.max_frames)
    limits.check_pixels(layout.canvas, "GIF" if layout.fills_canvas else "GIF with a margin")
    if layout.more_frames:
        raise limits.too_many_frames("GIF")
    with _damage_reported("GIF", cut=not layout.complete), _open("GIF", data) as source:
        limits.check_pixels(source.size, "GIF")  # a frame may be larger than its canvas
        source.load()
        return _Opened(gif.on_canvas(source, layout))


def _read_tiff(data: bytes, limits: Limits) -> _Opened:
    file = tiff.read(data, limits)
    cut = tiff.is_cut(file.found, len(data))
    with _damage_reported("TIFF", cut=cut):
        try:
            image = tiff.load(file)
        except UnidentifiedImageError as exc:
            if cut:
                raise
            raise tiff.unreadable(file.found) from exc
        if image.mode in ("F", "I"):
            raise tiff.unreadable(file.found)
    return _Opened(image, profile=image.info.get("icc_profile"), levels=file.levels)


def _read_bmp(data: bytes, limits: Limits) -> _Opened:
    header = bmp.read_header(data)
    limits.check_pixels(header.size, header.cost)
    with _damage_reported("BMP"):
        return _Opened(bmp.read_pixels(data, header))


def _read_webp(data: bytes, limits: Limits) -> _Opened:
    cut = len(data) < 8 + int.from_bytes(data[4:8], "little")
    with _damage_reported("WEBP", cut=cut), _open("WEBP", data) as source:
        limits.check_pixels(source.size, "WEBP")
        _check_frames("WEBP", int(getattr(source, "n_frames", 1)), limits)
        source.load()
    return _Opened(source, _turn(source.info.get("exif")), source.info.get("icc_profile"))


def _read_heif(name: str) -> Callable[[bytes, Limits], _Opened]:
    def read(data: bytes, limits: Limits) -> _Opened:
        file = heif.read(data)
        heif.check(name, file, limits)
        heif.check_complete(name, file, len(data))
        merged = heif.with_one_association_box(data, file)
        data = data if merged is None else merged
        salvaged = None if merged is None else "the properties of its pictures are in several lists (ipma)"
        data, rotation = heif.turned_later(data, file) if name == "HEIF" and merged is None else (data, 1)
        with _damage_reported(name, cut=file.truncated), _open(name, data) as source:
            limits.check_pixels(source.size, heif.cost(name, file))
            _check_frames(name, int(getattr(source, "n_frames", 1)), limits)
            source.load()
        if heif.has_lost_a_tile(source, file):
            raise DamagedImage(f"The {name} data is damaged: a part of the picture can't be decoded.")
        turn = rotation if name == "HEIF" else _turn(source.info.get("exif"))  # libheif applies the other transforms
        profile = source.info.get("icc_profile")
        if not profile and (numbers := file.nclx()) is not None:
            profile = profile_of_numbers(*numbers)
        return _Opened(source, turn, profile, salvaged=salvaged)

    return read


_READERS: dict[str, Callable[[bytes, Limits], _Opened]] = {
    "PNG": _read_png,
    "WEBP": _read_webp,
    "GIF": _read_gif,
    "TIFF": _read_tiff,
    "BMP": _read_bmp,
    "AVIF": _read_heif("AVIF"),
    "HEIF": _read_heif("HEIF"),
}


def _open(name: str, data: bytes) -> ImageFile.ImageFile:
    try:
        return Image.open(io.BytesIO(data), formats=[name])
    except Image.DecompressionBombError as exc:
        raise ImageTooLarge(f"The {name} has more than {2 * MAX_EVER:,} pixels, which no setting allows.") from exc


@contextmanager
def _damage_reported(name: str, *, cut: bool = False) -> Iterator[None]:
    try:
        yield
    except _DECODER_ERRORS as exc:
        said = "" if isinstance(exc, UnidentifiedImageError) else f": {_one_line(exc)}"
        if "unsupported" in said.lower():
            raise UnsupportedImage(f"The {name} is of a kind that is not read{said}.") from exc
        if cut:
            raise TruncatedImage(f"The {name} file is shorter than it says itself{said}.") from exc
        raise DamagedImage(f"The {name} data is damaged{said}.") from exc


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split()).removesuffix(".")


def _target(size: tuple[int, int], box: tuple[int, int], turn: int, fit: str) -> tuple[int, int]:
    """The size to resize to, as stored; the box is for the upright picture."""
    return FITS[fit](size, box if turn < 5 else box[::-1])


def _turn(exif: bytes | None) -> int:
    """The orientation in EXIF: 1 to 8. Like browsers, it ignores an orientation in XMP."""
    if not exif:
        return 1
    try:
        parsed = Image.Exif()
        parsed.load(exif)
        found = parsed.get(0x0112)
    except _DECODER_ERRORS:
        return 1  # damaged metadata does not make the picture unreadable
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _check_frames(name: str, frames: int, limits: Limits) -> None:
    if frames > limits.max_frames:
        raise limits.too_many_frames(name)


def _fix_transparency_key(source: ImageFile.ImageFile, data: bytes) -> None:
    """Scales a PNG's transparent colour, which has the depth of the file; Pillow scales only the samples."""
    key = source.info.get("transparency")
    if key is None or source.mode not in ("L", "RGB"):
        return
    depth = data[24]  # of IHDR, which always comes first
    if depth == 16:
        source.info["transparency"] = tuple(sample >> 8 for sample in key)
    elif source.mode == "L":
        source.info["transparency"] = key * 255 // ((1 << depth) - 1)

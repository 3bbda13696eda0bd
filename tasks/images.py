"""From the bytes of an upload to the bytes of a rendition. Pure: no Celery, no S3, no clock.

The order of the steps is what makes it fast, and each step is where it is for a reason:

1. the header is read and judged (``Limits``) before anything is decoded;
2. ``draft`` lets libjpeg decode a JPEG at 1/2, 1/4 or 1/8, no smaller than what is needed;
3. LANCZOS makes the rest of the way, from the draft's exact box;
4. orientation and colour come last, on the few pixels that are left.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zlib
from dataclasses import astuple, dataclass
from typing import Self

import pi_heif
from PIL import Image, ImageCms, ImageFile

from pipeline.config import Settings
from pipeline.errors import ImageTooLarge, NotAnImage, TruncatedImage
from tasks.formats import READ, WRITTEN, Format, encode, is_transparent

#: Raised by one whenever the same recipe would make visibly other pixels than before:
#: stored renditions then count as out of date.
ALGORITHM = 1

#: What Pillow and its codecs raise for data that is damaged or ends early. Not `Exception`:
#: Celery's time limit is one too, and it says nothing about the image.
DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)

pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
# Limits judges sizes, before decoding. Pillow's own guard stays, at the largest that Limits can allow.
Image.MAX_IMAGE_PIXELS = 500_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused. They do not change the bytes of a rendition."""

    max_pixels: int = 100_000_000
    max_bytes: int = 100_000_000

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(max_pixels=settings.max_pixels, max_bytes=settings.max_bytes)

    def check_bytes(self, size: int) -> None:
        """Raises ``ImageTooLarge``. Callers that know the size first can save the download."""
        if size > self.max_bytes:
            raise ImageTooLarge(f"The file has {size:,} bytes; the limit MAX_BYTES is {self.max_bytes:,}.")

    def check_pixels(self, width: int, height: int) -> None:
        if width * height > self.max_pixels:
            raise ImageTooLarge(
                f"The image has {width}x{height} = {width * height:,} pixels; "
                f"the limit MAX_PIXELS is {self.max_pixels:,}."
            )


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to make: everything that determines the bytes of a rendition."""

    box: tuple[int, int]  # pixels, width x height
    format: str | None = None  # "JPEG", "WEBP", "AVIF"…; None: the source's where browsers show it
    quality: int | None = None  # 1 to 100; None: the format's measured default
    effort: int | None = None  # 0 (fastest) to 9 (smallest); None: the format's measured default

    @classmethod
    def from_settings(cls, settings: Settings, box: tuple[int, int]) -> Self:
        forced = settings.output_format
        return cls(box, None if forced is None else forced.upper(), settings.quality, settings.effort)

    @property
    def digest(self) -> str:
        """Short and stable: it changes when the same source would give a different rendition."""
        defaults = [astuple(written) for written in WRITTEN.values()]
        facts = [ALGORITHM, self.box, self.format, self.quality, self.effort, defaults]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Rendition:
    data: bytes
    width: int  # pixels of the rendition
    height: int
    content_type: str  # "image/jpeg"
    suffix: str  # to append to the key: "" where the format is the source's own, else ".jpg", ".png"…
    source_width: int  # pixels of the original as displayed, after its EXIF orientation
    source_height: int
    source_format: str  # "JPEG"


def fit(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    """The largest size of the same shape, to the nearest pixel, that fits in the box; never larger than ``size``."""
    (width, height), (box_width, box_height) = size, box
    if width <= box_width and height <= box_height:
        return size
    if width * box_height >= height * box_width:
        return box_width, max(1, (2 * height * box_width + width) // (2 * width))
    return max(1, (2 * width * box_height + height) // (2 * height)), box_height


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def render(data: bytes, recipe: Recipe, limits: Limits = Limits()) -> Rendition:
    """Makes one rendition of an image file.

    Raises ``NotAnImage``, ``TruncatedImage`` or ``ImageTooLarge``; their texts do not name
    the object, since only the caller knows it.
    """
    limits.check_bytes(len(data))
    with open_image(data) as source:
        limits.check_pixels(*source.size)
        name = "JPEG" if source.format == "MPO" else str(source.format)
        turn = orientation(source)
        swapped = turn >= 5
        shown = source.size[::-1] if swapped else source.size
        target = fit(shown, recipe.box)
        stored_target = target[::-1] if swapped else target
        profile = source.info.get("icc_profile")
        try:
            drafted = source.draft(None, stored_target)
            source.load()
        except DECODER_ERRORS as exc:
            raise TruncatedImage(f"The {name} data is damaged or ends early: {exc}.") from exc
        box = None if drafted is None else drafted[1]
        image = resizable(source)
        if image.size != stored_target:
            image = image.resize(stored_target, Image.Resampling.LANCZOS, box)
    image = eight_bit(image)
    if turn in _TURNS:
        image = image.transpose(_TURNS[turn])
    image = to_srgb(image, profile)

    written = output_format(name, image, recipe.format)
    encoded = encode(
        image,
        written,
        (written.quality or 0) if recipe.quality is None else recipe.quality,
        written.effort if recipe.effort is None else recipe.effort,
    )
    return Rendition(
        data=encoded,
        width=target[0],
        height=target[1],
        content_type=written.content_type,
        suffix="" if written.name == name else written.suffix,
        source_width=shown[0],
        source_height=shown[1],
        source_format=name,
    )


def output_format(source: str, image: Image.Image, forced: str | None) -> Format:
    if forced is not None:
        return WRITTEN[forced]
    if source in WRITTEN:
        return WRITTEN[source]
    return WRITTEN["PNG" if is_transparent(image) else "JPEG"]


def open_image(data: bytes) -> ImageFile.ImageFile:
    """Reads the header. Raises ``NotAnImage``."""
    try:
        return Image.open(io.BytesIO(data), formats=READ)
    except Image.DecompressionBombError as exc:
        raise ImageTooLarge(f"{exc}") from exc
    except DECODER_ERRORS as exc:
        raise NotAnImage(f"The file is not in any of the formats that are read ({', '.join(READ)}).") from exc


def orientation(image: ImageFile.ImageFile) -> int:
    """The EXIF orientation that is still to be applied: 1 to 8."""
    if image.format in ("TIFF", "HEIF"):
        return 1  # these two plugins turn the pixels themselves
    try:
        found = image.getexif().get(0x0112, 1)
    except DECODER_ERRORS:
        return 1  # damaged metadata does not make the picture unreadable
    return found if found in _TURNS else 1


def resizable(image: Image.Image) -> Image.Image:
    """In a mode that LANCZOS works on: palette images would be resized as nearest neighbour."""
    if image.mode in ("P", "PA"):
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode == "1":
        return image.convert("L")
    if "transparency" in image.info and image.mode in ("L", "RGB"):
        return image.convert({"L": "LA", "RGB": "RGBA"}[image.mode])
    return image


_SIXTEEN_TO_EIGHT = [(value * 255 + 32767) // 65535 for value in range(65536)]


def eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow's convert("L") would clip at 255 instead of scaling.
        return image.convert("I").point(_SIXTEEN_TO_EIGHT, "L")
    return image


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The image in sRGB: L, LA, RGB or RGBA. A profile that can't be used is ignored, as browsers do."""
    target = "L" if image.mode in ("L", "LA") else "RGB"
    if image.mode.endswith("A"):
        colours, alpha = image.convert(target), image.getchannel("A")
        converted = to_srgb(colours, profile)
        converted.putalpha(alpha)
        return converted
    if profile is not None and image.mode in ("RGB", "CMYK"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            transformed = ImageCms.profileToProfile(
                image,
                source,
                ImageCms.createProfile("sRGB"),
                ImageCms.Intent.RELATIVE_COLORIMETRIC,
                "RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
        except (ImageCms.PyCMSError, OSError):
            transformed = None
        if transformed is not None:
            return transformed
    return image if image.mode == target else image.convert(target)

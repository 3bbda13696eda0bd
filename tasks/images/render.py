"""Makes the bytes of a rendition from the bytes of an upload. Pure: no Celery, no S3, no clock.

The order of the steps makes it fast:

1. ``Limits`` checks the header before anything is decoded;
2. ``draft`` lets libjpeg decode a JPEG at 1/2, 1/4 or 1/8, no smaller than needed;
3. LANCZOS resizes from the draft's exact box;
4. orientation and colour come last, on the few pixels that are left.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import astuple, dataclass
from functools import lru_cache

from PIL import Image

from pipeline.core.errors import TooCostly
from tasks.images.colour import drop_opaque_alpha, is_srgb, to_srgb
from tasks.images.decode import FITS, Decoded, cut_to, decode
from tasks.images.formats import WRITTEN, Format, encode
from tasks.images.limits import Limits
from tasks.images.lossless import stripped
from tasks.images.resample import RESAMPLERS, halve_chroma, resample

__all__ = ["Limits", "Recipe", "Rendition", "render"]

#: Increase it whenever the same recipe would make visibly different pixels: stored renditions then count as outdated.
ALGORITHM = 2

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that determines the bytes of a rendition."""

    box: tuple[int, int]  # pixels, width x height
    format: str | None = None  # "JPEG", "WEBP", "AVIF"…; None: the source's if browsers show it
    quality: int | None = None  # 1 to 100; None: the default of the format
    effort: int | None = None  # 0 (fastest) to 9 (smallest); None: the default of the format
    resampler: str = "pillow"  # or "simd": the same filter with other rounding, so the digest leaves it out
    fit: str = "contain"  # the whole picture in the box; or "cover": its middle, in the box's shape

    def __post_init__(self) -> None:
        known = self.format in (None, *WRITTEN) and self.resampler in RESAMPLERS and self.fit in FITS
        if min(self.box) < 1 or not known:
            raise ValueError(f"no such recipe: {self}; formats are {', '.join(WRITTEN)}")

    @property
    def digest(self) -> str:
        """Short and stable: it changes when the same source would give a different rendition."""
        return _digest(self)


@lru_cache  # each task asks for several
def _digest(recipe: Recipe) -> str:
    defaults = [astuple(written) for written in WRITTEN.values()]
    facts = [ALGORITHM, recipe.box, recipe.format, recipe.quality, recipe.effort, defaults]
    if recipe.fit != "contain":  # digests from before "cover" existed leave it out
        facts.append(recipe.fit)
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Rendition:
    data: bytes
    width: int  # pixels of the rendition
    height: int
    content_type: str  # "image/jpeg"
    suffix: str  # to append to the key: "" if the format is the source's, else ".jpg", ".png"…
    source_width: int  # pixels of the original as displayed, after its EXIF orientation
    source_height: int
    source_format: str  # "JPEG"
    salvaged: str | None = None  # the damage of a file whose picture is complete


def render(data: bytes, recipe: Recipe, limits: Limits = Limits()) -> Rendition:  # noqa: B008 - frozen
    """Makes one rendition of an image file; of an animation or document it shows the first frame or page.

    ``data``: the whole file. Raises ``NotAnImage``, ``TruncatedImage``, ``DamagedImage``, ``UnsupportedImage``,
    ``ImageTooLarge`` or ``TooCostly``. Their messages do not name the object, which only the caller knows.
    """
    try:
        return _render(data, recipe, limits)
    except MemoryError as exc:
        raise TooCostly("The image takes more memory than there is for one.") from exc


def _render(data: bytes, recipe: Recipe, limits: Limits) -> Rendition:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about metadata, which renditions do not keep
        ycbcr = recipe.resampler == "pillow" and recipe.format in (None, "JPEG")  # a JPEG will be written as JPEG
        source = decode(data, recipe.box, limits, ycbcr=ycbcr, fit=recipe.fit)
        in_ycbcr = source.format == "JPEG" and source.image.mode == "YCbCr"
        resize = halve_chroma if in_ycbcr else RESAMPLERS[recipe.resampler]
        image = resample(source.image, source.target, source.box, levels=source.levels, resize=resize)
        if source.turn != 1:
            image = image.transpose(_TURNS[source.turn])
        if recipe.fit == "cover":
            image = cut_to(image, recipe.box)
        image = to_srgb(drop_opaque_alpha(image), source.profile)
        written, encoded = _encoded(source, image, recipe)
        if written.name == source.format and _is_untouched(source, image):
            kept = stripped(data, source.format)
            encoded = encoded if kept is None or len(kept) > len(encoded) else kept
    shown = source.size if source.turn < 5 else source.size[::-1]
    return Rendition(
        data=encoded,
        width=image.width,
        height=image.height,
        content_type=written.content_type,
        suffix="" if written.name == source.format else written.suffix,
        source_width=shown[0],
        source_height=shown[1],
        source_format=source.format,
        salvaged=source.salvaged,
    )


def _encoded(source: Decoded, image: Image.Image, recipe: Recipe) -> tuple[Format, bytes]:
    """Encodes in the recipe's format, or the source's. If browsers don't show the source's, takes the smaller of JPEG
    and PNG: drawings and faxes are smaller as PNG, and sharper."""
    indexed = source.image.mode in ("1", "P")
    choice = [recipe.format or source.format]
    if choice[0] not in WRITTEN:
        is_opaque = image.mode not in ("LA", "RGBA")
        choice = (["JPEG"] if is_opaque else []) + (["PNG"] if indexed or not is_opaque else [])
    made = [
        (WRITTEN[name], encode(image, WRITTEN[name], recipe.quality, recipe.effort, indexed=indexed)) for name in choice
    ]
    return min(made, key=lambda each: len(each[1]))


def _is_untouched(source: Decoded, image: Image.Image) -> bool:
    """Whether the rendition shows an undamaged upload unchanged: not resized, turned, cut or converted."""
    shown = source.target == source.size == image.size and source.turn == 1
    return shown and source.salvaged is None and is_srgb(source.image.mode, source.profile)

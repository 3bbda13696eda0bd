"""The formats that are written: those that browsers show, and how each is encoded."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True, slots=True)
class Format:
    """A format that browsers show. ``effort`` is 0 (fastest) to 9 (smallest)."""

    name: str
    content_type: str
    suffix: str
    quality: int | None  # 1 to 100 on the codec's own scale; None: the format has no such setting
    effort: int


#: The defaults are measured (benchmarks/results/images.md): each lossy format has the quality at which the luma
#: of a detailed photo comes as close to the original as at JPEG quality 85 (38 dB), and the least effort, since
#: more costs 2 to 10 times the time for 1 to 16 % of the bytes. PNG effort 3 is half the time of 6, with 6 %
#: more bytes on photos, and fewer on graphics.
WRITTEN = {
    "JPEG": Format("JPEG", "image/jpeg", ".jpg", quality=85, effort=0),
    "PNG": Format("PNG", "image/png", ".png", quality=None, effort=3),
    "WEBP": Format("WEBP", "image/webp", ".webp", quality=80, effort=0),
    "GIF": Format("GIF", "image/gif", ".gif", quality=None, effort=0),
    "AVIF": Format("AVIF", "image/avif", ".avif", quality=67, effort=0),
}


def encode(image: Image.Image, written: Format, quality: int | None = None, effort: int | None = None) -> bytes:
    """The encoded image, without any metadata. ``image`` is L, LA, RGB, RGBA or YCbCr, in sRGB."""
    quality = (written.quality or 0) if quality is None else quality
    effort = written.effort if effort is None else effort
    if image.mode == "YCbCr" and written.name != "JPEG":
        image = image.convert("RGB")
    image.info = {}  # Pillow writes some of what it finds here, such as the source's comment
    out = io.BytesIO()
    match written.name:
        case "JPEG":
            image = flatten(image)
            image.save(out, "JPEG", quality=quality, optimize=effort >= 5, progressive=effort >= 8)
        case "PNG":
            image.save(out, "PNG", compress_level=effort)
        case "WEBP":
            image.save(out, "WEBP", quality=quality, method=round(effort * 6 / 9))
        case "AVIF":
            image.save(out, "AVIF", quality=quality, speed=10 - effort, max_threads=1)
        case "GIF":
            palette_image(image).save(out, "GIF", optimize=False)
    return out.getvalue()


def flatten(image: Image.Image) -> Image.Image:
    """Without alpha: what is transparent becomes white, as on a web page."""
    if not image.mode.endswith("A"):
        return image
    flat = Image.new(image.mode[:-1], image.size, "white")
    flat.paste(image.convert(flat.mode), mask=image.getchannel("A"))
    return flat


def palette_image(image: Image.Image) -> Image.Image:
    """At most 256 colours, the last of them transparent where alpha is below one half.

    Median cut comes closest to the original by far, for ten times the time of an octree; few uploads are GIFs.
    """
    if image.mode == "L":
        return image
    if image.mode == "RGB":
        return image.quantize(256, Image.Quantize.MEDIANCUT)
    holes = image.getchannel("A").point([255] * 128 + [0] * 128)
    indexed = image.convert("RGB").quantize(255, Image.Quantize.MEDIANCUT)
    indexed.paste(255, mask=holes)
    indexed.info["transparency"] = 255
    return indexed

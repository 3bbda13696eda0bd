"""The formats of renditions, which browsers show, and how each is encoded."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image, ImageChops

#: Maximum colours in a palette, and maximum greys in one with 4 bits a pixel, half of what a grey picture has.
_FEW_COLOURS, _FEW_GREYS = 256, 16


@dataclass(frozen=True, slots=True)
class Format:
    """A format that browsers show. ``effort`` is 0 (fastest) to 9 (smallest)."""

    name: str
    content_type: str
    suffix: str
    quality: int | None  # 1 to 100 on the codec's own scale; None: the format has no such setting
    effort: int


#: The defaults are measured. JPEG 85 keeps 38 dB of a detailed photo's luma (benchmarks/results/images.md). WebP and
#: AVIF have the quality at which their SSIM equals that of sharp's defaults (python -m benchmarks.image_ssim): more is
#: not visible, and would cost half as many bytes again. The effort is the minimum, since more takes 2 to 10 times as
#: long and saves 1 to 16 % of the bytes. The exceptions: WebP's 3 takes half as long again and saves 12 %; PNG's 3
#: takes half the time of 6, with 6 % more bytes on photos, and fewer on graphics.
WRITTEN = {
    "JPEG": Format("JPEG", "image/jpeg", ".jpg", quality=85, effort=0),
    "PNG": Format("PNG", "image/png", ".png", quality=None, effort=3),
    "WEBP": Format("WEBP", "image/webp", ".webp", quality=81, effort=3),
    "GIF": Format("GIF", "image/gif", ".gif", quality=None, effort=0),
    "AVIF": Format("AVIF", "image/avif", ".avif", quality=55, effort=0),
}


def encode(
    image: Image.Image,
    written: Format,
    quality: int | None = None,
    effort: int | None = None,
    *,
    indexed: bool = False,
) -> bytes:
    """Encodes the image without any metadata. ``image``: in mode L, LA, RGB, RGBA or YCbCr, in sRGB.

    ``indexed``: the source had a palette or one bit a pixel, so a palette may make the file smaller; no pixel changes.
    """
    quality = (written.quality or 0) if quality is None else quality
    effort = written.effort if effort is None else effort
    if image.mode == "YCbCr" and written.name != "JPEG":
        image = image.convert("RGB")
    image.info = {}  # Pillow writes some of it, such as the source's comment
    out = io.BytesIO()
    match written.name:
        case "JPEG":
            image = flatten(image)
            image.save(out, "JPEG", quality=quality, optimize=effort >= 5, progressive=effort >= 8)
        case "PNG":
            image.save(out, "PNG", compress_level=effort)
            if indexed and (palette := exact_palette(image)) is not None:
                small = io.BytesIO()
                palette.save(small, "PNG", compress_level=effort)
                out = min(small, out, key=lambda each: len(each.getbuffer()))
        case "WEBP":
            image.save(out, "WEBP", quality=quality, method=round(effort * 6 / 9))
        case "AVIF":
            image.save(out, "AVIF", quality=quality, speed=10 - effort, max_threads=1)
        case "GIF":
            palette_image(image).save(out, "GIF", optimize=False)
    return out.getvalue()


def exact_palette(image: Image.Image) -> Image.Image | None:
    """The same picture with a palette, with as few bits a pixel as possible; None if it has too many colours."""
    most = {"L": _FEW_GREYS, "RGB": _FEW_COLOURS}.get(image.mode, 0)
    if most == 0 or image.getcolors(most) is None:
        return None
    if image.mode == "RGB":
        indexed = image.quantize(_FEW_COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        return None if ImageChops.difference(indexed.convert("RGB"), image).getbbox() else indexed
    greys = sorted(grey for grey, count in enumerate(image.histogram()) if count)
    numbers = [greys.index(grey) if grey in greys else 0 for grey in range(256)]
    indexed = image.point(numbers)
    indexed.putpalette([sample for grey in greys for sample in (grey, grey, grey)])
    return indexed


def flatten(image: Image.Image) -> Image.Image:
    """The image without alpha: transparent areas become white, as on a web page."""
    if not image.mode.endswith("A"):
        return image
    flat = Image.new(image.mode[:-1], image.size, "white")
    flat.paste(image.convert(flat.mode), mask=image.getchannel("A"))
    return flat


def palette_image(image: Image.Image) -> Image.Image:
    """The image in at most 256 colours. If it has alpha, the last colour is transparent, for alpha below one half.

    Median cut comes closest to the original by far. It takes ten times as long as an octree, but few uploads are GIFs.
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

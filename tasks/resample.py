"""To a smaller size: LANCZOS, on samples that can be averaged."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec

import PIL
from PIL import Image

Size = tuple[int, int]
Box = tuple[float, float, float, float]
Resize = Callable[[Image.Image, Size, Box | None], Image.Image]

#: Major versions of Pillow whose memory `cykooz-resizer` was checked to understand.
_SIMD_PILLOW = ("13",)

#: Rows that are converted at a time, so that a big picture never exists in two modes at once.
_STRIP_ROWS = 256


def pillow_resize(image: Image.Image, size: Size, box: Box | None) -> Image.Image:
    return image.resize(size, Image.Resampling.LANCZOS, box)


def simd_resize(image: Image.Image, size: Size, box: Box | None) -> Image.Image:
    """The same filter in SIMD instructions, from the optional package ``cykooz-resizer``.

    It works in Pillow's memory, whose layout is private to Pillow: see ``simd_problem``.
    """
    from cykooz_resizer import CropBox, FilterType, ResizeAlg, ResizeOptions, Resizer

    if image.mode not in ("L", "RGB", "RGBa", "CMYK"):
        return pillow_resize(image, size, box)
    left, top, right, bottom = (0, 0, *image.size) if box is None else box
    lanczos = ResizeAlg.convolution(FilterType.lanczos3)
    target = Image.new(image.mode, size)
    options = ResizeOptions(resize_alg=lanczos, crop_box=CropBox(left, top, right - left, bottom - top))
    Resizer().resize_pil(image, target, options)
    return target


def simd_problem() -> str | None:
    """Why ``simd_resize`` must not be used here, if so."""
    if find_spec("cykooz_resizer") is None:
        return "it needs the package cykooz-resizer, which is not installed here"
    if PIL.__version__.partition(".")[0] not in _SIMD_PILLOW:
        return f"it has not been checked with Pillow {PIL.__version__}, and could corrupt its memory"
    return None


RESAMPLERS: dict[str, Resize] = {"pillow": pillow_resize, "simd": simd_resize}


def resample(
    image: Image.Image,
    size: Size,
    box: Box | None = None,
    *,
    levels: tuple[int, int] = (0, 65535),
    resize: Resize = pillow_resize,
) -> Image.Image:
    """``box`` of the image at the given size, with 8 bits a sample: in its own mode where samples can be
    averaged as they are (L, RGB, CMYK…), else in L, LA, RGB or RGBA. Always a new image, never a file.

    - Palette indices and single bits become colours first: their averages mean nothing, so Pillow would
      take the nearest neighbour.
    - Alpha is multiplied in first and divided out last: the colour of transparent pixels must not show.
    - Of 16-bit samples, ``levels`` become black and white; Pillow's ``convert("L")`` would clip at 255.
    """
    mode, prepare = _preparation(image, levels)
    if image.size == size:
        small = prepare(image)
    elif mode == image.mode:
        small = resize(image, size, box)
    else:
        small = _in_strips(image, size, mode, prepare, resize)
    return small.convert({"La": "LA", "RGBa": "RGBA"}[small.mode]) if small.mode in ("La", "RGBa") else small


def _preparation(image: Image.Image, levels: tuple[int, int]) -> tuple[str, Callable[[Image.Image], Image.Image]]:
    """The mode to resize in, and how to get there."""
    key = image.info.get("transparency")
    match image.mode:
        case "P" | "PA":
            mode = "RGBa" if image.has_transparency_data else "RGB"
            return mode, lambda part: part.convert("RGBA" if mode == "RGBa" else mode).convert(mode)
        case "LA" | "RGBA":
            mode = image.mode[:-1] + "a"
            return mode, lambda part: part.convert(mode)
        case "1" | "L" | "RGB" if key is not None:  # one colour stands for transparency
            mode = "RGB" if image.mode == "RGB" else "L"
            return mode + "a", lambda part: part.convert(mode + "A").convert(mode + "a")
        case "1":
            return "L", lambda part: part.convert("L")
        case "I;16" | "I;16L" | "I;16B" | "I;16N":
            return "L" if key is None else "La", lambda part: _from_16_bits(part, levels, key)
    return image.mode, lambda part: part.copy()


def _in_strips(
    image: Image.Image, size: Size, mode: str, prepare: Callable[[Image.Image], Image.Image], resize: Resize
) -> Image.Image:
    """First the widths, strip by strip, then the heights: just what one resize does inside, so the pixels
    are the same, but only one strip at a time exists in the other mode."""
    narrow = Image.new(mode, (size[0], image.height))
    for top in range(0, image.height, _STRIP_ROWS):
        strip = prepare(image.crop((0, top, image.width, min(top + _STRIP_ROWS, image.height))))
        narrow.paste(resize(strip, (size[0], strip.height), None), (0, top))
    return resize(narrow, size, None)


def _from_16_bits(part: Image.Image, levels: tuple[int, int], key: int | None) -> Image.Image:
    wide = part.convert("I")
    grey = wide.point(_table(*levels), "L")
    if key is None:
        return grey
    opaque = wide.point([0 if sample == key else 255 for sample in range(65536)], "L")
    return Image.merge("LA", (grey, opaque)).convert("La")


@lru_cache(maxsize=4)
def _table(black: int, white: int) -> list[int]:
    span = white - black
    scaled = ((sample - black) * 255 / span for sample in range(65536))
    return [round(min(max(value, 0.0), 255.0)) for value in scaled]

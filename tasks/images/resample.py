"""Resizes pictures with LANCZOS, on samples that can be averaged."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec

import PIL
from PIL import Image

Size = tuple[int, int]
Box = tuple[float, float, float, float]
Resize = Callable[[Image.Image, Size, Box | None], Image.Image]

#: Major versions of Pillow whose memory layout `cykooz-resizer` was checked to understand.
_SIMD_PILLOW = ("13",)

#: Maximum difference of a sample from Pillow's: each of the two passes rounds, and LANCZOS may enlarge the first
#: rounding.
_SIMD_ROUNDING = 2

#: After averaging, chroma must still have this many times the wanted size, so that LANCZOS has enough to work on. That
#: costs 12 megapixels 0.05 dB, and saves a tenth of the resize's time; 1.0 would cost 0.1 dB.
_CHROMA_MARGIN = 1.25

#: Rows converted at a time, so that a big picture never exists in two modes at once.
_STRIP_ROWS = 256


def pillow_resize(image: Image.Image, size: Size, box: Box | None) -> Image.Image:
    return image.resize(size, Image.Resampling.LANCZOS, box)


def simd_resize(image: Image.Image, size: Size, box: Box | None) -> Image.Image:
    """Applies the same filter with SIMD instructions, from the optional package ``cykooz-resizer``.

    That package works in Pillow's memory, whose layout is private to Pillow: see ``simd_problem``.
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


def halve_chroma(image: Image.Image, size: Size, box: Box | None) -> Image.Image:
    """Resizes a YCbCr picture for a JPEG with 4:2:0 chroma.

    LANCZOS resizes the luma. Such a file keeps one sample of chroma for two by two pixels, so chroma is averaged first,
    and LANCZOS resizes it to half the size. From 2000x1500 to 1024x768 that takes 0.72 of the time that RGB takes. The
    JPEG loses less than 0.1 dB, on photos full of detail, 4:2:0 and 4:4:4, drafted or not (docs/images.md).
    """
    right, bottom = image.size if box is None else box[2:]  # a draft's box begins at (0, 0)
    half = max(1, size[0] // 2), max(1, size[1] // 2)
    # An odd last column or row is left out, so that every sample is where the encoder expects it.
    right_even, bottom_even = right * min(1, 2 * half[0] / size[0]), bottom * min(1, 2 * half[1] / size[1])
    factor = max(2, int(min(right_even / half[0], bottom_even / half[1]) / _CHROMA_MARGIN))
    _, *chroma = image.reduce(factor).split()
    part = (0, 0, right_even / factor, bottom_even / factor)
    halved = [_doubled(band.resize(half, Image.Resampling.LANCZOS, part), size) for band in chroma]
    luma = image.getchannel("Y").resize(size, Image.Resampling.LANCZOS, box)
    return Image.merge("YCbCr", (luma, *halved))


def _doubled(band: Image.Image, size: Size) -> Image.Image:
    """Repeats each sample two by two times; an odd last column or row repeats its neighbour."""
    even = 2 * band.width, 2 * band.height
    doubled = band.resize(even, Image.Resampling.NEAREST)
    if even == size:
        return doubled
    stretched = band.resize(size, Image.Resampling.NEAREST)
    stretched.paste(doubled, (0, 0))
    return stretched


def simd_problem() -> str | None:
    """The reason why ``simd_resize`` must not be used here, or None."""
    if find_spec("cykooz_resizer") is None:
        return "it needs the package cykooz-resizer, which is not installed here"
    if PIL.__version__.partition(".")[0] not in _SIMD_PILLOW:
        return f"it has not been checked with Pillow {PIL.__version__}, and could corrupt its memory"
    if not _simd_agrees():
        return f"with Pillow {PIL.__version__} it makes another picture than Pillow itself"
    return None


@lru_cache(maxsize=1)
def _simd_agrees() -> bool:
    """Whether both resamplers agree: if the layout was misread, this shows it at the start, not in someone's upload."""
    up, round_ = Image.linear_gradient("L"), Image.radial_gradient("L")
    inks = Image.merge("CMYK", (up, round_, up.transpose(Image.Transpose.ROTATE_90), up.point(lambda ink: ink // 2)))
    for mode in ("L", "RGB", "CMYK"):
        picture = inks.crop((10, 60, 107, 161)).convert(mode)
        simd, plain = (resize(picture, (31, 29), None).tobytes() for resize in (simd_resize, pillow_resize))
        if any(abs(ours - theirs) > _SIMD_ROUNDING for ours, theirs in zip(simd, plain, strict=True)):
            return False
    return True


RESAMPLERS: dict[str, Resize] = {"pillow": pillow_resize, "simd": simd_resize}


def resample(
    image: Image.Image,
    size: Size,
    box: Box | None = None,
    *,
    levels: tuple[int, int] = (0, 65535),
    resize: Resize = pillow_resize,
) -> Image.Image:
    """Resizes ``box`` of the image to the given size, with 8 bits a sample. Always returns a new image, never a file.

    The image keeps its mode if its samples can be averaged directly (L, RGB, CMYK…), else becomes L, LA, RGB or RGBA:

    - Palette indices and single bits become colours first: their averages mean nothing, so Pillow would
      take the nearest neighbour.
    - Colours are multiplied by alpha first and divided last, so that the colour of transparent pixels does not show.
    - ``levels`` are the 16-bit samples that become black and white; Pillow's ``convert("L")`` would clip at 255.
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
        case "1" | "L" | "RGB" if key is not None:  # one colour means transparency
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
    """Resizes the widths strip by strip, then the heights, so that only one strip at a time exists in the other mode. A
    single resize works in the same two passes, so the pixels are the same."""
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

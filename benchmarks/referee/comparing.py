"""Compares two pictures: do they look the same at the size of a thumbnail?"""

from __future__ import annotations

from PIL import Image, ImageChops, ImageStat

from tasks.images.decode import fit

BOX = (192, 192)
#: The largest mean difference of samples that is invisible: other chroma upsampling, other rounding, another filter.
SAME_MEAN = 6.0
#: The same for the worst part of the picture, a square; and the pixels of its side.
SAME_PART, PART_SIDE = 48.0, 16
#: The longest side that a judge returns; for a longer picture, the judge has rounded the size once already.
JUDGED_SIDE = 1024
#: The colour behind transparent pixels: white would hide that they are transparent.
_BEHIND = (255, 0, 255, 255)


def compared(ours: Image.Image, theirs: Image.Image, mean: float = SAME_MEAN, part: float = SAME_PART) -> str | None:
    """The difference between a rendition and a judge's picture, both RGBA, in words; None if they look the same.

    ``mean`` and ``part``: the largest differences that count as the same, of 255.
    """
    size = fit(theirs.size, BOX)
    rounded_twice = max(theirs.size) >= JUDGED_SIDE and min(theirs.size) < 64
    if max(abs(a - b) for a, b in zip(size, ours.size, strict=True)) > 1 + rounded_twice:
        return f"{ours.width}x{ours.height} here, {size[0]}x{size[1]} there"
    return _difference(ours, theirs.resize(ours.size, Image.Resampling.LANCZOS), mean, part)


def alike(one: Image.Image, other: Image.Image) -> bool:
    """Whether two judges show the same picture."""
    size = fit(one.size, BOX)
    if fit(other.size, BOX) != size:
        return False
    return _difference(small(one), small(other), SAME_MEAN, SAME_PART) is None


def small(picture: Image.Image) -> Image.Image:
    return picture.resize(fit(picture.size, BOX), Image.Resampling.LANCZOS)


def _difference(one: Image.Image, other: Image.Image, most_mean: float, most_part: float) -> str | None:
    a, b = (Image.alpha_composite(Image.new("RGBA", i.size, _BEHIND), i).convert("RGB") for i in (one, other))
    difference = ImageChops.difference(a, b)
    mean = max(ImageStat.Stat(difference).mean)
    parts = max(1, a.width // PART_SIDE), max(1, a.height // PART_SIDE)
    part = max(high for _, high in difference.resize(parts, Image.Resampling.BOX).getextrema())  # type: ignore[misc]
    return None if mean <= most_mean and part <= most_part else f"{mean:.1f} off, {part} in one part"

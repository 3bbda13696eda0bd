"""The limits that are checked before an image is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pipeline.core.errors import ImageTooLarge
from pipeline.core.settings import Settings

#: How many times each pixel counts towards ``max_pixels``: the memory that decoding needs, as measured
#: (benchmarks/results/images.md), in units of the 4 bytes that Pillow needs for an RGB pixel. WebP and AVIF need
#: several copies of a picture at once; HEIF needs two, with 16 bits a sample if it has more than 8. libjpeg keeps all
#: coefficients of a progressive JPEG (up to 8 bytes a pixel), whatever the draft; a drafted baseline JPEG needs almost
#: no memory, but time. ``tasks.images.tiff`` computes the weight of TIFFs.
WEIGHTS = {
    "WEBP": 4.0,
    "AVIF": 3.0,
    "HEIF": 2.0,
    "HEIF of more than 8 bits": 3.05,  # so that the 32.7 megapixels of a Sony or Canon take 500 MB
    "progressive JPEG": 2.0,
    "JPEG without end": 2.0,
    "drafted JPEG": 0.5,
    "GIF with a margin": 2.0,
    "BMP of runs": 2.5,
    "BMP with odd masks": 1.25,
}

#: JPEG and GIF can't have longer sides. Others can, but a single column of a hundred million pixels needs six times the
#: memory of a square with as many pixels, and half a minute.
MAX_SIDE = 65_535


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits, which never change a rendition's bytes. Each check raises ``ImageTooLarge``."""

    max_pixels: int = 100_000_000
    max_bytes: int = 100_000_000
    max_frames: int = 2_000
    max_memory_mb: int = 800  # the last two apply in the child process (tasks.images.apart)
    max_cpu_s: int = 60

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(
            settings.max_pixels,
            settings.max_bytes,
            settings.max_frames,
            settings.max_memory_mb,
            settings.max_cpu_s if settings.max_cpu_s is not None else max(1, settings.soft_time_limit_s // 2),
        )

    def check_bytes(self, size: int) -> None:
        """Call this before downloading, if the size is known."""
        if size > self.max_bytes:
            raise ImageTooLarge(f"The file has {size:,} bytes; the limit MAX_BYTES is {self.max_bytes:,}.")

    def check_pixels(self, size: tuple[int, int], kind: str, weight: float | None = None) -> None:
        """``size``: in pixels. ``kind``: a format, or a key of ``WEIGHTS``; any name if ``weight`` is given."""
        width, height = size
        weight = WEIGHTS.get(kind, 1.0) if weight is None else weight
        counted = int(width * height * weight)
        if counted > self.max_pixels:
            count = "" if weight == 1 else f", which count {weight:g} times as {kind} for their memory: {counted:,}"
            raise ImageTooLarge(
                f"The image has {width}x{height} = {width * height:,} pixels{count}; "
                f"the limit MAX_PIXELS is {self.max_pixels:,}."
            )
        if max(size) > MAX_SIDE:
            raise ImageTooLarge(
                f"The image has {width}x{height} pixels; the limit of a side is {MAX_SIDE:,}, and fixed.",
                advice="Upload a smaller version, or several parts.",
            )

    def too_many_frames(self, name: str) -> ImageTooLarge:
        return ImageTooLarge(
            f"The {name} file has more than {self.max_frames:,} frames, the limit MAX_FRAMES; "
            "only the first would be shown."
        )

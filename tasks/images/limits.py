"""What is refused before it is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pipeline.core.errors import ImageTooLarge
from pipeline.core.settings import Settings

#: What a pixel counts against ``max_pixels``, in units of the 4 bytes that Pillow needs for one RGB pixel:
#: the memory that decoding was measured to take (benchmarks/results/images.md). WebP and AVIF hold a picture
#: in several forms at once, HEIF in two; the plugin of TIFF turns all of a picture that must be turned. Of a
#: progressive JPEG all coefficients are kept (up to 8 bytes a pixel), whatever the draft; a JPEG that is
#: drafted takes next to nothing, but it takes its time.
WEIGHTS = {"WEBP": 4.0, "AVIF": 3.0, "HEIF": 2.0, "turned TIFF": 2.0, "progressive JPEG": 2.0, "drafted JPEG": 0.5}


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits do not change the bytes of a rendition. Each check raises ``ImageTooLarge``."""

    max_pixels: int = 100_000_000
    max_bytes: int = 100_000_000
    max_frames: int = 2_000

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(settings.max_pixels, settings.max_bytes, settings.max_frames)

    def check_bytes(self, size: int) -> None:
        """Who knows the size beforehand can save the download."""
        if size > self.max_bytes:
            raise ImageTooLarge(f"The file has {size:,} bytes; the limit MAX_BYTES is {self.max_bytes:,}.")

    def check_pixels(self, size: tuple[int, int], kind: str) -> None:
        """``kind`` is a format, or one of ``WEIGHTS``."""
        width, height = size
        weight = WEIGHTS.get(kind, 1.0)
        counted = int(width * height * weight)
        if counted > self.max_pixels:
            count = "" if weight == 1 else f", which count {weight:g} times as {kind} for their memory: {counted:,}"
            raise ImageTooLarge(
                f"The image has {width}x{height} = {width * height:,} pixels{count}; "
                f"the limit MAX_PIXELS is {self.max_pixels:,}."
            )

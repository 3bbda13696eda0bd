"""Finds what Pillow does not report about a GIF: the number of frames, and the first one's place and completeness."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True, slots=True)
class GifLayout:
    canvas: tuple[int, int]
    first: tuple[int, int, int, int] | None  # left, top, right and bottom of the first frame
    complete: bool  # the first frame's data ends where it says
    more_frames: bool  # whether there are more frames than the limit

    @property
    def fills_canvas(self) -> bool:
        return self.first is None or (self.first[:2] <= (0, 0) and self.first[2:] >= self.canvas)


def read_layout(data: bytes, max_frames: int) -> GifLayout:
    """Reads the blocks up to the limit of frames: a small file can claim to have millions."""
    canvas, first, frames, complete = (0, 0), None, 0, False
    try:
        canvas = struct.unpack_from("<HH", data, 6)
        at = 13 + _table_bytes(data[10])
        while frames <= max_frames:
            block = data[at]
            if block == 0x2C:  # an image: its descriptor, a colour table, one byte of code size, data
                frames += 1
                if first is None:
                    left, top, width, height = struct.unpack_from("<HHHH", data, at + 1)
                    first = (left, top, left + width, top + height)
                at += 11 + _table_bytes(data[at + 9])
            elif block == 0x21:  # an extension
                at += 2
            else:
                return GifLayout(canvas, first, complete, False)  # the trailer, or junk
            while data[at]:
                at += 1 + data[at]
            at += 1
            complete = complete or (frames > 0 and at <= len(data))
    except (IndexError, struct.error):
        return GifLayout(canvas, first, complete, False)
    return GifLayout(canvas, first, complete, True)


def on_canvas(image: Image.Image, layout: GifLayout) -> Image.Image:
    """The first frame at its place on a transparent canvas, as in browsers; Pillow fills the rest with a colour."""
    if layout.first is None or layout.fills_canvas:
        return image
    box = (*layout.first[:2], min(layout.first[2], image.width), min(layout.first[3], image.height))
    shown = Image.new("RGBA", image.size)
    shown.paste(image.crop(box).convert("RGBA"), box[:2])
    return shown


def _table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0

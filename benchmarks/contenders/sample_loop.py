"""The loop with the sample's image step: ``Image.thumbnail`` for both renditions, quality 100, and only one decode.

With current versions of Pillow that decodes a 12 MP photo in full: ``thumbnail`` lets libjpeg decode at a smaller scale
only if the result still has twice the wanted size, and a turned photo is always decoded in full before it is turned.
"""

from __future__ import annotations

import io

from PIL import Image, ImageOps

from benchmarks.contenders.loop import run


def make_both(data: bytes) -> tuple[bytes, bytes]:
    with Image.open(io.BytesIO(data)) as image:
        ImageOps.exif_transpose(image, in_place=True)
        image.thumbnail((1024, 768), Image.Resampling.LANCZOS)
        resized = io.BytesIO()
        image.save(resized, "JPEG", quality=100)
        image.thumbnail((192, 192), Image.Resampling.LANCZOS)
        thumb = io.BytesIO()
        image.save(thumb, "JPEG")
    return resized.getvalue(), thumb.getvalue()


if __name__ == "__main__":
    run(make_both)

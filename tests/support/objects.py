"""What the objects of a modelled run may hold, and what is to be stored of them when everything is quiet."""

from __future__ import annotations

import io
from functools import cache

from PIL import Image

from pipeline.images.names import RESIZED_PREFIX, THUMBS_PREFIX
from tasks.images.render import Recipe, render
from tests.support import own_route


def picture(form: str, colour: int, mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    image = Image.new(mode, (5, 4), (colour, 0, 9, 99)[: len(mode)])
    image.save(out, form)
    return out.getvalue()


PICTURES = {
    "red": picture("PNG", 10),
    "bright": picture("PNG", 200),
    "bitmap": picture("BMP", 60),
    "scan": picture("TIFF", 10),
    "clear scan": picture("TIFF", 10, "RGBA"),
    "other clear scan": picture("TIFF", 90, "RGBA"),
    "webp": picture("WEBP", 5),
    "text": b"no picture",
    "note": b"no scan",
    "half": picture("PNG", 77)[:45],
    "nul": b"\0",
}
#: Keys, and what may be uploaded under each. A scan's renditions are named after what is in it.
CONTENTS = {
    "a.png": ["red", "bright", "bitmap", "text", "half"],
    "b/c.tif": ["scan", "clear scan", "other clear scan", "webp", "note", "half"],
    "d.own": ["text", "note", "nul"],  # two tasks of a user's own
}


ENDINGS = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}


@cache
def expected(key: str, data: bytes) -> dict[str, tuple[bytes, str]] | None:
    """Bytes and content type by the name of what is made of it; None for what is bad."""
    if key.endswith(".own"):
        if b"\0" in data:
            return None
        return {
            own_route.UPPER.name(key): (own_route.upper(data), own_route.UPPER.content_type),
            own_route.LENGTH.name(key): (own_route.length(data), own_route.LENGTH.content_type),
        }
    if data in (PICTURES["text"], PICTURES["note"], PICTURES["half"]):
        return None
    resized = render(data, Recipe((1024, 768)))
    thumb = render(resized.data, Recipe((192, 192)))
    name = key + (ENDINGS[resized.content_type] if key.endswith(".tif") else "")
    return {
        RESIZED_PREFIX + name: (resized.data, resized.content_type),
        THUMBS_PREFIX + name: (thumb.data, resized.content_type),
    }

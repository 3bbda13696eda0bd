"""Where an object's renditions are: the one place that knows these names.

A name follows from the object's key, and from the settings; only where an upload is in a format that browsers
don't show does it follow from what is in the picture too. So two versions of one object write to the same key
in almost every case, where the store's conditional writes keep them in order.
"""

from __future__ import annotations

from dataclasses import dataclass

RESIZED_PREFIX = "resized/"
THUMBS_PREFIX = "thumbs/"

#: Endings of the formats that are written, the usual one first (tests compare with tasks.images.formats).
ENDINGS = {
    "image/jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "image/png": (".png",),
    "image/webp": (".webp",),
    "image/avif": (".avif",),
    "image/gif": (".gif",),
}
#: Endings of formats that browsers don't show; their renditions have another format, and its ending.
NOT_SHOWN = (".tif", ".tiff", ".bmp", ".heic", ".heif", ".hif")
#: Everything that a rendition's name may have behind the object's key, whatever the settings are or were.
SUFFIXES = ("", *(endings[0] for endings in ENDINGS.values()))


@dataclass(frozen=True, slots=True)
class FormatEndings:
    """What a rendition's name has behind the object's key. ``form``: the format that it is to have ("webp"); None:
    that of the object where browsers show it."""

    form: str | None = None

    @property
    def ever(self) -> tuple[str, ...]:
        return SUFFIXES

    def of(self, key: str, content_type: str) -> str:
        """Of a rendition of the given type."""
        if self.form is not None:
            forced = ENDINGS[f"image/{self.form}"]
            return "" if key.lower().endswith(forced) else forced[0]
        return ENDINGS[content_type][0] if key.lower().endswith(NOT_SHOWN) else ""

    def of_key(self, key: str) -> tuple[str, ...]:
        """All that ``of`` may answer for this key, the most likely first: one, or for some formats five."""
        if self.form is None and key.lower().endswith(NOT_SHOWN):
            return SUFFIXES[1:]
        return (self.of(key, "image/jpeg"),)

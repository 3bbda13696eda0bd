"""The names of an object's renditions; no other module knows them.

A name follows from the object's key and the settings. Only for uploads in a format that browsers don't show does it
depend on the picture too. So two versions of one object almost always write to the same key, where the store's
conditional writes keep them in order.
"""

from __future__ import annotations

from dataclasses import dataclass

RESIZED_PREFIX = "resized/"
THUMBS_PREFIX = "thumbs/"

#: Endings of the formats of renditions, the usual one first (a test compares them with tasks.images.formats).
ENDINGS = {
    "image/jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "image/png": (".png",),
    "image/webp": (".webp",),
    "image/avif": (".avif",),
    "image/gif": (".gif",),
}
#: Endings of formats that browsers don't show; their renditions have another format and ending.
NOT_SHOWN = (".tif", ".tiff", ".bmp", ".heic", ".heif", ".hif")
#: All endings that a rendition's name may have after the object's key, by any settings.
SUFFIXES = ("", *(endings[0] for endings in ENDINGS.values()))


@dataclass(frozen=True, slots=True)
class FormatEndings:
    """The ending of a rendition's name after the object's key. ``form``: the rendition's format ("webp"); None: the
    object's, if browsers show it."""

    form: str | None = None

    @property
    def ever(self) -> tuple[str, ...]:
        return SUFFIXES

    def of(self, key: str, content_type: str) -> str:
        """The ending for a rendition of this content type."""
        if self.form is not None:
            forced = ENDINGS[f"image/{self.form}"]
            return "" if key.lower().endswith(forced) else forced[0]
        return ENDINGS[content_type][0] if key.lower().endswith(NOT_SHOWN) else ""

    def of_key(self, key: str) -> tuple[str, ...]:
        """All endings that ``of`` may return for this key, the likeliest first: one, or five for some formats."""
        if self.form is None and key.lower().endswith(NOT_SHOWN):
            return SUFFIXES[1:]
        return (self.of(key, "image/jpeg"),)

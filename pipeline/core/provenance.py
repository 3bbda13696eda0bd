"""A rendition's provenance: which version of which object it was made from, and how.

The metadata of each object that the pipeline writes records it, failure records included, so no database is needed to
tell whether a rendition is current.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from pipeline.core.names import spelled_key
from pipeline.core.source import Source

_HEX = re.compile("[0-9A-Fa-f]+")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Unknown fields are None: another program may have written the object."""

    bucket: str | None = None
    etag: str | None = None
    version_id: str | None = None
    sequencer: str | None = None
    modified: str | None = None  # ISO 8601: when that version was uploaded
    recipe: str | None = None
    key_suffix: str = ""  # what the rendition's name adds to the object's key
    key: str | None = None  # of the object; only if the rendition's name doesn't contain it (pipeline.core.names)

    @classmethod
    def of(cls, source: Source, *, modified: str | None = None, recipe: str | None = None, suffix: str = "") -> Self:
        return cls(source.bucket, source.etag, source.version_id, source.sequencer, modified, recipe, suffix)

    @classmethod
    def read(cls, metadata: Mapping[str, str] | None) -> Self:
        known = {} if metadata is None else metadata
        return cls(
            bucket=known.get("source-bucket"),
            etag=known.get("source-etag"),
            version_id=known.get("source-version"),
            sequencer=known.get("source-sequencer"),
            modified=known.get("source-modified"),
            recipe=known.get("recipe"),
            key_suffix=known.get("key-suffix", ""),
            key=spelled_key(known.get("source-key")),
        )

    def metadata(self) -> dict[str, str]:
        """The metadata to store, without unknown and empty values, since some stores drop empty ones."""
        named = {
            "source-bucket": self.bucket,
            "source-etag": self.etag,
            "source-version": self.version_id,
            "source-sequencer": self.sequencer,
            "source-modified": self.modified,
            "recipe": self.recipe,
            "key-suffix": self.key_suffix,
        }
        return {name: value for name, value in named.items() if value}

    @property
    def is_rendition(self) -> bool:
        """Whether an object with this metadata is a rendition, wherever it is now."""
        return self.recipe is not None and self.etag is not None

    def is_of(self, bucket: str) -> bool:
        """Whether the original may be in this bucket."""
        return self.bucket in (None, bucket)

    def is_for(self, bucket: str, suffix: str) -> bool:
        """Whether what is stored at an object's key plus ``suffix`` is that object's rendition, and not another's.

        ``a.tiff`` and ``a.tiff.jpg`` both claim the name ``a.tiff.jpg``. Without metadata it counts as the rendition of
        the object that has exactly this name.
        """
        return self.key_suffix == suffix and self.is_of(bucket)

    def is_older(self, source: Source) -> bool:
        """Whether ``source`` is certainly a later version of the same object."""
        return _position(self.sequencer, source.sequencer) < _position(source.sequencer, self.sequencer)


def _position(sequencer: str | None, other: str | None) -> int:
    """An event's position in the order of its key's events; 0 if the two can't be compared.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html: hexadecimal,
    the shorter one is padded with zeros on the right.
    """
    if sequencer is None or other is None or not _HEX.fullmatch(sequencer) or not _HEX.fullmatch(other):
        return 0
    return int(sequencer.ljust(len(other), "0"), 16)

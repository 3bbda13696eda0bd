"""The outputs of an object: where they are stored, what they are made from, and by which recipe."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from pipeline.core.names import key_metadata, stored_name
from pipeline.core.provenance import Provenance

#: A name's ending: of ``a/b.tar.gz`` it is ``.gz``; ``a/.hidden`` has none.
_ENDING = re.compile(r"(?<=[^/])\.[^./]*\Z")


@dataclass(frozen=True, slots=True)
class Step:
    """One task of a chain, with keyword arguments if the task has several uses."""

    task: str
    arguments: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        given = ", ".join(value for _, value in self.arguments)
        return f"{self.task}({given})" if given else self.task


class Endings(Protocol):
    """The suffixes of an output's names, if they depend on the key or on the output's content."""

    @property
    def ever(self) -> tuple[str, ...]:
        """All possible suffixes, for any settings."""

    def of_key(self, key: str) -> tuple[str, ...]:
        """The possible suffixes for this key with the current settings, the likeliest first."""


@dataclass(frozen=True, slots=True)
class StoredName:
    """A name that an output of an object may have."""

    name: str
    suffix: str  # what it adds to the object's key, or to the key without its ending
    key: str
    tells_key: bool = True  # otherwise several objects may claim it, so the metadata must name the object

    def holds(self, made: Provenance, bucket: str) -> bool:
        """Whether an output with this provenance belongs to this object. ``bucket``: the object's."""
        return made.is_for(bucket, self.suffix) and (self.tells_key or made.key == self.key)

    def metadata(self) -> dict[str, str]:
        """The metadata to store with the output, so that it identifies its object."""
        return key_metadata(self.name, self.key, always=not self.tells_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """An output of a task, stored in the output bucket under a name derived from the object's key.

    ``a/b.txt`` becomes ``<folder>a/b.txt``; with ``append_suffix=".json"`` it is ``<folder>a/b.txt.json``, with
    ``replace_suffix=".json"`` ``<folder>a/b.json``. (``pipeline.core.names`` shortens names that are too long for S3.)
    If two objects claim the same name, the second one fails, and its failure record says so.
    """

    folder: str  # ends with a slash: "pages/"
    append_suffix: str = ""  # ".png", or nothing
    replace_suffix: str | None = None  # ".png", instead of the key's own ending
    endings: Endings | None = None  # instead of both: see ``pipeline.images``
    content_type: str = "application/octet-stream"
    #: Change it when the same object would give a different output: stored outputs are then outdated. With
    #: ``made_from`` the recipe begins with that output's recipe and a dot. A function, if it takes time to compute.
    recipe: str | Callable[[], str] = "1"
    made_from: str | None = None  # the folder of the output that it is usually made from; None: the object

    def names(self, key: str, *, ever: bool = False) -> tuple[StoredName, ...]:
        """All names that it may have, the likeliest first; ``ever``: with any settings."""
        return tuple(self.stored(key, suffix) for suffix in (self.suffixes if ever else self._suffixes_of(key)))

    def name(self, key: str) -> str:
        """The likeliest name."""
        return self.names(key)[0].name

    def stored(self, key: str, suffix: str) -> StoredName:
        """The name with this suffix, one of ``names``."""
        return StoredName(stored_name(self.folder, self.stem(key), suffix), suffix, key, self.replace_suffix is None)

    def stem(self, key: str) -> str:
        """The part of the key that is in the name."""
        return key if self.replace_suffix is None else _ENDING.sub("", key)

    def below(self, prefix: str) -> Output:
        """The same output below a folder of the output bucket, OUTPUT_PREFIX."""
        parent = None if self.made_from is None else prefix + self.made_from
        return replace(self, folder=prefix + self.folder, made_from=parent)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """All suffixes that a name may have, with any settings."""
        return self._own_suffix if self.endings is None else self.endings.ever

    @property
    def current_recipe(self) -> str:
        """The recipe of outputs that are made now."""
        return self.recipe if isinstance(self.recipe, str) else self.recipe()

    @property
    def _own_suffix(self) -> tuple[str, ...]:
        return (self.append_suffix if self.replace_suffix is None else self.replace_suffix,)

    def _suffixes_of(self, key: str) -> tuple[str, ...]:
        return self._own_suffix if self.endings is None else self.endings.of_key(key)

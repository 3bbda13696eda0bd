"""What is made of an object: where it is stored, what it is made from, and by which recipe."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from pipeline.core.names import key_metadata, stored_name
from pipeline.core.provenance import Provenance

#: The ending of a name that has something before it: of ``a/b.tar.gz`` it is ``.gz``, of ``a/.hidden`` there is none.
_ENDING = re.compile(r"(?<=[^/])\.[^./]*\Z")


@dataclass(frozen=True, slots=True)
class Step:
    """One task of a chain, with keyword arguments where one task has several uses."""

    task: str
    arguments: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        given = ", ".join(value for _, value in self.arguments)
        return f"{self.task}({given})" if given else self.task


class Endings(Protocol):
    """What a name has behind the object's key, where that depends on the key, and perhaps on what is made."""

    @property
    def ever(self) -> tuple[str, ...]:
        """All that there may be, whatever the settings are or were."""

    def of_key(self, key: str) -> tuple[str, ...]:
        """All that there may be for this key now, the likeliest first."""


@dataclass(frozen=True, slots=True)
class StoredName:
    """One name that an output of an object may have, and what tells whether what lies there is that output."""

    name: str
    suffix: str  # what it has behind the object's key, or behind the key without its ending
    key: str
    tells_key: bool = True  # otherwise several objects may want it, so its metadata has to name the object

    def holds(self, made: Provenance, bucket: str) -> bool:
        """Whether what says this of itself is of this object. ``bucket``: the object's."""
        return made.is_for(bucket, self.suffix) and (self.tells_key or made.key == self.key)

    def metadata(self) -> dict[str, str]:
        """What is to be stored with it, so that it can be told of which object it is."""
        return key_metadata(self.name, self.key, always=not self.tells_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a task makes of an object, stored in the output bucket under a name that follows from the object's key.

    ``a/b.txt`` becomes ``<folder>a/b.txt``; with ``append_suffix=".json"`` it is ``<folder>a/b.txt.json``, with
    ``replace_suffix=".json"`` ``<folder>a/b.json``. (Where that is too long for S3, a shorter one: see
    ``pipeline.core.names``.) Of two objects that want one name, the second fails with a record that says so.
    """

    folder: str  # ends with a slash: "pages/"
    append_suffix: str = ""  # ".png", or nothing
    replace_suffix: str | None = None  # ".png", in the place of the key's own ending
    endings: Endings | None = None  # where neither of them says it: see ``pipeline.images``
    content_type: str = "application/octet-stream"
    #: Raise it when the same object would give something else: what is stored is then out of date. What has
    #: ``made_from`` has that output's recipe and a dot before its own. A function where it takes time to tell.
    recipe: str | Callable[[], str] = "1"
    made_from: str | None = None  # the folder of the output that it is usually made from; None: from the object

    def names(self, key: str, *, ever: bool = False) -> tuple[StoredName, ...]:
        """All names that it may have, the likeliest first; ``ever``: also by other settings than these."""
        return tuple(self.stored(key, suffix) for suffix in (self.suffixes if ever else self._suffixes_of(key)))

    def name(self, key: str) -> str:
        """The likeliest name."""
        return self.names(key)[0].name

    def stored(self, key: str, suffix: str) -> StoredName:
        """The name with this suffix, which is one of those of ``names``."""
        return StoredName(stored_name(self.folder, self.stem(key), suffix), suffix, key, self.replace_suffix is None)

    def stem(self, key: str) -> str:
        """What of the key is in the name."""
        return key if self.replace_suffix is None else _ENDING.sub("", key)

    def below(self, prefix: str) -> Output:
        """The same in a folder of the output bucket: OUTPUT_PREFIX."""
        parent = None if self.made_from is None else prefix + self.made_from
        return replace(self, folder=prefix + self.folder, made_from=parent)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """All that a name may have behind the stem, whatever the settings are or were."""
        return self._own_suffix if self.endings is None else self.endings.ever

    @property
    def current_recipe(self) -> str:
        """What is made now says that it was made by this one."""
        return self.recipe if isinstance(self.recipe, str) else self.recipe()

    @property
    def _own_suffix(self) -> tuple[str, ...]:
        return (self.append_suffix if self.replace_suffix is None else self.replace_suffix,)

    def _suffixes_of(self, key: str) -> tuple[str, ...]:
        return self._own_suffix if self.endings is None else self.endings.of_key(key)

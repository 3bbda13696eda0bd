"""Listings side by side: the originals, both kinds of renditions, the failure records, and other routes' outputs.

Each is read page by page in the order of its keys, and only what belongs to the keys at hand is held in memory: what
is held are objects whose key is the beginning of the key that is being read. So a million objects need no more
memory than a hundred.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.core.names import FAILED_SUFFIX
from pipeline.core.routes import Output
from pipeline.images.names import SUFFIXES
from pipeline.s3.storage import Found

#: Sorts behind everything that may follow an object's key in the name of what belongs to it.
_END = "."
_LAST = "~"


@dataclass(slots=True)
class MergedEntry:
    """All that is stored of one object, or of one that is gone. Renditions by what follows the key in their name."""

    key: str
    source: Found | None = None
    record: Found | None = None
    resized: dict[str, Found] = field(default_factory=dict)
    thumbs: dict[str, Found] = field(default_factory=dict)
    others: dict[str, Found] = field(default_factory=dict)  # outputs of other routes than the images', by folder
    ambiguous: bool = False  # another object may own some of these renditions: their names end alike


def merge(
    sources: Iterable[Found],
    resized: Iterable[Found],
    thumbs: Iterable[Found],
    records: Iterable[Found],
    others: Sequence[tuple[Output, Iterable[Found]]] = (),
) -> Iterator[MergedEntry]:
    """Each object once, about in the order of the keys; renditions without an original too.

    The listings' keys are relative, in order: without prefixes, but with the suffixes of renditions and records.
    """
    listings = [sources, resized, thumbs, records, *(listing for _, listing in others)]
    streams = [_labelled(listing, kind) for kind, listing in enumerate(listings)]
    table = _Table([output for output, _ in others])
    for name, kind, found in heapq.merge(*streams, key=lambda item: item[0]):
        yield from table.before(name)
        table.add(name, kind, found)
    yield from table.before(None)


def _labelled(listing: Iterable[Found], kind: int) -> Iterator[tuple[str, int, Found]]:
    return ((found.key, kind, found) for found in listing)


def _limit(key: str) -> str:
    """No name of anything that belongs to this key sorts behind it."""
    return key + _END + _LAST


def _candidates(name: str) -> list[str]:
    """The keys whose renditions may have this name."""
    return [name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)]


class _Table:
    """What has been read and is not complete yet."""

    def __init__(self, others: Sequence[Output]) -> None:
        self._others = others
        self._objects: dict[str, MergedEntry] = {}
        self._renditions: tuple[dict[str, Found], dict[str, Found]] = ({}, {})
        self._claimed: set[str] = set()  # names of renditions
        self._due: list[tuple[str, int, str]] = []  # heap: limit, 0 for an object or 1 for a rendition, key or name

    def add(self, name: str, kind: int, found: Found) -> None:
        if kind in (1, 2):
            self._renditions[kind - 1][name] = found
            heapq.heappush(self._due, (max(map(_limit, _candidates(name))), 1, name))
            return
        other = self._others[kind - 4] if kind >= 4 else None
        key = name if kind == 0 else name.removesuffix(FAILED_SUFFIX if other is None else other.append_suffix)
        if key not in self._objects:
            self._objects[key] = MergedEntry(key)
            heapq.heappush(self._due, (_limit(key), 0, key))
        if kind == 0:
            self._objects[key].source = found
        elif other is None:
            self._objects[key].record = found
        else:
            self._objects[key].others[other.folder] = found

    def before(self, name: str | None) -> Iterator[MergedEntry]:
        """What can't be added to any more once this name has been read; None: everything."""
        while self._due and (name is None or self._due[0][0] < name):
            _, kind, due = heapq.heappop(self._due)
            if kind == 0:
                yield self._object(due)
            else:
                yield from self._unclaimed(due)

    def _object(self, key: str) -> MergedEntry:
        done = self._objects.pop(key)
        if done.source is None:
            return done
        for suffix in SUFFIXES:
            name = key + suffix
            for renditions, mine in zip(self._renditions, (done.resized, done.thumbs), strict=True):
                if name in renditions:
                    mine[suffix] = renditions[name]
                    others = [self._objects.get(other) for other in _candidates(name) if other != key]
                    done.ambiguous |= name in self._claimed or any(other and other.source for other in others)
            if suffix in done.resized or suffix in done.thumbs:
                self._claimed.add(name)
        return done

    def _unclaimed(self, name: str) -> Iterator[MergedEntry]:
        resized, thumb = (renditions.pop(name, None) for renditions in self._renditions)
        if name in self._claimed:
            self._claimed.discard(name)
        elif resized is not None or thumb is not None:
            found = MergedEntry(name)
            if resized is not None:
                found.resized[""] = resized
            if thumb is not None:
                found.thumbs[""] = thumb
            yield found

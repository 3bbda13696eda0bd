"""Merges the listings: the originals, the failure records, and the objects of each output.

Each listing is read page by page, in key order. Memory holds only the objects whose key is a prefix of the current key,
so a million objects need no more memory than a hundred.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.core.names import FAILED_SUFFIX
from pipeline.core.outputs import Output
from pipeline.s3.storage import Found

#: Sorts after everything that may follow an object's key in an output's name: a dot and an ending.
_LAST = ".\U0010ffff"


@dataclass(slots=True)
class StoredOutput:
    """A listed object with a name that an output may have."""

    output: Output
    suffix: str  # what the name adds to the object's key
    found: Found  # its key is relative to the output's folder

    @property
    def name(self) -> str:
        return self.output.folder + self.found.key


@dataclass(slots=True)
class MergedEntry:
    """Everything that is listed for one object; or, if there is no object, under one name."""

    key: str
    source: Found | None = None
    record: Found | None = None
    stored: list[StoredOutput] = field(default_factory=list)
    ambiguous: bool = False  # another object may own some of it: both claim the same name


def merge(
    sources: Iterable[Found], records: Iterable[Found], outputs: Sequence[tuple[Output, Iterable[Found]]]
) -> Iterator[MergedEntry]:
    """Each object once, approximately in key order, and outputs without an object.

    The listings' keys are sorted, without folders, but with the suffixes of outputs and records.
    """
    table = _Table([output for output, _ in outputs])
    listings = [sources, records, *(listing for _, listing in outputs)]
    streams = [_labelled(listing, kind) for kind, listing in enumerate(listings)]
    for name, kind, found in heapq.merge(*streams, key=lambda item: item[0]):
        yield from table.before(name)
        table.add(name, kind, found)
    yield from table.before(None)


def _labelled(listing: Iterable[Found], kind: int) -> Iterator[tuple[str, int, Found]]:
    return ((found.key, kind, found) for found in listing)


class _Table:
    """Entries that are not complete yet."""

    def __init__(self, outputs: Sequence[Output]) -> None:
        self._outputs = outputs
        self._objects: dict[str, MergedEntry] = {}
        #: The objects of each output, by name without the folder.
        self._stored: list[dict[str, Found]] = [{} for _ in outputs]
        self._claimed: list[set[str]] = [set() for _ in outputs]  # names that belong to an object
        #: Heap: limit, 0 for an object or 1 for an output, key or name.
        self._due: list[tuple[str, int, str]] = []
        self._by_stem = any(output.replace_suffix is not None for output in outputs)

    def add(self, name: str, kind: int, found: Found) -> None:
        if kind >= 2:
            output = self._outputs[kind - 2]
            self._stored[kind - 2][name] = found
            heapq.heappush(self._due, (self._limit_of(output, name), 1, name))
            return
        key = name if kind == 0 else name.removesuffix(FAILED_SUFFIX)
        if key not in self._objects:
            self._objects[key] = MergedEntry(key)
            heapq.heappush(self._due, (self._limit(key), 0, key))
        if kind == 0:
            self._objects[key].source = found
        else:
            self._objects[key].record = found

    def before(self, name: str | None) -> Iterator[MergedEntry]:
        """The entries that are complete once this name has been read; None: all."""
        while self._due and (name is None or self._due[0][0] < name):
            limit, kind, due = heapq.heappop(self._due)
            if kind == 0:
                yield self._object(due)
            else:
                yield from self._unclaimed(due, limit)

    def _limit(self, key: str) -> str:
        """The upper bound of all names that belong to this key."""
        stems = {key, *(output.stem(key) for output in self._outputs)} if self._by_stem else {key}
        return max(stem + _LAST for stem in stems)

    def _limit_of(self, output: Output, name: str) -> str:
        """The upper bound of all names of the objects that may own this name."""
        return max(self._limit(stem) for stem in _stems(output, name))

    def _object(self, key: str) -> MergedEntry:
        done = self._objects.pop(key)
        if done.source is None:
            return done
        for output, stored, claimed in zip(self._outputs, self._stored, self._claimed, strict=True):
            stem = output.stem(key)
            for suffix in output.suffixes:
                found = stored.get(stem + suffix)
                if found is not None:
                    done.stored.append(StoredOutput(output, suffix, found))
                    done.ambiguous = done.ambiguous or found.key in claimed or self._is_wanted(output, found.key, key)
                    claimed.add(found.key)
        return done

    def _is_wanted(self, output: Output, name: str, key: str) -> bool:
        """Whether another incomplete object claims this name."""
        if output.replace_suffix is not None:
            stem = output.stem(key)
            return any(each.source and output.stem(each.key) == stem for each in self._objects.values())
        others = (self._objects.get(other) for other in _stems(output, name) if other != key)
        return any(other is not None and other.source is not None for other in others)

    def _unclaimed(self, name: str, limit: str) -> Iterator[MergedEntry]:
        """The outputs with this name and limit that belong to no object."""
        orphan = MergedEntry(name)
        for output, stored, claimed in zip(self._outputs, self._stored, self._claimed, strict=True):
            if name not in stored or self._limit_of(output, name) != limit:
                continue
            found = stored.pop(name)
            if name in claimed:
                claimed.discard(name)
            else:
                orphan.stored.append(StoredOutput(output, "", found))
        if orphan.stored:
            yield orphan


def _stems(output: Output, name: str) -> list[str]:
    """What the name may contain of its object's key: the key itself, or the key without its ending."""
    return [name.removesuffix(suffix) for suffix in output.suffixes if name.endswith(suffix)] or [name]

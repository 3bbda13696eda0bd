"""What a listing's entries mean: done, failed, missing, stale, orphaned. Looks at single objects only where in doubt.

There is no doubt about an object whose renditions were both written after it, the thumbnail after the other one,
at a time of which the recipe is known (``Eras``), with no failure record, and nothing else under its names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from pipeline import storage
from pipeline.audit.eras import Eras
from pipeline.audit.joined import Joined
from pipeline.config import Settings
from pipeline.source import Source
from pipeline.storage import Found
from tasks.keys import RESIZED_PREFIX, THUMBS_PREFIX, failure_key, suffixes
from tasks.provenance import Provenance, Recipes


class Status(Enum):
    DONE = "done"
    FAILED = "failed"  # a failure record of the current version says why
    MISSING = "missing"  # no renditions of it, or only one of the two
    STALE = "stale"  # renditions of an earlier version, or by another recipe
    ORPHANED = "orphaned"  # renditions or a record of an object that does not exist
    LEFTOVER = "leftover"  # renditions or a record beside those that count
    SKIPPED = "skipped"  # not selected, or itself a rendition


@dataclass(frozen=True, slots=True)
class Finding:
    """One object, its status, and the reason where there are several. ``source`` is what a repair would name."""

    status: Status
    source: Source
    reason: str = ""


@dataclass(slots=True)
class Facts:
    """What an object's renditions and its record say of themselves."""

    source: Found
    record: Provenance | None = None
    reason: str = ""  # of the record
    pairs: dict[str, tuple[Provenance | None, Provenance | None]] = field(default_factory=dict)  # by suffix
    strangers: list[str] = field(default_factory=list)  # names of renditions of objects that don't exist


def verdicts(facts: Facts, named: Source, names: tuple[str, ...], recipes: Recipes) -> list[Finding]:
    """The status of the object, and what lies beside what counts. ``names``: what its renditions may be called."""
    etag = facts.source.etag
    whole = {name: (big, small) for name in names for big, small in [facts.pairs.get(name, (None, None))]}
    made = [each for pair in facts.pairs.values() for each in pair if each is not None]
    current = [
        (name, big.recipe == recipes.resized and small.recipe == recipes.thumb)
        for name, (big, small) in whole.items()
        if big is not None and small is not None and big.etag == small.etag == etag
    ]
    if current:
        _, up_to_date = current[0]
        status = Finding(Status.DONE, named) if up_to_date else Finding(Status.STALE, named, "made by another recipe")
        beside = len(facts.pairs) > 1 or facts.record is not None
    elif facts.record is not None and facts.record.etag in (None, etag):
        status = Finding(Status.FAILED, named, facts.reason)
        beside = any(each.etag != etag for each in made)
    else:
        # What lies beside is removed when the object is done.
        beside = False
        if any(big is not None and small is not None for big, small in whole.values()):
            status = Finding(Status.STALE, named, "the object is newer")
        else:
            status = Finding(Status.MISSING, named, "one of its renditions" if made else "")
    strangers = [Finding(Status.ORPHANED, Source(named.bucket, name)) for name in facts.strangers]
    return [status, *([Finding(Status.LEFTOVER, named)] if beside else []), *strangers]


class Judge:
    """``quickly`` answers from the listing alone, or None; ``carefully`` looks. The latter may run in threads."""

    def __init__(
        self, settings: Settings, input_bucket: str, on_request: Callable[[str], None], *, full: bool = False
    ) -> None:
        self._settings = settings
        self._input = input_bucket
        self._output = settings.required("output_bucket")
        self._recipes = Recipes.from_settings(settings)
        self._on_request = on_request
        self._full = full
        self._eras = Eras()

    def quickly(self, entry: Joined) -> Finding | None:
        source = entry.source
        if self._full or source is None or entry.record is not None or entry.rivals:
            return None
        names = entry.resized.keys() | entry.thumbs.keys()
        if len(names) != 1 or not names <= set(suffixes(entry.key, self._settings)):
            return None
        (name,) = names
        resized, thumb = entry.resized.get(name), entry.thumbs.get(name)
        if resized is None or thumb is None or not source.modified < resized.modified <= thumb.modified:
            return None
        return Finding(Status.DONE, self._named(source)) if self._eras.is_up_to_date(thumb.modified) else None

    def carefully(self, entry: Joined) -> list[Finding]:
        """Raises ``TransientError``."""
        if entry.source is None:
            return [Finding(Status.ORPHANED, self._original(entry))]
        named = self._named(entry.source)
        found = verdicts(self._facts(entry, entry.source), named, suffixes(entry.key, self._settings), self._recipes)
        if found[0].status is Status.MISSING:
            now = self._look(self._input, entry.key)
            if now is not None and Provenance.read(now.metadata).is_rendition:
                return [Finding(Status.SKIPPED, named, "it is itself a rendition"), *found[1:]]
        return found

    def _named(self, source: Found) -> Source:
        return Source(self._input, source.key, etag=source.etag, size=source.size)

    def _look(self, bucket: str, key: str) -> Found | None:
        self._on_request("HeadObject")
        return storage.head(bucket, key)

    def _facts(self, entry: Joined, source: Found) -> Facts:
        facts = Facts(source)
        if entry.record is not None and (record := self._look(self._output, failure_key(entry.key))) is not None:
            facts.record = Provenance.read(record.metadata)
            facts.reason = (record.metadata or {}).get("reason", "unknown")
        for suffix in dict.fromkeys([*entry.resized, *entry.thumbs]):
            pair = self._pair(entry, suffix)
            if all(made is None or made.is_for(self._input, suffix) for made in pair):
                facts.pairs[suffix] = pair
            elif not entry.rivals:
                facts.strangers.append(entry.key + suffix)
        return facts

    def _pair(self, entry: Joined, suffix: str) -> tuple[Provenance | None, Provenance | None]:
        """Both renditions of that name. A thumbnail speaks for the rendition that it was made from, too."""
        name = entry.key + suffix
        resized = entry.resized.get(suffix)
        small = self._look(self._output, THUMBS_PREFIX + name) if suffix in entry.thumbs else None
        made = None if small is None else Provenance.read(small.metadata)
        if small is not None and made is not None and made.recipe is not None:
            self._eras.learn(small.modified, made.recipe == self._recipes.thumb)
            if resized is not None and (small.metadata or {}).get("made-from") == resized.etag:
                big = Provenance(made.bucket, made.etag, key_suffix=made.key_suffix, recipe=resized_recipe(made.recipe))
                return big, made
        found = self._look(self._output, RESIZED_PREFIX + name) if resized is not None else None
        return None if found is None else Provenance.read(found.metadata), made

    def _original(self, entry: Joined) -> Source:
        """Of what an orphan was made: its name may have gained a suffix."""
        if entry.record is not None:
            return Source(self._input, entry.key)
        found = self._look(self._output, (RESIZED_PREFIX if entry.resized else THUMBS_PREFIX) + entry.key)
        suffix = Provenance.read(None if found is None else found.metadata).key_suffix
        return Source(self._input, entry.key.removesuffix(suffix) or entry.key)


def resized_recipe(recipe: str) -> str:
    """The first part of a thumbnail's recipe: see ``Recipes``."""
    return recipe.partition(".")[0]

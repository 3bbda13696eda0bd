"""Classifies objects as done, failed, missing, stale or orphaned; reads metadata only where the listing is not enough.

The listing is enough for an object whose outputs were all written after it, each after its parent, at a time whose
recipe is known (``RecipeTimeline``), without a failure record and without anything else under its names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from pipeline.core.names import failure_key, may_be_shortened
from pipeline.core.outputs import Output
from pipeline.core.provenance import Provenance
from pipeline.core.routes import Route, Routes
from pipeline.core.source import Source
from pipeline.operations.audit.merge import MergedEntry
from pipeline.operations.audit.recipe_history import RecipeTimeline
from pipeline.s3 import storage
from pipeline.s3.storage import Found


class Status(Enum):
    DONE = "done"
    FAILED = "failed"  # a failure record of the current version says why
    MISSING = "missing"  # some or all outputs of its route are missing
    STALE = "stale"  # of an earlier version, or by another recipe
    ORPHANED = "orphaned"  # renditions or a record of an object that does not exist
    LEFTOVER = "leftover"  # renditions or a record beside the current ones
    SKIPPED = "skipped"  # no route takes it
    UNREADABLE = "unreadable"  # it or its outputs could not be read


@dataclass(frozen=True, slots=True)
class Finding:
    """One object, its status, and the reason if there are several. ``source``: the object that a repair enqueues."""

    status: Status
    source: Source
    reason: str = ""


@dataclass(slots=True)
class Facts:
    """The metadata of an object's outputs and of its record."""

    source: Found
    record: Provenance | None = None
    reason: str = ""  # of the record
    made: dict[str, Provenance] = field(default_factory=dict)  # by key
    orphans: list[str] = field(default_factory=list)  # names of renditions of objects that don't exist


def wanted(route: Route, key: str, recipes: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """What a complete object on this route has: for each output's folder its possible names, with the recipe."""
    return {
        output.folder: {each.name: recipes[output.folder] for each in output.names(key)} for output in route.outputs
    }


def classify(facts: Facts, named: Source, outputs: Mapping[str, Mapping[str, str]]) -> list[Finding]:
    """The object's status, and findings about anything else that is stored. ``outputs``: see ``wanted``."""
    etag = facts.source.etag
    current = [
        [name for name in names if name in facts.made and facts.made[name].etag == etag] for names in outputs.values()
    ]
    if all(current):
        # Of several names, prefer the one made by the current recipe.
        pairs = [
            (names, sorted(found, key=lambda name: facts.made[name].recipe != names[name])[0])
            for names, found in zip(outputs.values(), current, strict=True)
        ]
        outdated = [name for names, name in pairs if facts.made[name].recipe != names[name]]
        status = Finding(Status.STALE, named, "made by another recipe") if outdated else Finding(Status.DONE, named)
        beside = facts.made.keys() > {name for _, name in pairs} or facts.record is not None
    elif facts.record is not None and facts.record.etag in (None, etag):
        status = Finding(Status.FAILED, named, facts.reason)
        beside = any(each.etag != etag for each in facts.made.values())
    else:
        # Processing the object removes the rest.
        beside = False
        lacking = [folder for folder, names in outputs.items() if not facts.made.keys() & names.keys()]
        if not lacking:
            status = Finding(Status.STALE, named, "the object is newer")
        else:
            partly = f"only a part of it: no {', '.join(lacking)}"
            status = Finding(Status.MISSING, named, partly if facts.made else "")
    orphans = [Finding(Status.ORPHANED, Source(named.bucket, key)) for key in facts.orphans]
    return [status, *([Finding(Status.LEFTOVER, named)] if beside else []), *orphans]


class Classifier:
    """``from_listing`` uses only the listing, and may return None; ``with_head`` reads metadata, and is thread-safe."""

    def __init__(
        self, routes: Routes, input_bucket: str, on_request: Callable[[str], None], *, full: bool = False
    ) -> None:
        self._routes = routes
        self._input = input_bucket
        self._output = routes.settings.required("output_bucket")
        self._recipes = routes.recipes()
        #: An output made from one of these records both recipes, so its metadata answers for both.
        self._spoken_for = {output.made_from for output in routes.outputs} - {None}
        self._on_request = on_request
        #: With several input buckets, an output's name does not show which bucket's object it belongs to.
        self._is_shared = len(routes.settings.input_buckets) > 1
        self._full = full or self._is_shared
        self._timelines: defaultdict[str, RecipeTimeline] = defaultdict(RecipeTimeline)  # by the output's folder

    def from_listing(self, entry: MergedEntry, route: Route | None) -> Finding | None:
        """``route``: the object's; None if there is no object."""
        source = entry.source
        if (
            self._full
            or source is None
            or route is None
            or entry.record is not None
            or entry.ambiguous
            or _is_hidden(entry)
        ):
            return None
        if len(entry.stored) != len(route.outputs):
            return None
        listed = {each.name: each.found.modified for each in entry.stored}
        times: dict[str, datetime] = {}
        for output in route.outputs:
            time = next((listed[each.name] for each in output.names(entry.key) if each.name in listed), None)
            # Written in the second of the upload, or before its parent, it may be of another version.
            if time is None or time <= source.modified or (output.made_from and time < times[output.made_from]):
                return None
            if output.folder not in self._spoken_for and not self._timelines[output.folder].is_up_to_date(time):
                return None
            times[output.folder] = time
        return Finding(Status.DONE, self._named(source))

    def with_head(self, entry: MergedEntry, route: Route | None) -> list[Finding]:
        """Raises ``TransientError``."""
        if entry.source is None or route is None:
            if self._is_shared and not self._is_ours(entry):
                return []
            return [Finding(Status.ORPHANED, self._original(entry))]
        named = self._named(entry.source)
        facts = self._facts_by_name(entry.source) if _is_hidden(entry) else self._facts(entry, entry.source)
        return classify(facts, named, wanted(route, entry.key, self._recipes))

    def hidden(self, name: str) -> Source | None:
        """The deleted object of an output with a shortened name; None if the object exists, or is of another bucket.

        Raises ``TransientError``.
        """
        found = self._look(self._output, name)
        made = Provenance.read(None if found is None else found.metadata)
        if made.key is None or not made.is_of(self._input) or self._look(self._input, made.key) is not None:
            return None
        return Source(self._input, made.key)

    def _facts_by_name(self, source: Found) -> Facts:
        """For an object with shortened names: the listings don't show which ones belong to it."""
        facts = Facts(source)
        self._add_record(facts)
        for name in self._routes.stored_names(source.key, ever=True):
            found = self._look(self._output, name.name)
            made = Provenance.read(None if found is None else found.metadata)
            if found is not None and name.holds(made, self._input):
                facts.made[found.key] = made
        return facts

    def _is_ours(self, entry: MergedEntry) -> bool:
        """Whether something that is stored under this key is of this bucket's object."""
        names = [each.name for each in entry.stored]
        if entry.record is not None:
            names.append(failure_key(entry.key, self._routes.settings.output_prefix))
        found = (self._look(self._output, name) for name in names)
        return any(each is not None and Provenance.read(each.metadata).is_of(self._input) for each in found)

    def _add_record(self, facts: Facts) -> None:
        record = self._look(self._output, failure_key(facts.source.key, self._routes.settings.output_prefix))
        made = Provenance.read(None if record is None else record.metadata)
        if record is not None and made.is_of(self._input):
            facts.record = made
            facts.reason = (record.metadata or {}).get("reason", "unknown")

    def _named(self, source: Found) -> Source:
        return Source(self._input, source.key, etag=source.etag, size=source.size)

    def _look(self, bucket: str, key: str) -> Found | None:
        self._on_request("HeadObject")
        return storage.head(bucket, key)

    def _facts(self, entry: MergedEntry, source: Found) -> Facts:
        facts = Facts(source)
        if entry.record is not None:
            self._add_record(facts)
        spoken_for: dict[str, Provenance] = {}  # by what is made from it; by name
        # The last first: an output answers for its parent, too.
        for each in sorted(entry.stored, key=lambda each: -self._routes.outputs.index(each.output)):
            made = spoken_for.get(each.name)
            if made is None:
                found = self._look(self._output, each.name)
                if found is None:
                    continue
                made = Provenance.read(found.metadata)
                if each.output.stored(entry.key, each.suffix).holds(made, self._input):
                    spoken_for |= self._parent(entry, each.output, found, made)
                if made.recipe is not None:
                    is_current = made.recipe == self._recipes[each.output.folder]
                    self._timelines[each.output.folder].learn(found.modified, is_current)
            if each.output.stored(entry.key, each.suffix).holds(made, self._input):
                facts.made[each.name] = made
            elif not entry.ambiguous and made.is_of(self._input):
                facts.orphans.append(_key_of(each.found.key, made))
        return facts

    def _parent(self, entry: MergedEntry, output: Output, found: Found, made: Provenance) -> dict[str, Provenance]:
        """The provenance of an output's parent, by the output's metadata, if the parent still exists."""
        etag = (found.metadata or {}).get("made-from")
        if etag is None or made.recipe is None:
            return {}
        recipe = made.recipe.rpartition(".")[0]
        parents = (each for each in entry.stored if each.output.folder == output.made_from and each.found.etag == etag)
        return {
            each.name: Provenance(made.bucket, made.etag, key_suffix=each.suffix, recipe=recipe) for each in parents
        }

    def _original(self, entry: MergedEntry) -> Source:
        """The object that an orphan was made from: its name may have gained a suffix."""
        if entry.record is not None:
            return Source(self._input, entry.key)
        first = entry.stored[0]
        suffixes = first.output.suffixes
        if len(suffixes) == 1 and first.output.replace_suffix is None:
            return Source(self._input, entry.key.removesuffix(suffixes[0]) or entry.key)
        found = self._look(self._output, first.name)
        return Source(self._input, _key_of(entry.key, Provenance.read(None if found is None else found.metadata)))


def _key_of(name: str, made: Provenance) -> str:
    """The key of the object that a stored name belongs to, by the metadata."""
    if made.key is not None:
        return made.key
    return name.removesuffix(made.key_suffix) or name


def _is_hidden(entry: MergedEntry) -> bool:
    """Whether the object may have outputs whose names don't contain its key."""
    return may_be_shortened(entry.key)

"""What a listing's entries mean: done, failed, missing, stale, orphaned. Looks at single objects only where in doubt.

There is no doubt about an object whose outputs were all written after it, the thumbnail after the other rendition,
at a time of which the recipe is known (``RecipeTimeline``), with no failure record, and nothing else under its names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from pipeline.core.names import failure_key, may_be_shortened
from pipeline.core.provenance import Provenance
from pipeline.core.routes import Output, Route, Routes
from pipeline.core.source import Source
from pipeline.images import ImageRoute
from pipeline.images.names import RESIZED_PREFIX, THUMBS_PREFIX
from pipeline.operations.audit.merge import MergedEntry
from pipeline.operations.audit.recipe_history import RecipeTimeline
from pipeline.s3 import storage
from pipeline.s3.storage import Found


class Status(Enum):
    DONE = "done"
    FAILED = "failed"  # a failure record of the current version says why
    MISSING = "missing"  # nothing of what its route leaves, or not all of it
    STALE = "stale"  # of an earlier version, or by another recipe
    ORPHANED = "orphaned"  # renditions or a record of an object that does not exist
    LEFTOVER = "leftover"  # renditions or a record beside those that count
    SKIPPED = "skipped"  # no route takes it
    UNREADABLE = "unreadable"  # it, or what is stored of it, could not be looked at


@dataclass(frozen=True, slots=True)
class Finding:
    """One object, its status, and the reason where there are several. ``source`` is what a repair would name."""

    status: Status
    source: Source
    reason: str = ""


@dataclass(slots=True)
class Facts:
    """What an object's outputs and its record say of themselves."""

    source: Found
    record: Provenance | None = None
    reason: str = ""  # of the record
    made: dict[str, Provenance] = field(default_factory=dict)  # by key
    orphans: list[str] = field(default_factory=list)  # names of renditions of objects that don't exist


def wanted(route: Route, key: str, routes: Routes, recipes: Mapping[str, str]) -> list[dict[str, str]]:
    """What an object on this route is done with: any one of these, whole; the recipe by the output's key."""
    return [
        {output.name(key): recipes[output.folder] for output in result}
        for result in route.output_sets(key, routes.settings)
    ]


def classify(facts: Facts, named: Source, results: Sequence[Mapping[str, str]]) -> list[Finding]:
    """The status of the object, and what lies beside what counts. ``results``: see ``wanted``."""
    etag = facts.source.etag
    whole = [result for result in results if result.keys() <= facts.made.keys()]
    current = [result for result in whole if all(facts.made[key].etag == etag for key in result)]
    if current:
        counts = current[0]
        up_to_date = all(facts.made[key].recipe == recipe for key, recipe in counts.items())
        status = Finding(Status.DONE, named) if up_to_date else Finding(Status.STALE, named, "made by another recipe")
        beside = facts.made.keys() > counts.keys() or facts.record is not None
    elif facts.record is not None and facts.record.etag in (None, etag):
        status = Finding(Status.FAILED, named, facts.reason)
        beside = any(each.etag != etag for each in facts.made.values())
    else:
        # What lies beside is removed when the object is done.
        beside = False
        if whole:
            status = Finding(Status.STALE, named, "the object is newer")
        else:
            status = Finding(Status.MISSING, named, "only a part of it" if facts.made else "")
    orphans = [Finding(Status.ORPHANED, Source(named.bucket, name)) for name in facts.orphans]
    return [status, *([Finding(Status.LEFTOVER, named)] if beside else []), *orphans]


def others(routes: Routes) -> list[Output]:
    """The outputs of all routes but the images'."""
    return [output for route in routes.all if not isinstance(route, ImageRoute) for output in route.outputs]


class Classifier:
    """``from_listing`` answers from the listing alone, or None; ``with_head`` looks. The latter may run in threads."""

    def __init__(
        self, routes: Routes, input_bucket: str, on_request: Callable[[str], None], *, full: bool = False
    ) -> None:
        self._routes = routes
        self._input = input_bucket
        self._output = routes.settings.required("output_bucket")
        self._resized, self._thumbs = (
            routes.settings.output_prefix + folder for folder in (RESIZED_PREFIX, THUMBS_PREFIX)
        )
        #: A thumbnail's recipe says by what recipe the rendition was made that it was made from.
        self._spoken_for = frozenset({self._resized})
        self._recipes = routes.recipes()
        self._others = {output.folder: output for output in others(routes)}
        self._on_request = on_request
        self._full = full
        self._timelines: defaultdict[str, RecipeTimeline] = defaultdict(RecipeTimeline)  # by the output's folder

    def from_listing(self, entry: MergedEntry, route: Route | None) -> Finding | None:
        """``route``: of the object; None where there is no object."""
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
        there = self._outputs(entry)
        for result in route.output_sets(entry.key, self._routes.settings):
            found = [there.get(output.name(entry.key)) for output in result]
            times = [each.modified for each in found if each is not None]
            if len(there) == len(result) == len(times) and source.modified < times[0] and times == sorted(times):
                known = zip(result, times, strict=True)
                if all(
                    o.folder in self._spoken_for or self._timelines[o.folder].is_up_to_date(time) for o, time in known
                ):
                    return Finding(Status.DONE, self._named(source))
        return None

    def with_head(self, entry: MergedEntry, route: Route | None) -> list[Finding]:
        """Raises ``TransientError``."""
        if entry.source is None or route is None:
            return [Finding(Status.ORPHANED, self._original(entry))]
        named = self._named(entry.source)
        results = wanted(route, entry.key, self._routes, self._recipes)
        facts = self._facts_by_name(entry.source) if _is_hidden(entry) else self._facts(entry, entry.source)
        return classify(facts, named, results)

    def hidden(self, name: str) -> Source | None:
        """The object of which something is stored under a shortened name; None where it exists, or is none of ours.

        Raises ``TransientError``.
        """
        found = self._look(self._output, name)
        made = Provenance.read(None if found is None else found.metadata)
        if made.key is None or not made.is_of(self._input) or self._look(self._input, made.key) is not None:
            return None
        return Source(self._input, made.key)

    def _facts_by_name(self, source: Found) -> Facts:
        """Of an object some of whose names are shortened, so that the listings don't tell which are its own."""
        facts = Facts(source)
        self._add_record(facts)
        for output in self._routes.outputs(source.key, ever=True):
            found = self._look(self._output, output.name(source.key))
            made = Provenance.read(None if found is None else found.metadata)
            if found is not None and made.is_for(self._input, output.append_suffix):
                facts.made[found.key] = made
        return facts

    def _add_record(self, facts: Facts) -> None:
        record = self._look(self._output, failure_key(facts.source.key, self._routes.settings.output_prefix))
        made = Provenance.read(None if record is None else record.metadata)
        if record is not None and made.is_of(self._input):
            facts.record = made
            facts.reason = (record.metadata or {}).get("reason", "unknown")

    def _outputs(self, entry: MergedEntry) -> dict[str, Found]:
        """All that is listed of an object, by key."""
        pairs = ((self._resized, entry.resized), (self._thumbs, entry.thumbs))
        images = {f"{folder}{entry.key}{suffix}": found for folder, by in pairs for suffix, found in by.items()}
        return images | {self._others[folder].name(entry.key): found for folder, found in entry.others.items()}

    def _named(self, source: Found) -> Source:
        return Source(self._input, source.key, etag=source.etag, size=source.size)

    def _look(self, bucket: str, key: str) -> Found | None:
        self._on_request("HeadObject")
        return storage.head(bucket, key)

    def _facts(self, entry: MergedEntry, source: Found) -> Facts:
        facts = Facts(source)
        if entry.record is not None:
            self._add_record(facts)
        for suffix in dict.fromkeys([*entry.resized, *entry.thumbs]):
            pair = zip((self._resized, self._thumbs), self._pair(entry, suffix), strict=True)
            made = {f"{folder}{entry.key}{suffix}": each for folder, each in pair if each is not None}
            if all(each.is_for(self._input, suffix) for each in made.values()):
                facts.made |= made
            elif not entry.ambiguous:
                facts.orphans.append(entry.key + suffix)
        for folder in entry.others:
            self._add_other(facts, self._others[folder])
        return facts

    def _add_other(self, facts: Facts, output: Output) -> None:
        found = self._look(self._output, output.name(facts.source.key))
        made = Provenance.read(None if found is None else found.metadata)
        if found is not None and made.is_for(self._input, output.append_suffix):
            facts.made[found.key] = made
            self._timelines[output.folder].learn(found.modified, made.recipe == self._recipes[output.folder])

    def _pair(self, entry: MergedEntry, suffix: str) -> tuple[Provenance | None, Provenance | None]:
        """Both renditions of that name. A thumbnail speaks for the rendition that it was made from, too."""
        name = entry.key + suffix
        resized = entry.resized.get(suffix)
        small = self._look(self._output, self._thumbs + name) if suffix in entry.thumbs else None
        made = None if small is None else Provenance.read(small.metadata)
        if small is not None and made is not None and made.recipe is not None:
            self._timelines[self._thumbs].learn(small.modified, made.recipe == self._recipes[self._thumbs])
            if resized is not None and (small.metadata or {}).get("made-from") == resized.etag:
                big = Provenance(made.bucket, made.etag, key_suffix=made.key_suffix, recipe=resized_recipe(made.recipe))
                return big, made
        found = self._look(self._output, self._resized + name) if resized is not None else None
        return None if found is None else Provenance.read(found.metadata), made

    def _original(self, entry: MergedEntry) -> Source:
        """Of what an orphan was made: its name may have gained a suffix."""
        if entry.record is not None or entry.others:
            return Source(self._input, entry.key)
        found = self._look(self._output, (self._resized if entry.resized else self._thumbs) + entry.key)
        suffix = Provenance.read(None if found is None else found.metadata).key_suffix
        return Source(self._input, entry.key.removesuffix(suffix) or entry.key)


def _is_hidden(entry: MergedEntry) -> bool:
    """Whether something may be stored of the object under a name that does not tell of which object it is."""
    return may_be_shortened(entry.key)


def resized_recipe(recipe: str) -> str:
    """The first part of a thumbnail's recipe: see ``Recipes``."""
    return recipe.partition(".")[0]

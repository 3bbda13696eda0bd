"""Surveys a bucket: counts the objects that would be processed, and tries a sample of them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from pipeline.core.errors import ObjectChanged, ObjectGone, PermanentError, PipelineError
from pipeline.core.routes import Routes
from pipeline.core.source import Source
from pipeline.operations.unreadable import Unreadable, unreadable
from pipeline.s3 import storage
from pipeline.s3.storage import Found
from tasks.rehearsal import REHEARSED, Rehearsed, rehearse


@dataclass(slots=True)
class Survey:
    """Counts of a listing. ``sample``: drawn uniformly from the objects that would be processed."""

    routes: Routes
    bucket: str
    size: int  # of the sample
    newer_than: datetime | None = None
    count: int = 0
    old: int = 0
    taken: Counter[str] = field(default_factory=Counter)  # by route
    taken_bytes: int = 0
    passed: Counter[str] = field(default_factory=Counter)  # by the reason
    sample: list[tuple[Source, str]] = field(default_factory=list)  # with the route's name
    unreadable: list[Unreadable] = field(default_factory=list)
    _random: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - a sample, no secret

    def run(self, listing: Iterable[Found], on_progress: Callable[[int], None] = lambda _: None) -> None:
        """Raises ``PipelineError``."""
        for found in listing:
            self.count += 1
            on_progress(self.count)
            if self.newer_than is not None and found.modified <= self.newer_than:
                self.old += 1
                continue
            source = Source(self.bucket, found.key, etag=found.etag, size=found.size)
            try:
                route = self.routes.match(source)
            except Exception as exc:  # whatever a rule for the content raises
                self.unreadable.append(unreadable(source, exc))
                continue
            if route is None:
                self.passed[_kind(self.routes.skip_reason(source), found.key)] += 1
                continue
            self.taken[route.name] += 1
            self.taken_bytes += found.size
            self._draw(source, route.name)

    def _draw(self, source: Source, route: str) -> None:
        """Reservoir sampling: the listing is read once, and its length is unknown."""
        if len(self.sample) < self.size:
            self.sample.append((source, route))
            return
        place = self._random.randrange(self.taken.total())
        if place < self.size:
            self.sample[place] = (source, route)


def _kind(reason: str | None, key: str) -> str:
    """Groups reasons by the key's ending instead of the object."""
    name = key.rsplit("/", 1)[-1]
    ending = f".{name.rsplit('.', 1)[-1].lower()}" if "." in name else "no ending"
    return f"no route takes it ({ending})" if reason is None or ending in reason.lower() else reason


@dataclass(frozen=True, slots=True)
class Tried:
    """One object of the sample. ``made`` is None if it would fail, or if its route can't be tried."""

    source: Source
    made: Rehearsed | None = None
    reason: str | None = None  # a fixed word, if it would fail
    message: str = ""


def tried(sample: Iterable[tuple[Source, str]], routes: Routes) -> Iterator[Tried]:
    """Reads each object and makes its renditions, without storing them. Raises ``PipelineError`` for a service."""
    for source, name in sample:
        route = routes.resolve(source, name)
        if not REHEARSED.issuperset(step.task for step in route.steps):
            yield Tried(source)  # a user's own task: it may have effects elsewhere
            continue
        try:
            data = storage.read(source, check_bytes=lambda _: None).data
            yield Tried(source, made=rehearse(data, routes.settings))
        except (ObjectGone, ObjectChanged):
            continue
        except PermanentError as exc:
            yield Tried(source, reason=exc.reason, message=f"{source.uri}: {exc} {exc.advice}")
        except PipelineError:
            raise
        except Exception as exc:  # a task would end with internal-error
            yield Tried(source, reason="internal-error", message=f"{source.uri}: {exc!r}")

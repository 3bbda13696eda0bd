"""The audit: streams the listings, counts the findings, and writes possible repairs to a temporary file."""

from __future__ import annotations

import json
import tempfile
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import IO

from pipeline.core.errors import REFUSED, PipelineError, TransientError
from pipeline.core.names import is_shortened
from pipeline.core.routes import Route, Routes
from pipeline.core.source import Source
from pipeline.operations.audit.classify import Classifier, Finding, Status
from pipeline.operations.audit.merge import MergedEntry, merge
from pipeline.operations.unreadable import unreadable
from pipeline.s3.listing import list_objects
from pipeline.s3.storage import Found

#: Number of recent orphans to remember: the outputs of a deleted object are found separately, but close together.
ORPHANS = 10_000
#: Objects that are checked in parallel; the first batches are smaller, since their results may answer for others.
MAX_BATCH = 64
THREADS = 16


class Repair(Enum):
    """How to repair a finding."""

    ENQUEUE = "enqueue"  # process the object like a new upload
    REMOVE = "remove"  # remove what should not be stored, by ``reconcile``


def repair_of(finding: Finding) -> Repair | None:
    """The repair of a finding. Failures for which the file may not be to blame are retried."""
    if finding.status in (Status.MISSING, Status.STALE):
        return Repair.ENQUEUE
    if finding.status is Status.FAILED and finding.reason in (TransientError.reason, REFUSED):
        return Repair.ENQUEUE
    return Repair.REMOVE if finding.status in (Status.ORPHANED, Status.LEFTOVER) else None


@dataclass(slots=True)
class AuditReport:
    """Counts by status, and by status and reason; example keys; the number of requests."""

    counts: Counter[Status] = field(default_factory=Counter)
    reasons: Counter[tuple[Status, str]] = field(default_factory=Counter)
    examples: dict[tuple[Status, str], list[str]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)  # of unreadable objects: the first message for each reason
    requests: Counter[str] = field(default_factory=Counter)
    repairs: Counter[Repair] = field(default_factory=Counter)

    @property
    def is_complete(self) -> bool:
        """Whether every upload is accounted for by its current version."""
        return not any(self.counts[status] for status in (Status.MISSING, Status.STALE, Status.UNREADABLE))

    def add(self, finding: Finding, most_examples: int) -> None:
        self.counts[finding.status] += 1
        self.reasons[finding.status, finding.reason] += 1
        if finding.status is not Status.DONE:
            examples = self.examples.setdefault((finding.status, finding.reason), [])
            if len(examples) < most_examples:
                examples.append(finding.source.key)


class Audit:
    """One run. ``prefix``: of keys in the input bucket; ``before``: only objects uploaded before this time."""

    def __init__(
        self,
        routes: Routes,
        bucket: str,
        prefix: str = "",
        *,
        full: bool = False,
        before: datetime | None = None,
        examples: int = 5,
    ) -> None:
        self.report = AuditReport()
        self._routes = routes
        self._bucket = bucket
        self._output = routes.settings.required("output_bucket")
        self._prefix = prefix
        self._before = before
        self._most_examples = examples
        self._lock = threading.Lock()
        self._classifier = Classifier(routes, bucket, self._count, full=full)
        self._cleanup = ExitStack()
        self._shortened: list[str] = []  # names that don't contain their object's key; very few

    def __enter__(self) -> Audit:
        opened = tempfile.TemporaryFile("w+", prefix="pipeline-audit-", encoding="utf-8")
        self._spool: IO[str] = self._cleanup.enter_context(opened)
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def run(self, on_progress: Callable[[int], None] = lambda _: None) -> AuditReport:
        """Raises ``PipelineError``. ``on_progress`` is called with the number of objects that are classified."""
        for classified, finding in enumerate(_once(self._findings()), 1):
            self.report.add(finding, self._most_examples)
            repair = repair_of(finding)
            if repair is not None:
                self.report.repairs[repair] += 1
                self._spool.write(json.dumps([repair.value, finding.source.to_json()]) + "\n")
            on_progress(classified)
        return self.report

    def repairs(self, wanted: Repair) -> Iterator[Source]:
        """The objects that need this repair, in the order of finding."""
        self._spool.seek(0)
        for line in self._spool:
            repair, source = json.loads(line)
            if repair == wanted.value:
                yield Source.parse(source)

    def _findings(self) -> Iterator[Finding]:
        doubtful: list[tuple[MergedEntry, Route | None]] = []
        size = 1
        with ThreadPoolExecutor(THREADS) as pool:
            for entry, route in self._entries():
                finding = self._classifier.from_listing(entry, route)
                if finding is not None:
                    yield finding
                    continue
                doubtful.append((entry, route))
                if len(doubtful) >= size:
                    for found in pool.map(self._look, *zip(*doubtful, strict=True)):
                        yield from found
                    doubtful, size = [], min(2 * size, MAX_BATCH)
            for entry, route in doubtful:
                yield from self._look(entry, route)
        yield from self._hidden_orphans()

    def _look(self, entry: MergedEntry, route: Route | None) -> list[Finding]:
        try:
            return self._classifier.with_head(entry, route)
        except PipelineError as exc:
            return [self._unreadable(Source(self._bucket, entry.key), exc)]

    def _unreadable(self, source: Source, exc: Exception) -> Finding:
        found = unreadable(source, exc)
        with self._lock:
            self.report.errors.setdefault(found.reason, found.message)
        return Finding(Status.UNREADABLE, source, found.reason)

    def _entries(self) -> Iterator[tuple[MergedEntry, Route | None]]:
        """The entries to classify, each with its object's route; None if there is no object."""
        outputs = [(output, self._listed(output.folder)) for output in self._routes.outputs]
        sources = list_objects(self._bucket, self._prefix, on_request=self._count)
        for entry in merge(sources, self._listed(self._routes.settings.failed_folder), outputs):
            found = entry.source
            if found is None:
                yield entry, None
                continue
            source = Source(self._bucket, found.key, etag=found.etag, size=found.size)
            try:
                route = self._routes.match(source)
                reason = "" if route is not None else str(self._routes.skip_reason(source))
            except Exception as exc:  # whatever a rule for the content raises
                self.report.add(self._unreadable(source, exc), self._most_examples)
                continue
            if route is None:
                self.report.add(Finding(Status.SKIPPED, source, reason), self._most_examples)
            elif self._before is None or found.modified < self._before:
                yield entry, route

    def _listed(self, folder: str) -> Iterator[Found]:
        """Lists a folder, with keys relative to it. Keeps shortened names for ``_hidden_orphans``."""
        for found in list_objects(self._output, folder + self._prefix, on_request=self._count):
            if is_shortened(found.key):
                self._shortened.append(found.key)
            else:
                yield replace(found, key=found.key.removeprefix(folder))

    def _hidden_orphans(self) -> Iterator[Finding]:
        """Deleted objects that have outputs with shortened names."""
        gone = {}
        for name in self._shortened:
            try:
                source = self._classifier.hidden(name)
                if source is not None and source.key.startswith(self._prefix):
                    gone[source] = Finding(Status.ORPHANED, source)
            except PipelineError as exc:
                yield self._unreadable(Source(self._output, name), exc)
        yield from gone.values()

    def _count(self, operation: str) -> None:
        with self._lock:
            self.report.requests[operation] += 1


def _once(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Removes repeated orphans."""
    seen: OrderedDict[Source, None] = OrderedDict()
    for finding in findings:
        if finding.status is Status.ORPHANED:
            if finding.source in seen:
                continue
            seen[finding.source] = None
            if len(seen) > ORPHANS:
                seen.popitem(last=False)
        yield finding

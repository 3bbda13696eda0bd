"""The local run: uploads files, collects their outputs, and accounts for every file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

from botocore.exceptions import ClientError

from pipeline.aws.batches import MAX_ENTRIES
from pipeline.aws.errors import describe_error
from pipeline.core.names import FAILED_PREFIX, failure_key
from pipeline.core.provenance import Provenance
from pipeline.core.routes import Routes
from pipeline.core.s3_event import EventKind, ObjectEvent, parse
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.local.buckets import Buckets
from pipeline.local.collector import Collector
from pipeline.local.files import File
from pipeline.local.results import FileResult, FileState, Gone
from pipeline.local.stack import INPUT_BUCKET, RESULTS_QUEUE, LocalStack
from pipeline.local.stuck import Stuck
from pipeline.local.waiting import Waiting
from pipeline.s3 import content

#: Maximum number of unfinished files: bounds the emulator's memory and its queues.
WINDOW = 48
#: Seconds between checks for stuck files.
STUCK_CHECK_S = 3.0

Item = TypeVar("Item")


class Run:
    """Uploads files to a running ``LocalStack``, and writes their outputs into a folder.

    ``keep``: objects stay in the buckets, and what other programs upload there is collected too.
    """

    def __init__(self, stack: LocalStack, out: Path, *, keep: bool) -> None:
        self._stack = stack
        self._keep = keep
        self._sqs = stack.emulator.client("sqs")
        self._buckets = Buckets(stack.emulator.client("s3"), out)
        self._collector = Collector(self._buckets)
        self._stuck = Stuck(self._sqs)
        self._results_url = self._sqs.get_queue_url(QueueName=RESULTS_QUEUE)["QueueUrl"]
        self._routes = self._load_routes()
        self._waiting: dict[str, Waiting] = {}  # by key
        self._uploaded: dict[str, str] = {}  # ETags by key; only with ``keep``
        self._checked_at = 0.0

    def _load_routes(self) -> Routes:
        return Routes.load(Settings.from_env(self._stack.environ()), content.look)

    def reload(self) -> None:
        """Reads the stack's settings again; they decide which outputs a file must have."""
        self._routes = self._load_routes()

    @property
    def unfinished(self) -> int:
        """Number of files that are uploaded and not finished."""
        return len(self._waiting)

    def process(self, files: Iterable[File]) -> Iterator[FileResult | Gone]:
        """Uploads files; yields each one's result when it is known. At most ``WINDOW`` files are in flight.

        Raises ``PipelineError`` when a process of the stack ends, or the output can't be written.
        """
        return self._each(files, self.upload)

    def process_again(self, keys: Iterable[str]) -> Iterator[FileResult | Gone]:
        """Like ``process``, for objects in the bucket. Leaves out those that were deleted."""
        return self._each(keys, self._repeat)

    def _each(self, items: Iterable[Item], begin: Callable[[Item], FileResult | None]) -> Iterator[FileResult | Gone]:
        left = iter(items)
        while True:
            for item in islice(left, WINDOW - len(self._waiting)):
                known = begin(item)
                if known is not None:
                    yield known
            if self._waiting:
                yield from self.collect()
            elif (last := next(left, None)) is None:
                return
            elif (known := begin(last)) is not None:
                yield known

    def collect(self) -> Iterator[FileResult | Gone]:
        """Handles new outputs, records and removals; waits up to a second for them. Also finds stuck files."""
        self._stack.check()
        received = self._sqs.receive_message(
            QueueUrl=self._results_url, MaxNumberOfMessages=MAX_ENTRIES, WaitTimeSeconds=1
        )
        messages = received.get("Messages", [])
        for message in messages:
            for event in parse(message["Body"]).events:
                news = self._handle(event)
                if news is not None:
                    yield news
            self._sqs.delete_message(QueueUrl=self._results_url, ReceiptHandle=message["ReceiptHandle"])
        if time.monotonic() - self._checked_at > STUCK_CHECK_S:
            self._checked_at = time.monotonic()
            yield from map(self._finish, self._stuck.dead_letters(self._waiting))
            yield from map(self._finish, self._stuck.abandoned(self._waiting, has_news=bool(messages)))

    def upload(self, file: File) -> FileResult | None:
        """Uploads a file. Returns its result if it is known at once: refused, skipped or unchanged."""
        if file.problem is not None:
            return FileResult(file.key, FileState.FAILED, reason=file.problem.reason, advice=file.problem.advice)
        # The object does not exist yet, so no rule can look into it.
        skipped = self._routes.skip_reason(Source(INPUT_BUCKET, file.key), is_gone=True)
        if skipped is not None:
            return FileResult(file.key, FileState.SKIPPED, reason=skipped)
        try:
            etag, size = self._buckets.upload(file)
        except OSError as exc:
            advice = "Give yourself the right to read it." if isinstance(exc, PermissionError) else "Look at the file."
            return FileResult(file.key, FileState.FAILED, reason=f"it cannot be read: {exc.strerror}", advice=advice)
        except ClientError as exc:
            return FileResult(
                file.key,
                FileState.FAILED,
                reason=f"it cannot be uploaded: {describe_error(exc)}",
                advice="Rename the file.",
            )
        return self._wait_for(file.key, etag, size)

    def remove(self, key: str) -> None:
        """Deletes an upload. The pipeline then decides about its outputs."""
        self._waiting.pop(key, None)
        if self._uploaded.pop(key, None) is not None:  # refused files were never uploaded; their key may be invalid
            self._buckets.delete(key)

    def read(self, key: str) -> bytes | None:
        """The bytes of an upload; None if it does not exist. May be called by other threads."""
        return self._buckets.read(key)

    @property
    def settings(self) -> Settings:
        return self._routes.settings

    def forget(self, output: str) -> None:
        """Deletes an output's file from the output folder."""
        self._collector.forget(output)

    def _repeat(self, key: str) -> FileResult | None:
        found = self._buckets.repeat(key)
        return None if found is None else self._wait_for(key, *found)

    def _wait_for(self, key: str, etag: str, size: int) -> FileResult | None:
        source = Source(INPUT_BUCKET, key, etag=etag, size=size)
        try:
            route, skipped = self._routes.match(source), self._routes.skip_reason(source)
        except Exception:  # a rule for the content failed: the bridge retries, and finally a worker records it
            route, skipped = None, None
        waiting = self._waiting[key] = Waiting(size, etag, route)
        if skipped is not None:
            return self._finish(FileResult(key, FileState.SKIPPED, reason=skipped))
        if not self._keep:
            return None
        is_repeated = self._uploaded.get(key) == etag
        self._uploaded[key] = etag
        return self._existing(key, waiting) if is_repeated else None

    def _existing(self, key: str, waiting: Waiting) -> FileResult | None:
        """Finds outputs or a record of this version: the pipeline won't write them again."""
        record = failure_key(key)
        found = self._buckets.output(record)
        if found and Provenance.read(found["Metadata"]).etag == waiting.etag:
            return self._failed(key, record)
        for output in () if waiting.route is None else waiting.route.outputs:
            for name in output.names(key):
                there = self._buckets.output(name.name)
                made = Provenance.read(there["Metadata"]) if there else None
                if made is not None and (made.etag, made.recipe) == (waiting.etag, output.current_recipe):
                    waiting.arrived[output.folder] = name.name
        return self._done(key, waiting) if waiting.is_complete else None

    def _handle(self, event: ObjectEvent) -> FileResult | Gone | None:
        name = event.source.key
        if ".." in name.split("/"):
            return None  # uploaded elsewhere: its file would be outside of the output folder
        if event.kind is EventKind.REMOVED:
            if not self._keep or self._buckets.output(name):
                return None  # deleted by the run itself, or written again since
            self._collector.forget(name)
            is_replaced = any(
                name in {stored.name for stored in self._routes.stored_names(key, ever=True)} | {failure_key(key)}
                for key in self._waiting
            )
            return None if is_replaced else Gone(name)
        return self._arrived(name)

    def _arrived(self, name: str) -> FileResult | None:
        """Handles a new object in the output bucket. A failure record or the last output finishes a file."""
        if name.startswith(FAILED_PREFIX):
            key = self._buckets.key_of_record(name)
            is_expected = key in self._waiting or (self._keep and key and self._buckets.original(key))
            return self._failed(key, name) if is_expected else None  # else it is a repeated event
        output = self._routes.output_of(name)
        if output is None or not (found := self._buckets.output(name)):
            return None
        made = Provenance.read(found["Metadata"])
        key = made.key or name.removeprefix(output.folder).removesuffix(made.key_suffix)
        waiting = self._waiting.get(key)
        if waiting is None:
            is_new = self._keep and not self._collector.has(name, found["ETag"])
            return self._uploaded_elsewhere(key) if is_new else None
        if made.etag != waiting.etag:
            return None
        waiting.arrived[output.folder] = name
        return self._done(key, waiting) if waiting.is_complete else None

    def _uploaded_elsewhere(self, key: str) -> FileResult | None:
        """The result of an object that another program has uploaded, if all of its outputs are there."""
        if not (found := self._buckets.original(key)):
            return None
        size, etag = found["ContentLength"], found["ETag"].strip('"')
        route = self._routes.match(Source(INPUT_BUCKET, key, etag=etag, size=size))
        self._uploaded[key] = etag
        return self._existing(key, Waiting(size, etag, route))

    def _failed(self, key: str, record: str) -> FileResult:
        return self._finish(self._collector.failed(key, record), written=[record])

    def _done(self, key: str, waiting: Waiting) -> FileResult:
        return self._finish(self._collector.done(key, waiting))

    def _finish(self, result: FileResult, written: Iterable[str] = ()) -> FileResult:
        """Finishes a file; deletes its objects, so that the emulator stays small."""
        waiting = self._waiting.pop(result.key, None)
        if not self._keep:
            arrived = () if waiting is None else waiting.arrived.values()
            self._buckets.delete(result.key, {*written, *arrived})
        return result

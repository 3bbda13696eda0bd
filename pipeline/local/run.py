"""The local run: uploads files, collects renditions, and accounts for every file."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from pipeline.aws.batches import MAX_ENTRIES
from pipeline.aws.errors import describe_error
from pipeline.core.errors import PipelineError
from pipeline.core.names import FAILED_PREFIX, FAILED_SUFFIX, is_shortened, spelled_key
from pipeline.core.provenance import Provenance
from pipeline.core.queue_names import DEAD_LETTERS, QUEUES
from pipeline.core.routes import Route, Routes
from pipeline.core.s3_event import parse
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.local.files import File
from pipeline.local.results import FileResult, FileState, OutputFile
from pipeline.local.stack import INPUT_BUCKET, OUTPUT_BUCKET, PREFIX, RESULTS_QUEUE, LocalStack
from pipeline.operations.deadletters.letter import DeadLetter
from pipeline.s3 import content

#: Maximum number of unfinished files: bounds the emulator's memory and its queues.
WINDOW = 48
#: Seconds between checks of the dead-letter queues.
DEAD_LETTER_CHECK_S = 3.0


#: Consecutive checks that find all queues empty, after which unfinished files have failed.
IDLE_LOOKS = 2


@dataclass(slots=True)
class _Waiting:
    """An uploaded file that is not finished yet."""

    size: int
    etag: str
    route: Route | None  # None: a rule for its content failed, and a worker retries
    arrived: dict[str, str] = field(default_factory=dict)  # names of outputs, by folder

    @property
    def missing(self) -> list[str]:
        """Folders of the outputs that have not arrived."""
        outputs = () if self.route is None else self.route.outputs
        return [output.folder for output in outputs if output.folder not in self.arrived]


class Run:
    """Uploads files to a running ``LocalStack``, and writes the renditions into a folder."""

    def __init__(self, stack: LocalStack, out: Path, *, keep: bool) -> None:
        self._stack = stack
        self._out = out
        self._keep = keep  # leave the objects in the buckets
        self._s3 = stack.emulator.client("s3")
        self._sqs = stack.emulator.client("sqs")
        self._results_url = self._url(RESULTS_QUEUE)
        self._dead_letter_urls = {name: self._url(PREFIX + name + DEAD_LETTERS) for name in QUEUES}
        self._routes = Routes.load(Settings.from_env(stack.environ()), content.look)
        self._waiting: dict[str, _Waiting] = {}  # by key
        self._idle = 0  # consecutive checks that found all queues empty
        self._checked_at = 0.0

    def _url(self, name: str) -> str:
        url: str = self._sqs.get_queue_url(QueueName=name)["QueueUrl"]
        return url

    def process(self, files: Iterable[File]) -> Iterator[FileResult]:
        """Yields each file's result when it is known; at most ``WINDOW`` files are in flight.

        Raises ``PipelineError`` when a process of the stack ends, or the output can't be written.
        """
        waiting = iter(files)
        while True:
            for file in islice(waiting, WINDOW - len(self._waiting)):
                refused = self._upload(file)
                if refused is not None:
                    yield refused
            if self._waiting:
                yield from self.collect()
            elif (last := next(waiting, None)) is None:
                return
            elif (refused := self._upload(last)) is not None:
                yield refused

    def collect(self) -> Iterator[FileResult]:
        """Handles new renditions and records once, and checks the dead-letter queues."""
        self._stack.check()
        received = self._sqs.receive_message(
            QueueUrl=self._results_url, MaxNumberOfMessages=MAX_ENTRIES, WaitTimeSeconds=1
        )
        for message in received.get("Messages", []):
            for event in parse(message["Body"]).events:
                result = self._arrived(event.source.key)
                if result is not None:
                    yield result
            self._sqs.delete_message(QueueUrl=self._results_url, ReceiptHandle=message["ReceiptHandle"])
        if time.monotonic() - self._checked_at > DEAD_LETTER_CHECK_S:
            self._checked_at = time.monotonic()
            yield from self._dead_letters()
            yield from self._given_up(bool(received.get("Messages")))

    def _upload(self, file: File) -> FileResult | None:
        """Uploads a file, or returns why it could not."""
        if file.problem is not None:
            return FileResult(file.key, FileState.FAILED, reason=file.problem.reason, advice=file.problem.advice)
        source = Source(INPUT_BUCKET, file.key)
        skipped = self._routes.skip_reason(source, is_gone=True)  # the object does not exist yet
        if skipped is not None:
            return FileResult(file.key, FileState.SKIPPED, reason=skipped)
        try:
            with file.path.open("rb") as body:
                answer = self._s3.put_object(Bucket=INPUT_BUCKET, Key=file.key, Body=body)
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
        source = Source(INPUT_BUCKET, file.key, etag=answer["ETag"].strip('"'), size=file.path.stat().st_size)
        try:
            route, skipped = self._routes.match(source), self._routes.skip_reason(source)
        except Exception:  # a rule for the content failed: the bridge retries, and finally a worker records it
            route, skipped = None, None
        self._waiting[file.key] = _Waiting(source.size or 0, source.etag or "", route)
        return (
            None
            if skipped is None
            else self._finish(FileResult(file.key, FileState.SKIPPED, reason=skipped), written=[])
        )

    def _arrived(self, name: str) -> FileResult | None:
        """Handles a new object in the output bucket. A failure record or the last output finishes a file."""
        if name.startswith(FAILED_PREFIX):
            source_key = self._key_of_record(name)
            if source_key not in self._waiting and not self._keep:
                return None  # a repeated event
            record = json.loads(self._s3.get_object(Bucket=OUTPUT_BUCKET, Key=name)["Body"].read())
            reason = record["message"].removeprefix(f"s3://{INPUT_BUCKET}/{source_key}").lstrip(": ")
            failed = FileResult(source_key, FileState.FAILED, reason=reason, advice=record["advice"])
            return self._finish(failed, written=[name])
        output = self._routes.output_of(name)
        if output is None or not (found := self._head(OUTPUT_BUCKET, name)):
            return None
        made = Provenance.read(found["Metadata"])
        key = made.key or name.removeprefix(output.folder).removesuffix(made.key_suffix)
        waiting = self._waiting.get(key) or (self._expect(key) if self._keep else None)
        if waiting is None or made.etag != waiting.etag:
            return None
        waiting.arrived[output.folder] = name
        return None if waiting.route is None or waiting.missing else self._done(key, waiting)

    def _expect(self, key: str) -> _Waiting | None:
        """Starts to wait for an object that a person has uploaded; includes its existing outputs."""
        if not (found := self._head(INPUT_BUCKET, key)):
            return None
        source = Source(INPUT_BUCKET, key, etag=found["ETag"].strip('"'), size=found["ContentLength"])
        route = self._routes.match(source)
        waiting = _Waiting(found["ContentLength"], found["ETag"].strip('"'), route)
        for output in () if route is None else route.outputs:
            for name in output.names(key):
                there = self._head(OUTPUT_BUCKET, name.name)
                if there and Provenance.read(there["Metadata"]).etag == waiting.etag:
                    waiting.arrived[output.folder] = name.name
        return waiting

    def _done(self, key: str, waiting: _Waiting) -> FileResult:
        written: list[OutputFile] = []
        facts: dict[str, str] = {}
        for folder, name in waiting.arrived.items():
            path, found = self._download(name)
            metadata = found["Metadata"]
            facts |= metadata
            width, _, height = metadata.get("pixels", "").partition("x")
            size = (int(width), int(height)) if height else (0, 0)
            written.append(OutputFile(name, folder.rstrip("/"), path.stat().st_size, found["ContentType"], size))
        if waiting.route is not None:  # in the order of declaration
            order = [output.folder.rstrip("/") for output in waiting.route.outputs]
            written.sort(key=lambda each: order.index(each.folder))
        done = FileResult(
            key,
            FileState.DONE,
            source_size=facts.get("source-size", ""),
            source_bytes=waiting.size,
            salvaged=facts.get("salvaged", ""),
            outputs=tuple(written),
        )
        return self._finish(done, written=list(waiting.arrived.values()))

    def _head(self, bucket: str, key: str) -> Any:
        """What the store says about an object; None if it does not exist."""
        try:
            return self._s3.head_object(Bucket=bucket, Key=key)
        except ClientError:
            return None

    def _key_of_record(self, name: str) -> str:
        """The key of the object that failed; empty if only the metadata has it, and the record is gone."""
        if not is_shortened(name):
            return name.removeprefix(FAILED_PREFIX).removesuffix(FAILED_SUFFIX)
        found = self._head(OUTPUT_BUCKET, name)
        return (found and spelled_key(found["Metadata"].get("source-key"))) or ""

    def _download(self, key: str) -> tuple[Path, Any]:
        """Downloads an output below the output folder; returns its path and what the store says about it."""
        found = self._s3.get_object(Bucket=OUTPUT_BUCKET, Key=key)
        path = self._out / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(found["Body"].read())
        except OSError as exc:
            raise PipelineError(f"{path}: cannot be written: {exc.strerror}") from exc
        return path, found

    def _finish(self, result: FileResult, written: list[str]) -> FileResult:
        """Finishes a file; deletes its objects, so that the emulator stays small."""
        self._waiting.pop(result.key, None)
        if not self._keep:
            self._s3.delete_object(Bucket=INPUT_BUCKET, Key=result.key)
            for key in written:
                self._s3.delete_object(Bucket=OUTPUT_BUCKET, Key=key)
        return result

    def _dead_letters(self) -> Iterator[FileResult]:
        """Files whose message is a dead letter, for example because the worker was lost on every delivery.

        The letters stay in the queue, for a person who uses ``--keep``.
        """
        for name, url in self._dead_letter_urls.items():
            received = self._sqs.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=MAX_ENTRIES,
                VisibilityTimeout=0,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["All"],
            )
            for letter in (DeadLetter.of(name, message) for message in received.get("Messages", [])):
                for source in letter.sources():
                    if source.key in self._waiting:
                        advice = "Run it again with --keep, and look at worker.log and bridge.log."
                        failed = FileResult(
                            source.key, FileState.FAILED, f"it is a dead letter: {letter.reason}", advice
                        )
                        yield self._finish(failed, written=[])

    def _given_up(self, has_news: bool) -> Iterator[FileResult]:
        """Unfinished files without messages in any queue: somebody declared an output that no task writes."""
        self._idle = 0 if has_news or not self._waiting or self._is_busy() else self._idle + 1
        if self._idle < IDLE_LOOKS:
            return
        self._idle = 0
        for key, waiting in list(self._waiting.items()):
            route = "its route" if waiting.route is None else f"the route {waiting.route.name}"
            reason = f"all tasks of {route} have ended, and {', '.join(waiting.missing) or 'an output'} was not written"
            advice = "Let a task of the route write each of its outputs, or take out the output that none writes."
            yield self._finish(
                FileResult(key, FileState.FAILED, reason, advice), written=list(waiting.arrived.values())
            )

    def _is_busy(self) -> bool:
        """Whether any queue has messages, also delayed or in flight."""
        counts = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
        urls = (*(self._url(PREFIX + name) for name in QUEUES), self._results_url)
        return any(
            int(count)
            for url in urls
            for count in self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=counts)["Attributes"].values()
        )


def prepare(out: Path) -> None:
    """Creates the output folder and checks that it is writable. Raises ``PipelineError``."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=out):
            pass
    except OSError as exc:
        raise PipelineError(f"{out}: cannot be written: {exc.strerror}") from exc

"""The run: files in, renditions out, every file accounted for."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from PIL import Image

from pipeline.aws.batches import MAX_ENTRIES
from pipeline.aws.errors import describe_error
from pipeline.core.errors import PipelineError
from pipeline.core.names import FAILED_PREFIX, FAILED_SUFFIX, is_shortened, spelled_key, stored_name
from pipeline.core.queue_names import DEAD_LETTERS, QUEUES
from pipeline.core.routes import Route, Routes
from pipeline.core.s3_event import parse
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.images import ImageRoute
from pipeline.images.names import RESIZED_PREFIX, THUMBS_PREFIX
from pipeline.local.files import File
from pipeline.local.stack import INPUT_BUCKET, OUTPUT_BUCKET, PREFIX, RESULTS_QUEUE, LocalStack
from pipeline.operations.deadletters.letter import DeadLetter

#: Files uploaded and not yet finished: bounds what the emulator holds, and its queues' length.
WINDOW = 48
#: Seconds between looks at the dead-letter queues.
DEAD_LETTER_CHECK_S = 3.0


class FileState(Enum):
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Picture:
    """One stored rendition: where it is below the output folder, and its size."""

    path: str
    width: int
    height: int
    bytes: int


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One stored output of a route of the user's own: where it is below the output folder."""

    path: str
    bytes: int
    content_type: str


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of one file. ``reason`` for what failed or was skipped, ``advice`` for what failed."""

    key: str
    state: FileState
    reason: str = ""
    advice: str = ""
    source_size: str = ""  # pixels, "4000x3000"
    source_bytes: int = 0
    salvaged: str = ""  # what was wrong with a file whose picture was all there
    resized: Picture | None = None
    thumb: Picture | None = None
    outputs: tuple[OutputFile, ...] = ()  # of a route of the user's own


class Run:
    """Uploads files to a running ``LocalStack`` and collects what comes out into a folder."""

    def __init__(self, stack: LocalStack, out: Path, *, keep: bool) -> None:
        self._stack = stack
        self._out = out
        self._keep = keep  # leave the objects in the buckets
        self._s3 = stack.emulator.client("s3")
        self._sqs = stack.emulator.client("sqs")
        self._results_url = self._url(RESULTS_QUEUE)
        self._dead_letter_urls = {name: self._url(PREFIX + name + DEAD_LETTERS) for name in QUEUES}
        self._routes = Routes.load(Settings.from_env(stack.environ()))
        # Outputs of the user's own routes, by their folders.
        own = (route for route in self._routes.all if not isinstance(route, ImageRoute))
        self._own = {output.folder: (output, route) for route in own for output in route.outputs}
        self._seen: dict[str, set[str]] = {}  # outputs of the user's own routes that have arrived, by the file's key
        self._in_flight: dict[str, str] = {}  # ETags, by key
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
            for file in islice(waiting, WINDOW - len(self._in_flight)):
                refused = self._upload(file)
                if refused is not None:
                    yield refused
            if self._in_flight:
                yield from self.collect()
            elif (last := next(waiting, None)) is None:
                return
            elif (refused := self._upload(last)) is not None:
                yield refused

    def collect(self) -> Iterator[FileResult]:
        """One look at what was written since the last one, and at the dead-letter queues."""
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

    def _upload(self, file: File) -> FileResult | None:
        """Puts a file into the input bucket, or tells why not."""
        if file.problem is not None:
            return FileResult(file.key, FileState.FAILED, reason=file.problem.reason, advice=file.problem.advice)
        source = Source(INPUT_BUCKET, file.key)
        skipped = self._routes.skip_reason(source, is_gone=True)  # it is not there yet
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
        self._in_flight[file.key] = answer["ETag"].strip('"')
        if all(route.content is not None for route in self._routes.match_key(file.key)):
            skipped = self._routes.skip_reason(source)
            if skipped is not None:
                return self._finish(FileResult(file.key, FileState.SKIPPED, reason=skipped), written=[])
        return None

    def _arrived(self, key: str) -> FileResult | None:
        """A thumbnail, a failure record or the last output of a route ends its file's journey."""
        if key.startswith(FAILED_PREFIX):
            source_key = self._key_of(key, FAILED_PREFIX, FAILED_SUFFIX)
            if source_key not in self._in_flight and not self._keep:
                return None  # a repeated event
            record = json.loads(self._s3.get_object(Bucket=OUTPUT_BUCKET, Key=key)["Body"].read())
            reason = record["message"].removeprefix(f"s3://{INPUT_BUCKET}/{source_key}").lstrip(": ")
            failed = FileResult(source_key, FileState.FAILED, reason=reason, advice=record["advice"])
            return self._finish(failed, written=[key])
        for folder, (output, route) in self._own.items():
            if key.startswith(folder):
                return self._output_arrived(self._key_of(key, folder, output.append_suffix), key, route)
        if not key.startswith(THUMBS_PREFIX):
            return None
        name = self._key_of(key, THUMBS_PREFIX)
        # A rendition's key may have gained the ending of its format.
        candidates = [k for k in (name, name.rpartition(".")[0]) if k in self._in_flight]
        if not candidates and not self._keep:
            return None
        thumb, about_thumb = self._save(key)
        ending = about_thumb.get("key-suffix", "")
        is_whole = is_shortened(key) or not ending  # then the name is the object's key
        resized_key = stored_name(RESIZED_PREFIX, name if is_whole else name.removesuffix(ending), ending)
        resized, metadata = self._save(resized_key)
        made_from = (k for k in candidates if self._in_flight[k] == metadata["source-etag"])
        source_key = next(made_from, [*candidates, name][0])
        done = FileResult(
            source_key,
            FileState.DONE,
            source_size=metadata["source-size"],
            source_bytes=int(metadata["source-bytes"]),
            salvaged=metadata.get("salvaged", ""),
            resized=resized,
            thumb=thumb,
        )
        return self._finish(done, written=[key, resized_key])

    def _key_of(self, name: str, folder: str, suffix: str = "") -> str:
        """The key of the object of which this is stored; where only the metadata tells it, and it is gone, nothing."""
        if not is_shortened(name):
            return name.removeprefix(folder).removesuffix(suffix)
        try:
            metadata = self._s3.head_object(Bucket=OUTPUT_BUCKET, Key=name)["Metadata"]
        except ClientError:
            return ""
        return spelled_key(metadata.get("source-key")) or ""

    def _output_arrived(self, source_key: str, key: str, route: Route) -> FileResult | None:
        if source_key not in self._in_flight and not self._keep:
            return None
        seen = self._seen.setdefault(source_key, set())
        seen.add(key)
        wanted = [output.name(source_key) for output in route.outputs]
        if not seen.issuperset(wanted):
            return None
        del self._seen[source_key]
        size = self._s3.head_object(Bucket=INPUT_BUCKET, Key=source_key)["ContentLength"]
        outputs = tuple(
            OutputFile(name, path.stat().st_size, found["ContentType"])
            for name, (path, found) in zip(wanted, map(self._download, wanted), strict=True)
        )
        return self._finish(FileResult(source_key, FileState.DONE, source_bytes=size, outputs=outputs), written=wanted)

    def _save(self, key: str) -> tuple[Picture, dict[str, str]]:
        path, found = self._download(key)
        with Image.open(path) as image:
            width, height = image.size
        return Picture(key, width, height, path.stat().st_size), found["Metadata"]

    def _download(self, key: str) -> tuple[Path, Any]:
        """To its place below the output folder; returns that, and what the store says."""
        found = self._s3.get_object(Bucket=OUTPUT_BUCKET, Key=key)
        path = self._out / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(found["Body"].read())
        except OSError as exc:
            raise PipelineError(f"{path}: cannot be written: {exc.strerror}") from exc
        return path, found

    def _finish(self, result: FileResult, written: list[str]) -> FileResult:
        """Takes a file off the list; removes its objects, so that the emulator stays small."""
        self._in_flight.pop(result.key, None)
        if not self._keep:
            self._s3.delete_object(Bucket=INPUT_BUCKET, Key=result.key)
            for key in written:
                self._s3.delete_object(Bucket=OUTPUT_BUCKET, Key=key)
        return result

    def _dead_letters(self) -> Iterator[FileResult]:
        """Files whose message was given up: the worker was lost on each of its deliveries, for example.

        The letters stay where they are, for a person with ``--keep`` to look at.
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
                    if source.key in self._in_flight:
                        advice = "Run it again with --keep, and look at worker.log and bridge.log."
                        failed = FileResult(
                            source.key, FileState.FAILED, f"it is a dead letter: {letter.reason}", advice
                        )
                        yield self._finish(failed, written=[])


def prepare(out: Path) -> None:
    """Makes the output folder and tries to write there. Raises ``PipelineError``."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=out):
            pass
    except OSError as exc:
        raise PipelineError(f"{out}: cannot be written: {exc.strerror}") from exc

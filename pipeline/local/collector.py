"""Downloads the outputs of a file and builds the file's result."""

from __future__ import annotations

from pipeline.local.buckets import Buckets
from pipeline.local.results import FileResult, FileState, OutputFile
from pipeline.local.stack import INPUT_BUCKET
from pipeline.local.waiting import Waiting


class Collector:
    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._etags: dict[str, str] = {}  # of the outputs in the output folder, by name

    def done(self, key: str, waiting: Waiting) -> FileResult:
        """Downloads all outputs that have arrived. Raises ``PipelineError``."""
        written: list[OutputFile] = []
        facts: dict[str, str] = {}
        for folder, name in waiting.arrived.items():
            output, found = self._buckets.download(name, folder)
            facts |= found["Metadata"]
            self._etags[name] = found["ETag"]
            written.append(output)
        if waiting.route is not None:  # in the order of declaration
            order = [output.folder.rstrip("/") for output in waiting.route.outputs]
            written.sort(key=lambda each: order.index(each.folder))
        return FileResult(
            key,
            FileState.DONE,
            source_size=facts.get("source-size", ""),
            source_bytes=waiting.size,
            salvaged=facts.get("salvaged", ""),
            outputs=tuple(written),
        )

    def failed(self, key: str, record: str) -> FileResult:
        """The result of a file that has a failure record. ``record``: the record's name."""
        found = self._buckets.record(record)
        reason = found["message"].removeprefix(f"s3://{INPUT_BUCKET}/{key}").lstrip(": ")
        return FileResult(key, FileState.FAILED, reason=reason, advice=found["advice"])

    def has(self, name: str, etag: str) -> bool:
        """Whether the output folder has this version of an output."""
        return self._etags.get(name) == etag

    def forget(self, name: str) -> None:
        """Deletes an output's file from the output folder. Raises ``PipelineError``."""
        self._etags.pop(name, None)
        self._buckets.forget(name)

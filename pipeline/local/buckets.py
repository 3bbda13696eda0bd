"""The two buckets of a local run, and the folder that outputs are downloaded into."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from pipeline.core.errors import PipelineError
from pipeline.core.names import FAILED_PREFIX, FAILED_SUFFIX, is_shortened, spelled_key
from pipeline.local.files import File
from pipeline.local.results import OutputFile
from pipeline.local.stack import INPUT_BUCKET, OUTPUT_BUCKET


class Buckets:
    def __init__(self, s3: Any, out: Path) -> None:
        self._s3 = s3
        self._out = out

    def upload(self, file: File) -> tuple[str, int]:
        """Returns the object's ETag and its size in bytes. Raises ``OSError`` and ``ClientError``."""
        with file.path.open("rb") as body:
            answer = self._s3.put_object(Bucket=INPUT_BUCKET, Key=file.key, Body=body)
            return answer["ETag"].strip('"'), os.fstat(body.fileno()).st_size

    def repeat(self, key: str) -> tuple[str, int] | None:
        """Uploads an object again unchanged, so that S3 sends its event again. None if it does not exist."""
        data = self.read(key)
        if data is None:
            return None
        answer = self._s3.put_object(Bucket=INPUT_BUCKET, Key=key, Body=data)
        return answer["ETag"].strip('"'), len(data)

    def read(self, key: str) -> bytes | None:
        """The bytes of an upload; None if it does not exist."""
        try:
            data: bytes = self._s3.get_object(Bucket=INPUT_BUCKET, Key=key)["Body"].read()
        except ClientError:
            return None
        return data

    def original(self, key: str) -> Any:
        """The HeadObject answer for an upload; None if it does not exist."""
        return self._head(INPUT_BUCKET, key)

    def output(self, name: str) -> Any:
        """The HeadObject answer for an output; None if it does not exist."""
        return self._head(OUTPUT_BUCKET, name)

    def _head(self, bucket: str, key: str) -> Any:
        try:
            return self._s3.head_object(Bucket=bucket, Key=key)
        except ClientError:
            return None

    def record(self, name: str) -> dict[str, Any]:
        """A failure record."""
        found: dict[str, Any] = json.loads(self._s3.get_object(Bucket=OUTPUT_BUCKET, Key=name)["Body"].read())
        return found

    def key_of_record(self, name: str) -> str:
        """The key of the object that failed; empty if only the metadata has it, and the record is gone."""
        if not is_shortened(name):
            return name.removeprefix(FAILED_PREFIX).removesuffix(FAILED_SUFFIX)
        found = self.output(name)
        return (found and spelled_key(found["Metadata"].get("source-key"))) or ""

    def download(self, name: str, folder: str) -> tuple[OutputFile, Any]:
        """Downloads an output below the output folder; returns it with S3's answer.

        Raises ``PipelineError``.
        """
        found = self._s3.get_object(Bucket=OUTPUT_BUCKET, Key=name)
        data, path = found["Body"].read(), self._out / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as exc:
            raise PipelineError(f"{path}: cannot be written: {exc.strerror}") from exc
        width, _, height = found["Metadata"].get("pixels", "").partition("x")
        size = (int(width), int(height)) if height else (0, 0)
        return OutputFile(name, folder.rstrip("/"), len(data), found["ContentType"], size), found

    def forget(self, name: str) -> None:
        """Deletes an output's file from the output folder, if it is there. Raises ``PipelineError``."""
        path = self._out / name
        try:
            path.unlink(missing_ok=True)
        except OSError as exc:
            raise PipelineError(f"{path}: cannot be deleted: {exc.strerror}") from exc

    def delete(self, key: str, outputs: Iterable[str] = ()) -> None:
        """Deletes an upload and the given outputs from the buckets."""
        self._s3.delete_object(Bucket=INPUT_BUCKET, Key=key)
        for name in outputs:
            self._s3.delete_object(Bucket=OUTPUT_BUCKET, Key=name)


def prepare(out: Path) -> None:
    """Creates the output folder and checks that it is writable. Raises ``PipelineError``."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=out):
            pass
    except OSError as exc:
        raise PipelineError(f"{out}: cannot be written: {exc.strerror}") from exc

"""Failure records: ``failed/<key>.json`` in the output bucket, one per object that could not be processed.

docs/failure-record.schema.json is their schema. A record's metadata contains the version that failed and the reason, in
one word, so that counting records by reason needs no downloads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from celery import Task
from celery.exceptions import Reject

from pipeline.core.errors import REFUSED, PermanentError, PipelineError, TransientError
from pipeline.core.names import failure_key, key_metadata
from pipeline.core.provenance import Provenance
from pipeline.core.source import Source
from pipeline.s3 import storage
from pipeline.sqs.outage.patience import Patience
from tasks.convergence import MAX_TURNS, resolve_current


@dataclass(frozen=True, slots=True)
class Written:
    """A failure record that is in place."""

    uri: str
    source: Source  # the version that it is about


def record(task: Task, source: Source, exc: BaseException, *, retryable: bool) -> Written:
    """Writes a failure record: what went wrong with an object, and what to do about it.

    Raises ``ObjectGone`` or ``ObjectChanged`` if the version is no longer the newest, and needs no record. Raises
    ``TransientError`` if the record could not be written: then the message must not be acknowledged. Raises ``Reject``
    if another bucket's object has a record of that name, since a retry would not help.
    """
    with suppress(TransientError):  # the store may be unreachable, and that may be the failure
        source = resolve_current(source)
    reason, advice = _explained(task.name, exc, retryable)
    body = {
        "reason": reason,
        "error": type(exc).__name__,
        "message": str(exc),
        "advice": advice,
        "retryable": retryable,
        "source": source.to_json(),
        "task": task.name,
        "task_id": task.request.id,
        "attempts": Patience.of(vars(task.request)).tries + 1,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    settings = task.app.settings
    bucket, name = settings.required("output_bucket"), failure_key(source.key, settings.output_prefix)
    _write(
        bucket,
        name,
        json.dumps(body, indent=2, ensure_ascii=False).encode(),
        source,
        Provenance.of(source).metadata() | key_metadata(name, source.key) | {"reason": reason},
    )
    return Written(f"s3://{bucket}/{name}", source)


def _write(bucket: str, name: str, data: bytes, source: Source, metadata: Mapping[str, str]) -> None:
    """Replaces the record of an earlier failure of the same object, but never another bucket's.

    Raises ``Reject`` if there is one of another bucket, and ``TransientError``.
    """
    replaces: str | None = None
    for _ in range(MAX_TURNS):
        try:
            storage.write(
                bucket,
                name,
                data,
                content_type="application/json",
                metadata=metadata,
                new=replaces is None,
                replaces=replaces,
            )
        except storage.Conflict:
            there = storage.head(bucket, name)
            if there is not None and not Provenance.read(there.metadata).is_of(source.bucket):
                text = f"{source.uri} failed, and s3://{bucket}/{name} is the record of another bucket's object"
                raise Reject(text, requeue=False) from None
            replaces = None if there is None else there.etag
        else:
            return
    raise TransientError(f"s3://{bucket}/{name}: too many concurrent writes ({MAX_TURNS} attempts)")


def _explained(task: str, exc: BaseException, retryable: bool) -> tuple[str, str]:
    if isinstance(exc, PermanentError):
        return exc.reason, exc.advice
    if retryable:
        return "unavailable", "The file may be fine: enqueue the object again when the service has recovered."
    if isinstance(exc, PipelineError):
        return REFUSED, "Correct what the message names, then enqueue the object again: `audit --repair` does."
    return "internal-error", f"This is a defect of the task {task}, not of the file: report it with this record."

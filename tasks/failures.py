"""Failure records: ``failed/<key>.json`` in the output bucket, one per object that could not be processed.

Their schema is docs/failure-record.schema.json. The object's metadata says which version has failed, and why in
one word, so that nobody has to download the record to count it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

from celery import Task

from pipeline import storage
from pipeline.errors import ObjectChanged, ObjectGone, PermanentError, PipelineError, TransientError
from pipeline.source import Source
from tasks.keys import failure_key
from tasks.provenance import Provenance


def record(task: Task, source: Source, exc: BaseException, *, retryable: bool) -> Source:
    """Writes what went wrong with one object, and what to do about it; returns the version that it is about.

    Raises ``ObjectGone`` or ``ObjectChanged`` when the version is not the newest one any more: nobody needs its
    record. Raises ``TransientError`` when it could not be written: then the message must not be acknowledged.
    """
    source = _as_it_is_now(source)
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
        "attempts": task.request.retries + 1,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    storage.write(
        task.app.settings.required("output_bucket"),
        failure_key(source.key),
        json.dumps(body, indent=2, ensure_ascii=False).encode(),
        content_type="application/json",
        metadata=Provenance.of(source).metadata() | {"reason": reason},
    )
    return source


def _as_it_is_now(source: Source) -> Source:
    """With its ETag, where only the store knows it. Without, when the store can't be asked: that may be the failure."""
    try:
        current = storage.current(source.bucket, source.key)
    except TransientError:
        return source
    if current is None:
        raise ObjectGone(f"{source.uri} was deleted after its event was sent")
    if source.etag not in (None, current.etag):
        raise ObjectChanged(f"{source.uri} was overwritten after its event was sent")
    return replace(source, etag=current.etag)


def _explained(task: str, exc: BaseException, retryable: bool) -> tuple[str, str]:
    if isinstance(exc, PermanentError):
        return exc.reason, exc.advice
    if retryable:
        return "unavailable", "The file may be fine: enqueue the object again when the service has recovered."
    if isinstance(exc, PipelineError):
        return "refused", "The message says what to correct."
    return "internal-error", f"This is a defect of the task {task}, not of the file: report it with this record."

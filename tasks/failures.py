"""Failure records: ``failed/<key>.json`` in the output bucket, one per object that could not be processed."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from celery import Task

from pipeline import storage
from pipeline.errors import PermanentError, PipelineError
from pipeline.source import Source

PREFIX = "failed/"


def key_of(source: Source) -> str:
    return f"{PREFIX}{source.key}.json"


def record(task: Task, source: Source, exc: BaseException, *, retryable: bool) -> None:
    """Writes what went wrong with one object, and what to do about it.

    Raises ``TransientError`` when it could not be written: then the message must not be acknowledged.
    """
    reason, advice = _explained(exc, retryable)
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
        key_of(source),
        json.dumps(body, indent=2, ensure_ascii=False).encode(),
        content_type="application/json",
        metadata={},
    )


def _explained(exc: BaseException, retryable: bool) -> tuple[str, str]:
    if isinstance(exc, PermanentError):
        return exc.reason, exc.advice
    if retryable:
        return "unavailable", "The file may be fine: enqueue the object again when the service has recovered."
    if isinstance(exc, PipelineError):
        return "refused", "The message says what to correct."
    return "internal-error", "This is a defect of the pipeline, not of the file: report it with this record."

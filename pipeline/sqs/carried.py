"""A value that a task leaves in its process for the next task of its chain: see ``worker.in_place``.

A process keeps one value, that of its last task. The next task must not depend on it. Only a worker's processes keep
values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.sqs.worker import in_place

#: Largest value that is kept, in bytes.
MAX_BYTES = 8_000_000


@dataclass(slots=True)
class _Kept:
    task_id: str | None = None
    value: Any = None


_kept = _Kept()


def carry(task: Any, value: Any, size_bytes: int) -> None:
    """Called by a bound task: leaves ``value`` for the next task of its chain, if that task may run in place."""
    _kept.task_id = _kept.value = None
    if size_bytes <= MAX_BYTES and in_place.may_go_on(task.request.id):
        _kept.task_id, _kept.value = task.request.id, value


def carried(task: Any) -> Any:
    """Called by a bound task: returns, once, the value that the previous task of its chain left here; else None."""
    if _kept.task_id is None or _kept.task_id != task.request.parent_id:
        return None
    value, _kept.task_id, _kept.value = _kept.value, None, None
    return value

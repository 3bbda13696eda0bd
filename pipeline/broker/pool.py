"""What this worker's processes are working on, as Celery's worker knows it."""

from __future__ import annotations

from typing import Any

from celery.worker import state


def requests_in_pool() -> list[Any]:
    """Celery's requests that were handed to a process and are not done. Others wait in this worker."""
    handed_over = [request for request in tuple(state.reserved_requests) if request._apply_result is not None]
    return list({*handed_over, *state.active_requests})


def in_pool() -> set[str]:
    """The delivery tags of those requests. Empty in processes that are no worker."""
    return {request.message.delivery_tag for request in requests_in_pool()}

"""The requests that this worker's processes run, according to Celery's worker."""

from __future__ import annotations

from typing import Any

from celery.worker import state


def requests_in_pool() -> list[Any]:
    """Celery's requests that a process has and that are not done. The others wait in this worker."""
    handed_over = [request for request in tuple(state.reserved_requests) if request._apply_result is not None]
    return list({*handed_over, *state.active_requests})


def waiting_requests(consumer: Any) -> list[Any]:
    """Celery's requests that no process has begun: they wait for one, or for their rate limit.

    A task that is done and whose acknowledgement is on its way is neither here nor in the pool.
    """
    buckets = [bucket for bucket in consumer.task_buckets.values() if bucket is not None]
    limited = [request for bucket in buckets for request, _tokens in tuple(bucket.contents)]
    in_pool = set(requests_in_pool())
    return [*(request for request in tuple(state.reserved_requests) if request not in in_pool), *limited]


def running_tags() -> set[str]:
    """The delivery tags of the requests that a process has begun. Empty in processes that are not workers."""
    return {request.message.delivery_tag for request in state.active_requests}

"""Chains in place: the worker that ran a task of a chain starts the next one too, under the same message.

Between two tasks of a chain lie a SendMessage, a receive, a delete and another wait in the queue. If this worker
has the next task, on the same queue, none of that is needed: the message that would have been published goes to the
worker with the result, and the worker passes it to its consumer as if it had been received. So the next task has its
own id, events, time limits, result and log lines, and is revoked, retried and rejected like any other.

    in the pool's process                         in the worker
    ─────────────────────                         ─────────────
    the task returns                              the message stays in flight, and is now the next task's:
    Celery sends the next one: it is kept    ──▶  its text takes the place of the one that is done
    the result and the kept text go back          the consumer gets it

The message is deleted when the last task under it is settled. If anything happens before, SQS delivers it again, and
tasks that are done find their work done. When a worker can't pass the next task on, since it shuts down or its consumer
was cancelled, it publishes that task, and then deletes the message.

Always published: a task with a delay, an ETA, message attributes or an SQS message group, a task for another queue, a
part of a Celery group or chord, a task that this worker does not have, and one with ``in_place = False``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from celery import signals
from celery.canvas import Signature
from celery.concurrency.prefork import TaskPool

from pipeline.sqs.transport.publishing import PublishEntry, kept_by

#: Options of a task that belongs to a group or chord, not only to its chain.
_OF_A_GROUP = ("chord", "group_id")


@dataclass(frozen=True, slots=True)
class Successor:
    """A task's result, as text for logs and events, and the next task's message, which is not published.

    It is not a string, so code that does not know this class finds no result, and the message is delivered again.
    """

    shown: str
    body: str  # as SendMessage takes it


@dataclass(slots=True)
class _Run:
    """The task that a process runs."""

    task_id: str
    queue: str = ""  # that its message came from
    body: str | None = None

    def keep(self, queue: str, entry: PublishEntry) -> bool:
        """Whether to keep a message instead of sending it: it is plain, and for the same queue."""
        if self.body is not None or queue != self.queue or set(entry.message) != {"MessageBody"}:
            return False
        self.body = entry.message["MessageBody"]
        return True


_run: ContextVar[_Run | None] = ContextVar("pipeline_in_place", default=None)


def trace(traced: Callable[..., tuple[int, Any, float]], *args: Any, **options: Any) -> tuple[int, Any, float]:
    """Runs Celery's ``traced`` in a pool process; the result is a ``Successor`` if the chain can go on in place."""
    with _running(str(args[1])) as run:
        failed, result, runtime = traced(*args, **options)
    if failed or run.body is None:
        return failed, result, runtime
    return failed, Successor(result, run.body), runtime


@contextmanager
def _running(task_id: str) -> Iterator[_Run]:
    run = _Run(task_id)
    token = _run.set(run)
    try:
        yield run
    finally:
        _run.reset(token)


class Next(Signature):
    """The next task of a chain. Celery calls ``apply_async`` when the previous task has returned."""

    def apply_async(self, args: Any = None, kwargs: Any = None, route_name: Any = None, **options: Any) -> Any:
        run = _run.get()
        if run is None or any(name in _OF_A_GROUP for name in (*self.options, *options)):
            return super().apply_async(args, kwargs, route_name, **options)
        with kept_by(run.keep):
            return super().apply_async(args, kwargs, route_name, **options)


def prepare(sender: Any = None, task_id: str = "", **_: Any) -> None:
    """Handles Celery's ``task_prerun``: marks the chain's next task as one that may run in place, if possible."""
    run, request = _run.get(), sender.request
    if run is None or run.task_id != task_id or not request.chain or request.chord or request.group:
        return
    following = request.chain[-1]
    task = sender.app.tasks.get(following.get("task"))
    if task is None or following.get("subtask_type") is not None:
        return
    if getattr(task, "in_place", True) and getattr(sender, "in_place", True):
        run.queue = (request.delivery_info or {}).get("routing_key", "")
        request.chain[-1] = Next(following, app=sender.app)


def may_go_on(task_id: str) -> bool:
    """Whether the running task has a next task that may run in place."""
    run = _run.get()
    return run is not None and run.task_id == task_id and bool(run.queue)


def connect() -> None:
    """Call this in a worker before it forks its processes."""
    signals.task_prerun.connect(prepare, weak=False)


class Pool:
    """Wraps a pool for Celery's request, so that its processes run ``trace`` around Celery's own function."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def apply_async(self, traced: Any, args: Any, **options: Any) -> Any:
        return self._pool.apply_async(trace, args=(traced, *args), **options)


def is_on(app: Any, pool: Any) -> bool:
    """Whether chains run in place: only in the prefork pool, whose results come back to an event loop."""
    return isinstance(pool, TaskPool) and bool(app.conf.broker_transport_options.get("go_on_in_place", True))


def begin(worker: Any, request: Any) -> None:
    """Passes a request to the pool. The next task of a chain overtakes waiting requests, and runs in the free process.

    That process ran the previous task, and may still hold what the next one needs. When a task ends, its slot goes to
    the first waiting request before the worker gets the task's result. So the next task is put before that request,
    which no process has begun yet, and the request runs in the next free process.
    """
    semaphore = getattr(worker, "semaphore", None)
    outbound = getattr(getattr(worker.pool, "_pool", None), "outbound_buffer", None)
    waiting = getattr(semaphore, "_waiting", None)
    if not waiting or outbound is None or not _goes_on(request):
        worker._process_task_sem(request)
        return
    waiting.appendleft((_pass, (), {}))
    worker._process_task(request)
    outbound.rotate(1)


def _pass() -> None:
    """Acquires a slot that is already acquired."""


def _goes_on(request: Any) -> bool:
    message = request.message.channel.parts.in_flight.find(request.message.delivery_tag)
    return message is not None and message.is_successor

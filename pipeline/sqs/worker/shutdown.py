"""A shutdown that strands no message, and waits only for running tasks.

    running ──SIGTERM──▶ draining ──nothing runs, or it timed out, or a second signal──▶ Celery's shutdown

The worker drains in its event loop, with the pool in its normal state. It starts no new polls and releases waiting
messages at once. Running tasks get some time to finish; after it, their messages are released. Messages of an open poll
are released as they arrive. Celery's own warm shutdown then has nothing to wait for.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from typing import Any

from celery import bootsteps, signals
from celery.exceptions import WorkerShutdown
from celery.platforms import EX_OK
from celery.worker import state
from celery.worker.control import control_command

from pipeline.sqs.transport.parts import Parts
from pipeline.sqs.transport.pool import requests_in_pool, waiting_requests

CHECK_EVERY_S = 0.1
STOP_SIGNALS = ("SIGTERM", "SIGINT")

logger = logging.getLogger(__name__)


class GracefulShutdown(bootsteps.StartStopStep):
    """A step of the worker; ``worker.graceful_shutdown``."""

    requires = ("celery.worker.components:Hub", "celery.worker.components:Pool")

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        worker.graceful_shutdown = self
        self._worker = worker
        self._timeout_s = worker.app.sqs.settings.shutdown_timeout_s
        self._deadline: float | None = None
        self._requests = 0
        self._pid = os.getpid()
        # A signal handler may only do what is safe at any point of the program: it writes a byte to this socket.
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)

    def include_if(self, worker: Any) -> bool:
        return bool(worker.use_eventloop)

    @property
    def draining(self) -> bool:
        return self._deadline is not None

    def start(self, worker: Any) -> None:
        """Replaces Celery's signal handlers, which are set before the steps start."""
        if threading.current_thread() is threading.main_thread() and hasattr(worker, "install_platform_tweaks"):
            for name in STOP_SIGNALS:
                signal.signal(getattr(signal, name), self._on_signal)

    def register_with_event_loop(self, worker: Any, hub: Any) -> None:
        """Called for each (re)start of the loop."""
        hub.add_reader(self._woken, self._on_woken)

    def stop(self, worker: Any) -> None:
        """Reached without draining when the worker stops for another reason: releases the waiting messages."""
        if not self.draining:
            self._release_waiting()

    def terminate(self, worker: Any) -> None:
        self.stop(worker)

    def begin(self) -> None:
        """Starts to drain; a second call stops waiting for running tasks. Safe in a signal handler."""
        self._requests += 1
        consumer = getattr(self._worker, "consumer", None)
        if getattr(consumer, "connection", None) is None:
            state.should_stop = EX_OK  # nothing is in flight, and no event loop runs that would drain
            return
        with suppress(BlockingIOError):
            self._waker.send(b"\0")

    def _on_signal(self, number: int, _frame: Any) -> None:
        if os.getpid() == self._pid:
            self.begin()
        else:  # a pool process that was just forked, and has not set its own handlers yet
            os._exit(EX_OK)

    def _on_woken(self) -> None:
        with suppress(BlockingIOError):
            self._woken.recv(4096)
        if not self.draining:
            self._drain()
        if self._requests > 1:
            self._deadline = time.monotonic()
            self._check()

    def _drain(self) -> None:
        self._deadline = time.monotonic() + self._timeout_s
        signals.worker_shutting_down.send(sender=self._worker.hostname, sig="SIGTERM", how="Warm", exitcode=EX_OK)
        count = self._release_waiting()
        logger.info(
            "Shutting down: %d waiting messages released, %d running tasks get %d s to finish",
            count,
            len(requests_in_pool()),
            self._timeout_s,
            extra={"action": "shutdown", "released": count, "running": len(requests_in_pool())},
        )
        self._worker.hub.call_repeatedly(CHECK_EVERY_S, self._check)
        self._check()

    def _release_waiting(self) -> int:
        """Stops polling, and releases the messages that no process has begun; returns their number."""
        consumer = self._worker.consumer
        task_consumer = getattr(consumer, "task_consumer", None)
        if task_consumer is None:
            return 0
        task_consumer.channel.poller.stop()
        waiting = waiting_requests(consumer)
        semaphore = getattr(self._worker, "semaphore", None)
        if semaphore is not None:
            semaphore.clear()  # otherwise the next free process would begin one
        for bucket in consumer.task_buckets.values():
            if bucket is not None:
                bucket.clear_pending()
        count = 0
        for request in waiting:
            state.task_ready(request)
            count += _release(request, has_begun=False)
        return count

    def _check(self) -> None:
        if self._deadline is None or state.should_stop is not None:
            return
        running = requests_in_pool()
        if running and (time.monotonic() < self._deadline or self._has_threads()):
            return
        self._release_running(running)
        state.should_stop = EX_OK  # Celery's event loop checks it in each turn

    def _has_threads(self) -> bool:
        """Whether the pool has threads. A thread can't be ended: its message stays hidden until its task is done."""
        module: str = self._worker.pool_cls.__module__
        return module == "celery.concurrency.thread"

    def _release_running(self, running: list[Any]) -> None:
        for request in running:
            logger.warning(
                "Shutting down: %s[%s] did not finish in time, another worker does it again",
                request.name,
                request.id,
                extra={"action": "shutdown_unfinished", "task": request.name, "task_id": request.id},
            )
            try:
                request.cancel(self._worker.pool, signal="SIGKILL", emit_retry=False)
            except Exception:
                logger.exception("Shutting down: the process of %s could not be ended", request.id)
            _release(request, has_begun=True)


def _release(request: Any, *, has_begun: bool) -> bool:
    """Releases the request's message; returns False if it was settled before."""
    parts: Parts = request.message.channel.parts
    message = parts.in_flight.find(request.message.delivery_tag)
    if message is None:
        return False
    return parts.settlement.release(message) if has_begun else parts.settlement.put_back(message)


@control_command()
def shutdown(state: Any, msg: str = "Got shutdown from remote", **_kwargs: Any) -> None:
    """Remote control's ``shutdown`` (Flower's button): graceful, like SIGTERM."""
    logger.warning("%s", msg)
    worker = state.consumer.controller
    if getattr(worker, "graceful_shutdown", None) is None:
        raise WorkerShutdown(EX_OK)
    worker.graceful_shutdown.begin()

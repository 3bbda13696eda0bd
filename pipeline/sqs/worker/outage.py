"""The worker's gate in its event loop: created once, given to each connection's channel, and checked for probes.

The gate belongs to the worker, which sees how the tasks of all its processes end. While the gate is closed, only tasks
that run are in flight. Waiting messages go back to the queue as new: that uses up no receives, other workers may get
them, and this worker may be scaled in.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import bootsteps
from celery.worker import state

from pipeline.sqs.outage.gate import Gate, GateState
from pipeline.sqs.transport.parts import Parts
from pipeline.sqs.transport.pool import waiting_requests

#: Seconds between checks of a closed gate.
LOOK_EVERY_S = 0.5

logger = logging.getLogger(__name__)


class GateStep(bootsteps.StartStopStep):
    """A step of the worker; ``worker.gate``."""

    requires = ("celery.worker.components:Hub", "celery.worker.components:Pool")

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        worker.gate = Gate(on_closed=self._on_closed)
        self._worker = worker

    def include_if(self, worker: Any) -> bool:
        return bool(worker.use_eventloop)

    def register_with_event_loop(self, worker: Any, hub: Any) -> None:
        """Called for each (re)start of the loop."""
        hub.call_repeatedly(LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        """Starts the receive for a probe; nothing else does."""
        if self._worker.gate.state is not GateState.CLOSED:
            consumer = getattr(self._worker.consumer, "task_consumer", None)
            if consumer is not None:
                consumer.channel.poller.resume()

    def _on_closed(self) -> None:
        """With a thread pool, any of its threads may call it."""
        self._worker.hub.call_soon(self._put_back_waiting)

    def _put_back_waiting(self) -> None:
        semaphore = getattr(self._worker, "semaphore", None)
        waiting = waiting_requests(self._worker.consumer)
        if semaphore is not None:
            semaphore._waiting.clear()  # otherwise the next free process would begin one
        for bucket in self._worker.consumer.task_buckets.values():
            if bucket is not None:
                bucket.clear_pending()
        for request in waiting:
            state.task_ready(request)
            parts: Parts = request.message.channel.parts
            message = parts.in_flight.find(request.message.delivery_tag)
            if message is not None:
                parts.settlement.defer(message, 0)
        logger.debug("%d waiting messages go back to the queue", len(waiting))


class GateOfChannel(bootsteps.StartStopStep):
    """A step of the consumer: its messages go through the worker's gate."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        gate = getattr(consumer.controller, "gate", None)
        if gate is not None:
            consumer.task_consumer.channel.gate = gate

"""A worker's health: it touches its heartbeat file only while it consumes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from celery import bootsteps

from pipeline.sqs.health import Heartbeat
from pipeline.sqs.outage.gate import GateState
from pipeline.sqs.transport.polling import BACKOFF, PollState
from pipeline.sqs.transport.pool import requests_in_pool

TOUCH_EVERY_S = 2.0
#: Seconds by which a callback may be late in a busy event loop.
LATE_S = 5.0
#: The note of a healthy worker while its gate is closed.
WAITING = "it starts no work while a service fails for everybody"


class HeartbeatStep(bootsteps.StartStopStep):
    """Touches the heartbeat file while the worker consumes."""

    requires = ("celery.worker.components:Hub",)

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        settings = worker.app.sqs.settings
        self._stale_s = settings.health_stale_s
        self._heartbeat = Heartbeat(Path(settings.health_folder), "worker", settings.health_stale_s)
        self._has_stopped = False

    def include_if(self, worker: Any) -> bool:
        return bool(worker.use_eventloop)

    def register_with_event_loop(self, worker: Any, hub: Any) -> None:
        hub.call_repeatedly(TOUCH_EVERY_S, self._look, worker)
        self._heartbeat.touch()

    def stop(self, worker: Any) -> None:
        self._has_stopped = True  # steps that stop later may run the loop
        self._heartbeat.remove()

    def terminate(self, worker: Any) -> None:
        self.stop(worker)

    def _look(self, worker: Any) -> None:
        if self._has_stopped:
            return
        consumer = worker.consumer.task_consumer
        if worker.graceful_shutdown.draining or (
            consumer is not None and is_consuming(consumer.channel, self._stale_s)
        ):
            is_open = consumer is None or consumer.channel.gate.state is GateState.OPEN
            self._heartbeat.touch("" if is_open else WAITING)


def is_consuming(channel: Any, stale_s: float) -> bool:
    """Whether polling works for each of the channel's queues, or will work again without help.

    An outage of SQS ends without help, and so does one of a service that the tasks need, while the gate is closed. But
    if only receives have failed for ``stale_s`` seconds, while SQS answers other requests about the queue, somebody has
    to help.
    """
    most_s = {
        PollState.OPEN: channel.reply_timeout_s + LATE_S,
        PollState.BACKING_OFF: BACKOFF.most_s + LATE_S,
        None: LATE_S,
    }
    for queue in channel._active_queues:
        poll = channel.poller.polls.get(queue)
        if poll is None:
            return False
        if poll.state is PollState.FULL:
            if not requests_in_pool() and not channel.gate.is_waiting(LATE_S):
                return False
        elif poll.age_s() > most_s[poll.state]:
            return False
        if poll.failures and queue in channel.reader.refused and time.monotonic() - poll.failing_since > stale_s:
            return False
    return True

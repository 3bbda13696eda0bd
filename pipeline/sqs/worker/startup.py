"""A worker's checks and preparations before it consumes."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any

from celery import bootsteps

from pipeline.sqs.settled import carry_proofs
from pipeline.sqs.worker import in_place
from pipeline.sqs.worker.pools import check_pool
from pipeline.sqs.worker.task_queues import check_task_queue

logger = logging.getLogger(__name__)


class Proofs(bootsteps.StartStopStep):
    """Before the pool's processes are forked, prepares their results to carry the proof that a task is settled, or the
    next task of its chain.

    Also loads this layer's remote control commands.
    """

    def __init__(self, parent: Any, **options: Any) -> None:
        carry_proofs()
        in_place.connect()
        import_module("pipeline.sqs.monitoring.commands")
        super().__init__(parent, **options)


class PoolCheck(bootsteps.StartStopStep):
    """Prevents a worker from starting with a pool that would run long tasks twice."""

    def start(self, parent: Any) -> None:
        """Raises ``ConfigError``, which ends the worker."""
        check_pool(parent.pool_cls, has_loop=parent.use_eventloop)


class MonitoringNotice(bootsteps.StartStopStep):
    """Warns at start if events and remote control are off."""

    def start(self, parent: Any) -> None:
        if parent.app.sqs.settings.topic_arn_prefix is None:
            logger.warning(
                "events and remote control are off: TOPIC_ARN_PREFIX is not set", extra={"action": "monitoring_off"}
            )


class DeadLetterCheck(bootsteps.StartStopStep):
    """Prevents a worker from starting on a queue that is not for tasks or has no dead-letter queue."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        """Raises ``ConfigError``, which ends the worker."""
        channel = consumer.task_consumer.channel
        for queue in consumer.task_consumer.queues:
            check_task_queue(queue.name, consumer.app.sqs)
            channel.parts.redrive.of(channel._new_queue(queue.name))

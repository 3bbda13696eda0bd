"""What a worker checks before it consumes."""

from __future__ import annotations

from typing import Any

from celery import bootsteps

from pipeline import aws
from pipeline.broker.dead_letters import dead_letter_url


class DeadLetterCheck(bootsteps.StartStopStep):
    """A worker does not start on a queue that has no dead-letter queue."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        """Raises ``ConfigError``, which ends the worker."""
        channel = consumer.task_consumer.channel
        for queue in consumer.task_consumer.queues:
            dead_letter_url(aws.sqs(long_poll=False), channel._new_queue(queue.name))

"""Replaces a remote control command of Celery that can end a worker on this broker. Workers import this module."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from celery.worker import control
from kombu.transport.SQS.exceptions import DoesNotExistQueueException

from pipeline.aws.errors import describe_error
from pipeline.aws.plain_errors import PlainError
from pipeline.sqs.worker.task_queues import check_task_queue

_stock_add_consumer = control.Panel.data["add_consumer"]


@control.control_command(
    args=[("queue", str), ("exchange", str), ("exchange_type", str), ("routing_key", str)],
    signature="<queue> [exchange [type [routing_key]]]",
)
def add_consumer(state: Any, queue: str, *args: Any, **options: Any) -> Any:
    """Tell worker(s) to consume from task queue by name; the queue has to exist."""
    # Celery replies first and declares the queue later, in its event loop, where a failure ends the worker.
    try:
        check_task_queue(queue, state.app.sqs)
        state.consumer.connection.default_channel._resolve_queue_url(queue)
    except (PlainError, DoesNotExistQueueException) as exc:
        return control.nok(str(exc))
    except (ClientError, BotoCoreError) as exc:
        return control.nok(f"queue {queue}: {describe_error(exc)}")
    return _stock_add_consumer(state, queue, *args, **options)

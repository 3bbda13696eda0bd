"""Finding queues by name: no ListQueues, and no queue made by mistake."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from kombu.transport import SQS
from kombu.transport.SQS.exceptions import UndefinedQueueException

from pipeline.aws import clients, queues
from pipeline.core.errors import ConfigError


class MissingQueue(ConfigError, UndefinedQueueException):
    """To kombu it is its own error."""


class Queues(SQS.Channel):
    def new_sqs_client(self, *_args: Any, **_kwargs: Any) -> Any:
        """The project's own client, whose time-outs and retries are set in one place."""
        return clients.sqs()

    def _update_queue_cache(self, queue_name_prefix: str) -> None:
        """Looks the one queue up by GetQueueUrl; called with the bare prefix, it has nothing to do."""
        if queue_name_prefix == self.queue_name_prefix:
            return
        client = self.sqs()
        try:
            found = client.get_queue_url(QueueName=queue_name_prefix)
        except client.exceptions.QueueDoesNotExist:
            return
        self._queue_cache[queue_name_prefix] = found["QueueUrl"]

    def _create_queue(self, queue_name: str, attributes: dict[str, Any]) -> Any:
        raise MissingQueue(queues.missing(queue_name))

    @cached_property
    def region(self) -> str:
        """What kombu's asynchronous client signs for; kombu would make a session of its own to find it out."""
        return clients.region() or clients.sqs().meta.region_name

"""Finding queues by name: no ListQueues, and no queue made by mistake."""

from __future__ import annotations

from typing import Any

from kombu.transport import SQS
from kombu.transport.SQS.exceptions import UndefinedQueueException

from pipeline import aws


class Queues(SQS.Channel):
    @property
    def region(self) -> str:
        """The client's; kombu makes a session of its own to find it out."""
        return aws.sqs().meta.region_name

    def new_sqs_client(self, *_args: Any, **_kwargs: Any) -> Any:
        """The project's own client, whose time-outs and retries are set in one place."""
        return aws.sqs()

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
        raise UndefinedQueueException(
            f"queue {queue_name} does not exist: deploy the stack that makes it, or correct QUEUE_PREFIX"
        )

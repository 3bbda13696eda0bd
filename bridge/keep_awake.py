"""Keeps CloudWatch publishing the depth of the tasks queue, which wakes the first worker.

CloudWatch stops for a queue that nobody has asked for anything in six hours, and needs up to a quarter of
an hour to begin again. The workers, which poll it, may all be stopped for a night; the bridge is not.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/monitoring-using-cloudwatch.html
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

logger = logging.getLogger(__name__)

EVERY_S = 300.0


class KeepAwake:
    """A thread that asks for a queue's depth now and then. A context manager: on leaving, it ends."""

    def __init__(self, sqs: SQSClient, queue: str, every_s: float = EVERY_S) -> None:
        self._sqs = sqs
        self._queue = queue
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keep-awake", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _run(self) -> None:
        while True:
            self.ask()
            if self._ended.wait(self._every_s):
                return

    def ask(self) -> None:
        """One look; that it fails is of no consequence until it does for hours."""
        try:
            url = self._sqs.get_queue_url(QueueName=self._queue)["QueueUrl"]
            self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        except (ClientError, BotoCoreError) as exc:
            logger.debug("the depth of %s could not be asked for: %s", self._queue, exc)

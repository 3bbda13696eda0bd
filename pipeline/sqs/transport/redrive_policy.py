"""A queue's redrive policy: its dead-letter queue, and how often SQS delivers a message before it goes there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.aws.plain_errors import ConfigError

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient


@dataclass(frozen=True, slots=True)
class RedrivePolicy:
    url: str  # of the dead-letter queue
    max_receives: int


def redrive_policy(sqs: SQSClient, url: str) -> RedrivePolicy:
    """The policy of the queue with this URL. Raises ``ConfigError`` if the policy or its queue does not exist."""
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])
    text = found.get("Attributes", {}).get("RedrivePolicy")
    name = url.rsplit("/", 1)[-1]
    if not text:
        raise ConfigError(
            f"queue {name} has no dead-letter queue, so what can't be processed would be lost: "
            "give it a RedrivePolicy (the stack does)"
        )
    policy = json.loads(text)
    dead = policy["deadLetterTargetArn"].rsplit(":", 1)[-1]
    try:
        return RedrivePolicy(sqs.get_queue_url(QueueName=dead)["QueueUrl"], int(policy["maxReceiveCount"]))
    except sqs.exceptions.QueueDoesNotExist:
        raise ConfigError(
            f"the dead-letter queue {dead} of queue {name} does not exist: deploy the stack that makes it"
        ) from None


class RedrivePolicies:
    """The redrive policy of each queue, requested once."""

    def __init__(self, sqs: Callable[[], SQSClient]) -> None:
        self._sqs = sqs
        self._known: dict[str, RedrivePolicy] = {}

    def of(self, url: str) -> RedrivePolicy:
        """The policy of the queue with this URL. Raises ``ConfigError``, and botocore's errors."""
        if url not in self._known:
            self._known[url] = redrive_policy(self._sqs(), url)
        return self._known[url]

    def is_last_receive(self, url: str, receives: int) -> bool:
        """Whether this was the last delivery of a message of this queue. False until the policy is known."""
        known = self._known.get(url)
        return known is not None and receives >= known.max_receives

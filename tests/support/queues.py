"""Looking into queues, as tests need it."""

from __future__ import annotations

import json
from typing import Any

from pipeline.aws import clients


def url(name: str) -> str:
    return clients.sqs().get_queue_url(QueueName=name)["QueueUrl"]


def depth(name: str) -> tuple[int, int]:
    """Messages ready and in flight."""
    names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    found = clients.sqs().get_queue_attributes(QueueUrl=url(name), AttributeNames=list(names))["Attributes"]
    ready, in_flight = (int(found[each]) for each in names)
    return ready, in_flight


def take_all(name: str) -> list[dict[str, Any]]:
    """Receives and deletes everything that is ready, in the order of arrival as far as the queue keeps it."""
    taken: list[dict[str, Any]] = []
    while (
        messages := clients.sqs()
        .receive_message(QueueUrl=url(name), MaxNumberOfMessages=10, MessageAttributeNames=["All"])
        .get("Messages")
    ):
        for message in messages:
            clients.sqs().delete_message(QueueUrl=url(name), ReceiptHandle=message["ReceiptHandle"])
            taken.append(dict(message))
    return taken


def headers(message: dict[str, Any]) -> dict[str, Any]:
    """The Celery headers of a task message."""
    found: dict[str, Any] = json.loads(message["Body"])["headers"]
    return found

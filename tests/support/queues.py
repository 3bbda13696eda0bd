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


def make_queue(client: Any, name: str, *, max_receives: int = 5, visibility_s: float = 30, dlq: bool = True) -> str:
    """A queue and its dead-letter queue ``<name>-dlq``; returns the URL of the queue."""
    attributes = {"VisibilityTimeout": f"{visibility_s:g}"}
    if dlq:
        dead = client.create_queue(QueueName=f"{name}-dlq")["QueueUrl"]
        found = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]
        policy = {"deadLetterTargetArn": found["QueueArn"], "maxReceiveCount": max_receives}
        attributes["RedrivePolicy"] = json.dumps(policy)
    made: str = client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    return made


def headers(message: dict[str, Any]) -> dict[str, Any]:
    """The Celery headers of a task message."""
    found: dict[str, Any] = json.loads(message["Body"])["headers"]
    return found

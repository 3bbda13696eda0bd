"""Makes queues as the pipeline and its tests need them."""

from __future__ import annotations

import json
from typing import Any


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

"""The events queue and its dead-letter queue on the model of SQS, with a clock, behind a boto3 client's methods."""

# ruff: noqa: N803 - named as boto3's arguments are
from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from botocore.exceptions import EndpointConnectionError

from tests.support.sqs_model import Sqs, SqsError, wire

EVENTS, DEAD = "pipeline-events", "pipeline-events-dlq"


class EventsQueueModel:
    """``clock`` is in seconds; each request takes ``REQUEST_S``. A receive of nothing waits for what is due next."""

    REQUEST_S = 0.02

    def __init__(self, max_receives: int = 5) -> None:
        self.clock = 0.0
        self.is_away = False  # every request fails
        self.requests: Counter[str] = Counter()
        self.receives: Counter[str] = Counter()  # of messages, by body
        self._sqs = Sqs()
        self.dead = self._sqs.create(DEAD, {}, {}, 0)
        policy = {"deadLetterTargetArn": self.dead.arn, "maxReceiveCount": max_receives}
        self.events = self._sqs.create(EVENTS, {"RedrivePolicy": json.dumps(policy)}, {}, 0)

    def put(self, *bodies: str) -> None:
        for body in bodies:
            self._sqs.send(self.events, {"MessageBody": body}, self.clock)

    def count(self) -> int:
        """Messages in the events queue, in flight or not."""
        self.events.advance(self.clock)
        return sum(self.events.counts().values())

    def pause(self, seconds: float) -> None:
        self.clock += seconds

    def _ask(self, action: str) -> None:
        self.requests[action] += 1
        self.clock += self.REQUEST_S
        if self.is_away:
            raise EndpointConnectionError(endpoint_url="https://sqs")

    def get_queue_url(self, QueueName: str) -> dict[str, str]:
        return {"QueueUrl": QueueName}

    def receive_message(
        self, QueueUrl: str, MaxNumberOfMessages: int, WaitTimeSeconds: int, VisibilityTimeout: int, **_: Any
    ) -> dict[str, Any]:
        self._ask("receive")
        queue = self._sqs.find(QueueUrl)
        found = self._sqs.receive(queue, MaxNumberOfMessages, VisibilityTimeout, self.clock)
        due = queue.next_due()
        if not found:
            self.clock += WaitTimeSeconds if due is None else min(WaitTimeSeconds, max(0.0, due - self.clock))
            found = self._sqs.receive(queue, MaxNumberOfMessages, VisibilityTimeout, self.clock)
        self.receives.update(message.body for message in found)
        return {"Messages": [wire(message, ()) for message in found]}

    def change_message_visibility_batch(self, QueueUrl: str, Entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
        self._ask("change visibility")
        failed = []
        for entry in Entries:
            try:
                self._sqs.change_visibility(
                    self._sqs.find(QueueUrl), entry["ReceiptHandle"], entry["VisibilityTimeout"], self.clock
                )
            except SqsError as exc:
                failed.append({"Id": entry["Id"], "Code": exc.code, "SenderFault": True})
        return {"Failed": failed}

    def delete_message_batch(self, QueueUrl: str, Entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
        self._ask("delete")
        for entry in Entries:
            self._sqs.delete(self._sqs.find(QueueUrl), entry["ReceiptHandle"])
        return {}

    def send_message(self, QueueUrl: str, **entry: Any) -> dict[str, Any]:
        self._ask("send")
        return self._sqs.send(self._sqs.find(QueueUrl), entry, self.clock)

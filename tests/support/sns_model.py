"""The part of SNS that Celery uses: topics whose subscribers are SQS queues."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field

from tests.support.sqs_model import ACCOUNT, REGION, Sqs


class SnsError(Exception):
    """An error reply of the query protocol: ``code``, HTTP 404 when not found."""

    def __init__(self, code: str, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.code = code
        self.status = status


@dataclass
class Subscription:
    arn: str
    topic_arn: str
    endpoint: str
    attributes: dict[str, str]

    @property
    def raw(self) -> bool:
        return self.attributes.get("RawMessageDelivery", "false").lower() == "true"


@dataclass
class Sns:
    sqs: Sqs
    topics: set[str] = field(default_factory=set)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)

    def create_topic(self, name: str) -> str:
        arn = f"arn:aws:sns:{REGION}:{ACCOUNT}:{name}"
        self.topics.add(arn)
        return arn

    def topic(self, arn: str) -> str:
        if arn not in self.topics:
            raise SnsError("NotFound", f"Topic does not exist: {arn}", 404)
        return arn

    def subscribe(self, topic_arn: str, endpoint: str, attributes: dict[str, str]) -> Subscription:
        for known in self.of_topic(self.topic(topic_arn)):
            if known.endpoint == endpoint:
                return known
        made = Subscription(f"{topic_arn}:{uuid.uuid4()}", topic_arn, endpoint, attributes)
        self.subscriptions[made.arn] = made
        return made

    def of_topic(self, topic_arn: str) -> list[Subscription]:
        return [found for found in self.subscriptions.values() if found.topic_arn == topic_arn]

    def publish(self, topic_arn: str, message: str, now: float) -> list[str]:
        """Sends to every subscribed queue that exists; returns the names of those."""
        reached = []
        for subscription in self.of_topic(self.topic(topic_arn)):
            name = subscription.endpoint.split(":")[-1]
            queue = self.sqs.queues.get(name)
            if queue is None:
                continue
            envelope = {"Type": "Notification", "TopicArn": topic_arn, "Message": message}
            self.sqs.send(queue, {"MessageBody": message if subscription.raw else json.dumps(envelope)}, now)
            reached.append(name)
        return reached

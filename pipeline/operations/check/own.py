"""Checks the configured buckets and queues: they exist, are connected, and may be used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pipeline.aws import clients
from pipeline.core.queue_names import EVENTS_QUEUE, QUEUES
from pipeline.core.settings import Settings
from pipeline.operations import own_queues
from pipeline.operations.check.guarantee import Broken, Guarantee

#: With fewer receives, a task whose worker was lost for other reasons would become a dead letter.
MIN_RECEIVES = 3


def guarantees(settings: Settings) -> Iterator[Guarantee]:
    """The checks of the configured buckets and queues; none if none are configured."""
    if not settings.input_buckets or settings.output_bucket is None:
        return
    for name in QUEUES:
        yield Guarantee(
            f"queue {settings.queue_prefix}{name}",
            "nothing would be processed, or a task that crashes its worker would be delivered for ever",
            lambda _, name=name: _queue(settings, name),  # type: ignore[misc]
        )
    for source in settings.input_buckets:
        yield Guarantee(
            f"bucket {source}",
            "uploads could not be read, or a removed object could not be distinguished from a forbidden one",
            lambda _, source=source: _readable(source),  # type: ignore[misc]
        )
        yield Guarantee(
            f"events of {source}",
            "uploads would not be processed automatically",
            lambda _, source=source: _told(settings, source),  # type: ignore[misc]
        )


def _attributes(settings: Settings, name: str) -> dict[str, Any]:
    url = own_queues.url_of(settings, name)
    found: Any = clients.sqs().get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    attributes: dict[str, Any] = found["Attributes"]
    return attributes


def _queue(settings: Settings, name: str) -> str:
    found = _attributes(settings, name)
    policy = json.loads(found.get("RedrivePolicy", "{}"))
    if not policy:
        raise Broken("it has no dead-letter queue (RedrivePolicy)")
    if int(policy["maxReceiveCount"]) < MIN_RECEIVES:
        raise Broken(f"maxReceiveCount is {policy['maxReceiveCount']}, and each lost worker counts: 5 is usual")
    return f"exists; dead letters after {policy['maxReceiveCount']} receives"


def _readable(bucket: str) -> str:
    clients.s3().list_objects_v2(Bucket=bucket, MaxKeys=1)
    return "exists, and may be listed"


def _told(settings: Settings, bucket: str) -> str:
    found: Any = clients.client("s3").get_bucket_notification_configuration(Bucket=bucket)
    queue = _attributes(settings, EVENTS_QUEUE)["QueueArn"]
    events = [
        event
        for entry in found.get("QueueConfigurations", [])
        if entry["QueueArn"] == queue
        for event in entry["Events"]
    ]
    if any(event.startswith("s3:ObjectCreated") for event in events):
        removals = any(event.startswith("s3:ObjectRemoved") for event in events)
        return f"go to {settings.queue_prefix}events, uploads {'and removals' if removals else 'but no removals'}"
    if "EventBridgeConfiguration" in found:
        return "go to EventBridge, which needs a rule to the events queue"
    if found.get("TopicConfigurations"):
        return "go to a topic, which needs a subscription of the events queue"
    raise Broken(f"its notifications do not lead to {settings.queue_prefix}events")

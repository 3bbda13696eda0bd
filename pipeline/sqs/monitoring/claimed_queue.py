"""Creates, claims and removes a temporary queue with its subscription.

The tag ``claimed-until`` protects a queue in use: its owner renews the claim, and the sweep
(``pipeline.sqs.monitoring.sweep``) removes only queues whose claim has expired.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from pipeline.aws import clients
from pipeline.aws.errors import is_missing
from pipeline.aws.plain_errors import ConfigError
from pipeline.sqs.monitoring.names import Kind

logger = logging.getLogger(__name__)

#: Tags of the queues. ``claimed-until`` is in seconds since 1970.
APP_TAG, APP = "app", "batch-image-pipeline"
PURPOSE_TAG, OWNER_TAG, UNTIL_TAG = "purpose", "owner", "claimed-until"

#: Retention of unread messages in seconds (SQS's minimum is 60). Older commands and events are useless. A late reply is
#: received by the next call, which drops it.
RETENTION_S = {Kind.CONTROL: 60, Kind.EVENTS: 60, Kind.REPLY: 300}
#: Longer than any retention: a received message is never delivered again, so nothing needs to be deleted.
VISIBILITY_S = 3600


@contextmanager
def _missing_is_fine() -> Iterator[None]:
    try:
        yield
    except ClientError as exc:
        if not is_missing(exc):
            raise


@dataclass(slots=True)
class ClaimedQueue:
    """A queue of one process. Its claim lasts ``ttl_s`` seconds, in which nobody else removes it."""

    name: str
    kind: Kind
    topic_arn: str | None  # what it is subscribed to
    ttl_s: int
    url: str = ""
    subscription_arn: str | None = None
    released: bool = False  # nobody reads it any more


def remove(url: str, subscription_arn: str | None) -> None:
    """Removes a subscription and its queue; ignores missing ones. Raises botocore's errors."""
    if subscription_arn is not None:
        with _missing_is_fine():
            clients.sns().unsubscribe(SubscriptionArn=subscription_arn)
    with _missing_is_fine():
        clients.sqs().delete_queue(QueueUrl=url)


def make(queue: ClaimedQueue) -> None:
    attributes: dict[Any, str] = {
        "MessageRetentionPeriod": str(RETENTION_S[queue.kind]),
        "VisibilityTimeout": str(VISIBILITY_S),
    }
    if queue.topic_arn is not None:
        # Set at creation, since a later SetQueueAttributes may take a minute to take effect.
        attributes["Policy"] = _policy(queue.name, queue.topic_arn)
    tags = {APP_TAG: APP, PURPOSE_TAG: queue.kind.value, OWNER_TAG: _owner(), UNTIL_TAG: _until(queue.ttl_s)}
    queue.url = clients.sqs().create_queue(QueueName=queue.name, Attributes=attributes, tags=tags)["QueueUrl"]
    if queue.topic_arn is not None:
        queue.subscription_arn = _subscribe(queue.name, queue.url, queue.topic_arn)
    logger.debug("made %s", queue.name)


def _subscribe(name: str, url: str, topic_arn: str) -> str:
    try:
        with topic_errors(topic_arn):
            return clients.sns().subscribe(
                TopicArn=topic_arn,
                Protocol="sqs",
                Endpoint=queue_arn(name, topic_arn),
                Attributes={"RawMessageDelivery": "true"},
                ReturnSubscriptionArn=True,
            )["SubscriptionArn"]
    except ConfigError:
        remove(url, None)
        raise


@contextmanager
def topic_errors(topic_arn: str) -> Iterator[None]:
    """Converts boto3's errors for a missing topic into ``ConfigError``."""
    try:
        yield
    except ClientError as exc:
        if not is_missing(exc):
            raise
        raise ConfigError(
            f"topic {topic_arn} does not exist: deploy the stack that makes it, or correct TOPIC_ARN_PREFIX or "
            "QUEUE_PREFIX"
        ) from exc


def claim(queue: ClaimedQueue) -> None:
    try:
        clients.sqs().tag_queue(QueueUrl=queue.url, Tags={UNTIL_TAG: _until(queue.ttl_s)})
    except ClientError as exc:
        if not is_missing(exc):
            raise
        logger.warning("%s was deleted while in use; it is made again", queue.name)
        make(queue)


def queue_arn(name: str, topic_arn: str) -> str:
    """The ARN of a queue in the topic's region and account."""
    partition, _, region, account = topic_arn.split(":")[1:5]
    return f"arn:{partition}:sqs:{region}:{account}:{name}"


def _policy(name: str, topic_arn: str) -> str:
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "sns.amazonaws.com"},
                    "Action": "sqs:SendMessage",
                    "Resource": queue_arn(name, topic_arn),
                    "Condition": {"ArnEquals": {"aws:SourceArn": topic_arn}},
                }
            ],
        }
    )


def _until(ttl_s: int) -> str:
    return str(int(time.time()) + ttl_s)


def _owner() -> str:
    """Host and process id, in characters that a tag may contain."""
    return re.sub(r"[^\w.:/=+@-]", "-", f"{socket.gethostname()}:{os.getpid()}")[:256]

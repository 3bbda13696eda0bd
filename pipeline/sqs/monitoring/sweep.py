"""Removes the queues and subscriptions that killed processes have left behind; never one that is claimed.

A process removes its own queues when it ends. A killed process can't: its queues stay, cost nothing, and are removed
here when their claim (``pipeline.sqs.monitoring.claimed_queue``) has expired.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.aws import clients
from pipeline.aws.errors import describe_error, is_denied, is_missing
from pipeline.aws.plain_errors import PlainError
from pipeline.sqs.monitoring.claimed_queue import APP, APP_TAG, UNTIL_TAG, remove, topic_errors
from pipeline.sqs.monitoring.names import kind_of, topics
from pipeline.sqs.settings import BrokerSettings

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Swept:
    """What a sweep found and did. ``claimed``: queues in use; ``unknown``: queues without a claim, left alone."""

    removed: list[str] = field(default_factory=list)
    claimed: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    listed: bool = True  # False: ListQueues is denied, so queues without a subscription were not seen

    def __str__(self) -> str:
        text = f"{len(self.removed)} removed, {len(self.claimed)} in use"
        if self.unknown:
            text += f", {len(self.unknown)} left alone because they carry no claim: {', '.join(self.unknown)}"
        if not self.listed:
            text += "; reply queues were not seen, since sqs:ListQueues is denied"
        return text


def sweep(settings: BrokerSettings, *, now: float | None = None) -> Swept:
    """Removes queues whose claim has expired at ``now`` (seconds since 1970; None: the current time).

    Needs ListSubscriptionsByTopic and ListQueueTags; with ListQueues it also finds queues that have no
    subscription. Raises ``PlainError`` when AWS does not let it.
    """
    moment = time.time() if now is None else now
    swept = Swept()
    try:
        subscriptions = dict(_subscriptions(settings))
        found = _listed(settings)
        if found is None:
            swept.listed, found = False, []
        for name in sorted({*found, *subscriptions}):
            _sweep_one(name, subscriptions.get(name), moment, swept)
    except (ClientError, BotoCoreError) as exc:
        raise PlainError(f"the sweep could not be done: {describe_error(exc)}") from exc
    logger.info("sweep: %s", swept, extra={"action": "sweep", "removed": swept.removed})
    return swept


def _sweep_one(name: str, subscription_arn: str | None, now: float, swept: Swept) -> None:
    url, until = "", ""
    try:
        url = clients.sqs().get_queue_url(QueueName=name)["QueueUrl"]
        tags = clients.sqs().list_queue_tags(QueueUrl=url).get("Tags", {})
        until = tags.get(UNTIL_TAG, "") if tags.get(APP_TAG) == APP else ""
    except ClientError as exc:
        if not is_missing(exc):
            raise
        until = "0"  # the queue is gone; its subscription may have stayed
    if not until.isdecimal():
        swept.unknown.append(name)
    elif int(until) >= now:
        swept.claimed.append(name)
    else:
        remove(url, subscription_arn)
        swept.removed.append(name)


def _subscriptions(settings: BrokerSettings) -> Iterator[tuple[str, str]]:
    """The temporary queues with a subscription: pairs of the queue's name and the subscription's ARN."""
    for topic in topics(settings).values():
        for page in _pages(topic["arn"]):
            for subscription in page["Subscriptions"]:
                name = subscription["Endpoint"].rsplit(":", 1)[-1]
                if subscription["Protocol"] == "sqs" and kind_of(name, settings.queue_prefix):
                    yield name, subscription["SubscriptionArn"]


def _pages(topic_arn: str) -> Iterator[Any]:
    with topic_errors(topic_arn):
        yield from clients.sns().get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic_arn)


def _listed(settings: BrokerSettings) -> list[str] | None:
    """The names of the temporary queues; None if ListQueues is not allowed."""
    names: list[str] = []
    try:
        pages = (
            clients.sqs()
            .get_paginator("list_queues")
            .paginate(QueueNamePrefix=settings.queue_prefix, PaginationConfig={"PageSize": 1000})
        )
        for page in pages:
            names += [url.rsplit("/", 1)[-1] for url in page.get("QueueUrls", [])]
    except ClientError as exc:
        if is_denied(exc):
            return None
        raise
    return [name for name in names if kind_of(name, settings.queue_prefix)]

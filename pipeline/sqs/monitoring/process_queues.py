"""The SQS queues that this process owns: made with their subscription, kept alive, and removed with it.

Nobody removes a queue that is in use: each carries the time until which its owner claims it, the owner
moves that time on, and only a queue whose time has passed is swept (``pipeline.sqs.monitoring.sweep``).
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.aws import clients
from pipeline.aws.errors import describe_error, is_missing
from pipeline.aws.plain_errors import ConfigError, PlainError
from pipeline.sqs.monitoring.names import Kind

logger = logging.getLogger(__name__)

#: Tags of the queues. ``claimed-until`` is in seconds since 1970.
APP_TAG, APP = "app", "batch-image-pipeline"
PURPOSE_TAG, OWNER_TAG, UNTIL_TAG = "purpose", "owner", "claimed-until"

#: Seconds that an unread message lives (60 is the least that SQS allows). A command or an event that
#: is older helps nobody; an old reply is taken by the next call, which drops it.
RETENTION_S = {Kind.CONTROL: 60, Kind.EVENTS: 60, Kind.REPLY: 300}
#: Longer than any retention: what was received once is never seen again, so nothing has to be deleted.
VISIBILITY_S = 3600


@contextmanager
def _missing_is_fine() -> Iterator[None]:
    try:
        yield
    except ClientError as exc:
        if not is_missing(exc):
            raise


@dataclass(slots=True)
class OwnedQueue:
    name: str
    kind: Kind
    topic_arn: str | None  # what it is subscribed to
    ttl_s: int
    url: str = ""
    subscription_arn: str | None = None
    released: bool = False  # nobody reads it any more


@dataclass(slots=True)
class OwnedQueues:
    """All queues that this process owns. A thread moves their claims on until the process ends."""

    _queues: dict[str, OwnedQueue] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closing: threading.Event = field(default_factory=threading.Event)
    _keeper: threading.Thread | None = None
    _pid: int = field(default_factory=os.getpid)

    @property
    def closed(self) -> bool:
        return self._closing.is_set()

    def url(self, name: str) -> str | None:
        queue = self._queues.get(name)
        return None if queue is None else queue.url

    def open(self, name: str, kind: Kind, topic_arn: str | None, *, ttl_s: int) -> str:
        """Makes the queue, subscribed to the topic; returns its URL. Of a queue that is open, only the latter.

        Raises botocore's errors, and ``PlainError`` when the process is ending.
        """
        with self._lock:
            if (known := self._queues.get(name)) is not None:
                known.released = False
                return known.url
            if self.closed:
                raise PlainError(f"{name} was not made: this process is ending")
            queue = OwnedQueue(name, kind, topic_arn, ttl_s)
            _make(queue)
            self._queues[name] = queue
            if self._keeper is None:
                atexit.register(self.close)
                self._keeper = threading.Thread(target=self._keep, name="queue-keeper", daemon=True)
                self._keeper.start()
            return queue.url

    def release(self, name: str) -> None:
        """Its last reader is gone: it is removed when no poll of it can be open any more, or at exit."""
        if (queue := self._queues.get(name)) is not None:
            queue.released = True

    def renew(self) -> None:
        """Moves the claims on, and removes what was released. Makes anew what somebody deleted."""
        for name in list(self._queues):
            try:
                with self._lock:
                    self._renew(name)
            except (ClientError, BotoCoreError) as exc:
                logger.warning("%s: its claim could not be renewed: %s", name, describe_error(exc))

    def _renew(self, name: str) -> None:
        queue = self._queues.get(name)
        if queue is None:
            return  # the process is ending
        if queue.released:
            del self._queues[name]
            remove(queue.url, queue.subscription_arn)
        else:
            _claim(queue)

    def close(self) -> None:
        """Removes them all. Called at exit; a forked child leaves its parent's alone."""
        if os.getpid() != self._pid:
            return
        self._closing.set()
        with self._lock:
            queues, self._queues = self._queues, {}
        for queue in queues.values():
            try:
                remove(queue.url, queue.subscription_arn)
            except (ClientError, BotoCoreError) as exc:
                logger.warning("%s: not removed, which is left to the sweep: %s", queue.name, describe_error(exc))

    def _keep(self) -> None:
        # Three times within it, so that one failed call loses nothing.
        while not self._closing.wait(min((queue.ttl_s for queue in list(self._queues.values())), default=60) / 3):
            self.renew()


@cache
def owned() -> OwnedQueues:
    """The queues of this process."""
    return OwnedQueues()


def _own_nothing() -> None:
    owned.cache_clear()
    owned()


owned()  # now, as threads that were the first to call it at the same time would each get their own
# A forked child owns none of its parent's.
os.register_at_fork(after_in_child=_own_nothing)


def remove(url: str, subscription_arn: str | None) -> None:
    """Removes a subscription and its queue; what is gone already is no error. Raises botocore's errors."""
    if subscription_arn is not None:
        with _missing_is_fine():
            clients.sns().unsubscribe(SubscriptionArn=subscription_arn)
    with _missing_is_fine():
        clients.sqs().delete_queue(QueueUrl=url)


def _make(queue: OwnedQueue) -> None:
    attributes: dict[Any, str] = {
        "MessageRetentionPeriod": str(RETENTION_S[queue.kind]),
        "VisibilityTimeout": str(VISIBILITY_S),
    }
    if queue.topic_arn is not None:
        # Given at creation, since a later SetQueueAttributes may take a minute to have effect.
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
    """Turns what boto3 raises for a topic that is not there into ``ConfigError``."""
    try:
        yield
    except ClientError as exc:
        if not is_missing(exc):
            raise
        raise ConfigError(
            f"topic {topic_arn} does not exist: deploy the stack that makes it, or correct TOPIC_ARN_PREFIX or "
            "QUEUE_PREFIX"
        ) from exc


def _claim(queue: OwnedQueue) -> None:
    try:
        clients.sqs().tag_queue(QueueUrl=queue.url, Tags={UNTIL_TAG: _until(queue.ttl_s)})
    except ClientError as exc:
        if not is_missing(exc):
            raise
        logger.warning("%s was deleted while in use; it is made again", queue.name)
        _make(queue)


def queue_arn(name: str, topic_arn: str) -> str:
    """The ARN of a queue of the same region and account as a topic."""
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
    """Host and process; of the characters that a tag may have."""
    return re.sub(r"[^\w.:/=+@-]", "-", f"{socket.gethostname()}:{os.getpid()}")[:256]

"""Fanout over the stack's SNS topics, for events and remote control: kombu's SQS transport has none.

It creates only queues with the exact names of ``pipeline.sqs.monitoring.names``, and only for the process that will
read them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from kombu.transport.SQS.exceptions import DoesNotExistQueueException, UndefinedQueueException
from kombu.utils.json import dumps

from pipeline.aws import clients
from pipeline.aws.errors import describe_error, is_missing
from pipeline.aws.plain_errors import ConfigError
from pipeline.sqs.monitoring import names
from pipeline.sqs.monitoring.claimed_queue import topic_errors
from pipeline.sqs.monitoring.names import Kind
from pipeline.sqs.monitoring.process_queues import owned

logger = logging.getLogger(__name__)

#: Default of the transport option: see CONTROL_QUEUE_TTL_S.
DEFAULT_QUEUE_TTL_S = 900


class Fanout:
    """``topics``: exchange → ``{"arn": …}``. ``queue_ttl_s``: seconds until a killed process's queues may be swept."""

    def __init__(self, topics: Mapping[str, Mapping[str, str]], queue_ttl_s: int) -> None:
        self._topics = topics
        self._queue_ttl_s = queue_ttl_s

    def has(self, exchange: str | None) -> bool:
        return exchange in self._topics

    def publish(self, exchange: str, message: Mapping[str, Any]) -> None:
        """Publishes to all subscribed queues. Raises ``ConfigError`` for a missing topic, and botocore's errors."""
        topic_arn = self._topic_arn(exchange)
        with topic_errors(topic_arn):
            clients.sns().publish(TopicArn=topic_arn, Message=dumps(message))

    def open_queue(self, name: str, kind: Kind) -> str:
        """Creates a queue of this process, subscribed to the topic of its kind; returns its URL.

        Raises ``ConfigError`` if there are no topics, even for a reply queue, which is subscribed to none.
        """
        topic_arn = self._topic_arn(names.CONTROL_EXCHANGE if kind.exchange is None else kind.exchange)
        subscribed_to = None if kind.exchange is None else topic_arn
        return owned().open(name, kind, subscribed_to, ttl_s=self._queue_ttl_s)

    def _topic_arn(self, exchange: str) -> str:
        try:
            return self._topics[exchange]["arn"]
        except KeyError:
            raise ConfigError(
                "Events and remote control are off: set TOPIC_ARN_PREFIX to where the stack's topics are"
            ) from None


@contextmanager
def replying(queue: str) -> Iterator[None]:
    """A reply that can't be sent is not retried: its requester has stopped waiting by then."""
    try:
        yield
    except (DoesNotExistQueueException, UndefinedQueueException):
        logger.debug("nobody waits for a reply on %s any more", queue)
    except (ClientError, BotoCoreError) as exc:
        level = logging.DEBUG if isinstance(exc, ClientError) and is_missing(exc) else logging.WARNING
        logger.log(level, "a reply on %s was not sent: %s", queue, describe_error(exc))


def reply_poll_s(long_poll_s: int | None, waits_s: float | None) -> int | None:
    """Returns the seconds to poll for a reply: as long as the requester waits, not as long as workers poll."""
    return long_poll_s if not long_poll_s or waits_s is None else min(long_poll_s, max(1, math.ceil(waits_s)))

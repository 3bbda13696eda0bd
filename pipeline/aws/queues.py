"""Looks up queues' URLs and depths, and describes errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.aws import clients
from pipeline.aws.errors import code, describe_error, is_denied, is_missing_queue
from pipeline.aws.plain_errors import ConfigError, PlainError, TransientError

if TYPE_CHECKING:
    from types_boto3_sqs.literals import QueueAttributeNameType

#: A queue's messages: visible, in flight, and delayed.
_DEPTHS: tuple[QueueAttributeNameType, ...] = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


def place() -> str:
    """Where the queues are: the region, or the host of an endpoint that is not AWS's. Raises ``ConfigError``."""
    meta = clients.sqs().meta
    host = urlsplit(meta.endpoint_url).netloc
    return meta.region_name if host.endswith((".amazonaws.com", ".amazonaws.com.cn")) else host


def url_of(full_name: str) -> str:
    """The URL of a queue by its full name. Raises ``ConfigError`` and ``TransientError``."""
    with sqs_errors(full_name, "GetQueueUrl"):
        return clients.sqs().get_queue_url(QueueName=full_name)["QueueUrl"]


def found_url(full_name: str) -> str | None:
    """The URL of a queue by its full name, or None if it does not exist. Raises boto3's other errors."""
    try:
        return clients.sqs().get_queue_url(QueueName=full_name)["QueueUrl"]
    except ClientError as exc:
        if is_missing_queue(exc):
            return None
        raise


def depth(url: str) -> int:
    """The approximate number of messages in a queue. Raises ``PlainError``."""
    with sqs_errors(url.rsplit("/", 1)[-1], "GetQueueAttributes"):
        found = clients.sqs().get_queue_attributes(QueueUrl=url, AttributeNames=list(_DEPTHS))["Attributes"]
    return sum(int(found.get(name, "0")) for name in _DEPTHS)


@contextmanager
def sqs_errors(queue: str, action: str) -> Iterator[None]:
    """Converts boto3's errors; the message names the queue and, if access is denied, the action."""
    try:
        yield
    except ClientError as exc:
        raise _meaning(exc, queue, action) from exc
    except BotoCoreError as exc:
        raise TransientError(f"queue {queue}: {describe_error(exc)}") from exc


def _meaning(exc: ClientError, queue: str, action: str) -> PlainError:
    if is_missing_queue(exc):
        return ConfigError(missing(queue))
    if is_denied(exc):
        return TransientError(f"queue {queue}: not allowed ({code(exc)}); these credentials need sqs:{action} on it")
    return TransientError(f"queue {queue}: {describe_error(exc)}")


def missing(queue: str) -> str:
    """Error message for a missing queue. ``queue``: its full name."""
    return f"queue {queue} does not exist: deploy the stack that makes it, or correct QUEUE_PREFIX or AWS_REGION"

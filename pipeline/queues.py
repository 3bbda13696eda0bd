"""Looking at the pipeline's queues, as the verbs of the command line need it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from pipeline import aws
from pipeline.config import Settings
from pipeline.errors import ConfigError, PipelineError, TransientError

if TYPE_CHECKING:
    from types_boto3_sqs.literals import QueueAttributeNameType

#: What waits in a queue: ready, being worked on, and delayed.
_DEPTHS: tuple[QueueAttributeNameType, ...] = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
#: Error codes for a queue that is not there, with and without the prefix of SQS's older protocol.
MISSING = frozenset({"QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"})


def url_of(settings: Settings, name: str) -> str:
    """The URL of ``events``, ``tasks`` or one of their ``-dlq``. Raises ``ConfigError`` and ``TransientError``."""
    full = settings.queue_prefix + name
    with sqs_errors(full, "GetQueueUrl"):
        return aws.sqs().get_queue_url(QueueName=full)["QueueUrl"]


def depth(url: str) -> int:
    """Messages in a queue, about. Raises ``PipelineError``."""
    with sqs_errors(url.rsplit("/", 1)[-1], "GetQueueAttributes"):
        found = aws.sqs().get_queue_attributes(QueueUrl=url, AttributeNames=list(_DEPTHS))["Attributes"]
    return sum(int(found.get(name, "0")) for name in _DEPTHS)


def waiting(settings: Settings) -> int:
    """Messages in both queues, as far as they can be asked: 0 where they can't."""
    try:
        return sum(depth(url_of(settings, name)) for name in ("events", "tasks"))
    except PipelineError:
        return 0


@contextmanager
def sqs_errors(queue: str, action: str) -> Iterator[None]:
    """Turns what boto3 raises into this project's errors, naming the queue and, where it is denied, the action."""
    try:
        yield
    except ClientError as exc:
        raise _meaning(exc, queue, action) from exc
    except BotoCoreError as exc:
        raise TransientError(f"queue {queue}: {exc}") from exc


def _meaning(exc: ClientError, queue: str, action: str) -> PipelineError:
    code = str(exc.response.get("Error", {}).get("Code", ""))
    status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code in MISSING:
        return ConfigError(f"queue {queue} does not exist: deploy the stack that makes it, or correct QUEUE_PREFIX")
    if status == 403 or code in ("AccessDenied", "AccessDeniedException"):
        return TransientError(f"queue {queue}: not allowed ({code}); these credentials need sqs:{action} on it")
    return TransientError(f"queue {queue}: SQS answered {status} {code} to {action}")

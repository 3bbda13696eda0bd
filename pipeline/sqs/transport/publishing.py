"""Publishing in batches: ``with batched(app):`` gathers the messages of the block and sends ten at a time.

Built on kombu's ``Producer.batch``, whose sessions a channel makes. Inside the block a publish returns
before its message is sent. When the block ends without an error, all its messages are in the queue.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeGuard

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.aws.backoff import Backoff
from pipeline.aws.batches import MAX_ENTRIES
from pipeline.aws.errors import describe_error
from pipeline.aws.plain_errors import PlainError, TransientError
from pipeline.sqs import forking
from pipeline.sqs.transport.batcher import BatchFailure, failed_entries
from pipeline.sqs.transport.text import escaped_once, to_text

if TYPE_CHECKING:
    from celery import Celery
    from types_boto3_sqs import SQSClient

#: SQS's limit for a message, and for all messages of a batch call: 1 MiB since August 2025.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html
MAX_BATCH_BYTES = 1_048_576
#: Tries of an entry that SQS refuses while it accepts others.
MAX_TRIES = 4
BACKOFF = Backoff(0.4, 1.6)


@dataclass(frozen=True, slots=True)
class PublishEntry:
    """A message to send, with its task's id, by which the sender identifies it."""

    url: str
    message: dict[str, Any]  # as SendMessage takes it
    size_bytes: int
    task: str
    task_id: str
    root_id: str  # of a chain: its first task's id


class PublishError(TransientError):
    """Some tasks were not published: ``unsent`` names them. All others of the batch are in the queue."""

    def __init__(self, failures: Sequence[BatchFailure[PublishEntry]]) -> None:
        self._failures = tuple(failures)
        self.unsent = tuple(failure.item for failure in failures)
        shown = "; ".join(f"{f.item.task}[{f.item.task_id}]: {f.reason}" for f in failures[:MAX_ENTRIES])
        more = f" and {len(failures) - MAX_ENTRIES} more" if len(failures) > MAX_ENTRIES else ""
        super().__init__(f"{len(failures)} messages could not be published: {shown}{more}. Publish them again.")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pool processes send it to their worker."""
        return type(self), (self._failures,)

    @property
    def is_refusal(self) -> bool:
        """Whether SQS was reached and refused these messages because of their content."""
        return all(failure.final for failure in self._failures)

    @property
    def root_ids(self) -> frozenset[str]:
        return frozenset(entry.root_id for entry in self.unsent)


class BatchEnded(PlainError):
    """Something was published after its ``with batched(app)`` had ended, such as by an asyncio task begun inside."""


@dataclass(slots=True)
class _Batch:
    app: Any
    producer: Any
    thread: int = field(default_factory=threading.get_ident)
    has_ended: bool = False


_active: ContextVar[_Batch | None] = ContextVar("pipeline_publish_batch", default=None)


@contextmanager
def batched(app: Celery) -> Iterator[None]:
    """Gathers the messages that this thread publishes through ``app`` inside the block.

    Sends them whenever ten messages or 1 MiB are gathered, and at the end. Raises ``PublishError`` at the end for
    messages that SQS refused, and at once if SQS can't be reached. An exception inside the block drops the unsent
    messages. Nested blocks are one batch.
    """
    active = _active.get()
    if _is_here(active, app) and not active.has_ended:
        yield
        return
    forking.load(app)
    with app.producer_pool.acquire(block=True) as producer:
        batch = _Batch(app, producer)
        token = _active.set(batch)
        try:
            with producer.batch(max_size=MAX_ENTRIES):
                yield
        finally:
            batch.has_ended = True
            _active.reset(token)


def _is_here(active: _Batch | None, app: Any) -> TypeGuard[_Batch]:
    """Whether the batch belongs to this thread and app. Another thread may have a copy of this thread's context."""
    return active is not None and active.app is app and active.thread == threading.get_ident()


def active_producer(app: Celery) -> Any:
    """The producer that this thread must publish through, or None. Raises ``BatchEnded``."""
    active = _active.get()
    if not _is_here(active, app):
        return None
    if active.has_ended:
        raise BatchEnded(
            "this was begun inside `with batched(app)`, which has ended, so what it publishes would go nowhere: await "
            "it inside the block, or begin it outside"
        )
    return active.producer


#: Decides, from a queue's name and a task's message, whether to keep the message instead of sending it.
Keep = Callable[[str, PublishEntry], bool]
_keep: ContextVar[Keep | None] = ContextVar("pipeline_keep", default=None)


@contextmanager
def kept_by(keep: Keep) -> Iterator[None]:
    """Inside the block, this thread sends only those messages that ``keep`` does not keep."""
    token = _keep.set(keep)
    try:
        yield
    finally:
        _keep.reset(token)


class PublishBatch:
    """A session of ``Producer.batch``: gathers the messages of each queue.

    ``channel``: kombu's. It encodes the messages of ``publish``, and passes them to ``add``.
    """

    def __init__(self, channel: Any, sqs: Callable[[], SQSClient]) -> None:
        self.channel = channel
        self._sqs = sqs
        self._gathered: dict[str, list[PublishEntry]] = {}
        self._refused: list[BatchFailure[PublishEntry]] = []

    def publish(self, message: dict[str, Any], **kwargs: Any) -> None:
        self.channel.basic_publish(message, _publish_batch=self, **kwargs)

    def add(self, entry: PublishEntry) -> None:
        if entry.size_bytes > MAX_BATCH_BYTES:  # SQS would refuse the whole call, with the other messages
            reason = f"it has {entry.size_bytes:,} bytes, and SQS takes {MAX_BATCH_BYTES:,}"
            self._refused.append(BatchFailure(entry, reason, final=True))
            return
        gathered = self._gathered.setdefault(entry.url, [])
        if gathered and sum(known.size_bytes for known in gathered) + entry.size_bytes > MAX_BATCH_BYTES:
            self._send(entry.url)
        gathered = self._gathered.setdefault(entry.url, [])
        gathered.append(entry)
        if len(gathered) == MAX_ENTRIES:
            self._send(entry.url)

    def flush(self) -> None:
        for url in list(self._gathered):
            self._send(url)
        refused, self._refused = self._refused, []
        if refused:
            raise PublishError(refused)

    def discard(self) -> None:
        self._gathered.clear()
        self._refused.clear()

    def close(self) -> None:
        """Nothing is held open."""

    def failed(self, entries: Sequence[PublishEntry], exc: Exception) -> PublishError:
        """The error for an unreachable SQS: it names these messages and all other unsent ones."""
        left = [entry for gathered in self._gathered.values() for entry in gathered]
        self._gathered.clear()
        reason = describe_error(exc)
        return PublishError([*self._refused, *(BatchFailure(entry, reason) for entry in [*entries, *left])])

    def _send(self, url: str) -> None:
        entries = self._gathered.pop(url)
        failures: list[BatchFailure[PublishEntry]] = []
        for attempt in range(MAX_TRIES):
            time.sleep(BACKOFF.pause_s(attempt))
            failures = self._try(url, entries)
            self._refused += [failure for failure in failures if failure.final]
            failures = [failure for failure in failures if not failure.final]
            if not failures:
                return
            entries = [failure.item for failure in failures]
        self._refused += failures

    def _try(self, url: str, entries: list[PublishEntry]) -> list[BatchFailure[PublishEntry]]:
        try:
            reply = self._sqs().send_message_batch(
                QueueUrl=url,
                Entries=[{"Id": str(n), **entry.message} for n, entry in enumerate(entries)],  # type: ignore[typeddict-item]
            )
        except (ClientError, BotoCoreError) as exc:  # after botocore's own tries
            raise self.failed(entries, exc) from exc
        return failed_entries(reply, entries)


class Publisher:
    """Sends messages, alone or by a batch. ``url_of`` finds a queue by its name."""

    def __init__(self, sqs: Callable[[], SQSClient], url_of: Callable[[str], str]) -> None:
        self._sqs = sqs
        self._url_of = url_of

    def publish(
        self, queue: str, message: dict[str, Any], delay_s: int | None, batch: PublishBatch | None = None
    ) -> None:
        """``message``: as kombu's virtual transport builds it.

        Raises ``PublishError`` if a task's message did not get into its queue, whichever request failed;
        ``ConfigError`` if the queue does not exist.
        """
        properties = message.get("properties", {})
        sent: dict[str, Any] = {}
        attributes = properties.pop("message_attributes", None)  # not in the body too
        if attributes is not None:
            sent["MessageAttributes"] = attributes
        if "MessageGroupId" in properties:  # fair queues
            sent["MessageGroupId"] = properties["MessageGroupId"]
        if delay_s is not None:
            sent["DelaySeconds"] = delay_s
        sent["MessageBody"] = to_text(_readable(message))
        headers = message.get("headers") or {}
        if "task" not in headers:  # events and remote control: their senders handle the error
            self._sqs().send_message(QueueUrl=self._url_of(queue), **sent)
            return
        entry = _entry(headers, sent)
        keep = _keep.get()
        if keep is not None and batch is None and keep(queue, entry):
            return
        try:
            entry = replace(entry, url=self._url_of(queue))
            if batch is None:
                self._sqs().send_message(QueueUrl=entry.url, **sent)
        except (ClientError, BotoCoreError) as exc:  # after botocore's own tries
            if batch is not None:
                raise batch.failed([entry], exc) from exc
            raise PublishError([BatchFailure(entry, describe_error(exc))]) from exc
        if batch is not None:
            batch.add(entry)


def _readable(message: dict[str, Any]) -> dict[str, Any]:
    """The message with its body, JSON in a JSON string, escaped only once."""
    body = message.get("body")
    return {**message, "body": escaped_once(body)} if isinstance(body, str) else message


def _entry(headers: dict[str, Any], sent: dict[str, Any]) -> PublishEntry:
    task_id = str(headers.get("id"))
    return PublishEntry(
        url="",
        message=sent,
        size_bytes=len(sent["MessageBody"].encode()) + _size_bytes(sent.get("MessageAttributes")),
        task=str(headers["task"]),
        task_id=task_id,
        root_id=str(headers.get("root_id") or task_id),
    )


def _size_bytes(attributes: dict[str, Any] | None) -> int:
    """Names, types and values of message attributes count too."""
    if attributes is None:
        return 0
    return sum(len(str(text).encode()) for name, value in attributes.items() for text in (name, *value.values()))

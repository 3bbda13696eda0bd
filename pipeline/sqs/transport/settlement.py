"""Ends each message in flight: deletes, releases, dead-letters or defers it. Only the first decision counts.

A message is deleted when its work is done (``pipeline.sqs.settled`` says what proves that), or when the copy that takes
its place was sent; never before that. Threads send the requests, ten entries a call, so that no caller waits for the
network. If a request fails, or is lost with this process, SQS delivers the message again.
"""

from __future__ import annotations

import atexit
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from pipeline.aws.backoff import Backoff
from pipeline.aws.xml import NOT_XML
from pipeline.sqs.settled import Effect
from pipeline.sqs.transport.batcher import LINGER_S, Batcher, BatchFailure, failed_entries
from pipeline.sqs.transport.delays import delay_s as whole_delay_s
from pipeline.sqs.transport.inflight import InFlightMessage, InFlightMessages
from pipeline.sqs.transport.redrive_policy import RedrivePolicies
from pipeline.sqs.transport.text import to_text

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

#: How long a done message waits for others before it is deleted: this part of its visibility time-out, up to a maximum
#: in seconds. With the default time-out that is 1.5 s, in which a worker on 12 MP photos finishes ten messages.
LINGER_PART, MAX_LINGER_S = 1 / 60, 2.0
#: Seconds until a message whose work failed or was lost is delivered again, by its number of deliveries.
RETRY_BACKOFF = Backoff(2, 60)
#: The same if a service failed, and the message could only be released, which uses up receives: 2 s, half a minute,
#: 9 minutes, 2.3 hours.
OUTAGE_RELEASES_S = (2, 32, 512, 8192)
MAX_REASON_CHARS = 1000
#: SQS's limit for the attributes of a message.
MAX_ATTRIBUTES = 10

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Release:
    message: InFlightMessage
    after_s: int  # seconds until SQS delivers it again


@dataclass(frozen=True, slots=True)
class Move:
    """Sends a copy, to the dead-letter queue or with a delay to the message's own, and then deletes the message."""

    message: InFlightMessage
    reason: str  # for the dead-letter queue
    delay_s: float | None = None  # for its own queue
    was_begun: bool = False  # True: the copy is marked as redelivered, as a second delivery would be
    headers: Mapping[str, Any] = field(default_factory=dict)  # Celery headers that the copy gets instead of its own


class Settlement:
    """``on_settled`` is called with each message when its end is decided, and with whether its work is done.

    Thread-safe.
    """

    def __init__(
        self,
        in_flight: InFlightMessages,
        redrive: RedrivePolicies,
        sqs: Callable[[], SQSClient],
        *,
        visibility_timeout_s: float,
        on_settled: Callable[[InFlightMessage, bool], None],
    ) -> None:
        self._in_flight = in_flight
        self._redrive = redrive
        self._on_settled = on_settled
        self._sqs = sqs
        message_url = attrgetter("message.url")
        linger_s = max(LINGER_S, min(visibility_timeout_s * LINGER_PART, MAX_LINGER_S))
        self.deletes: Batcher[InFlightMessage] = Batcher(
            "sqs-deletes", send=self._delete, give_up=_log_not_deleted, key=attrgetter("url"), linger_s=linger_s
        )
        self.releases: Batcher[Release] = Batcher(
            "sqs-releases", send=self._release, give_up=_log_not_released, key=message_url
        )
        self.moves: Batcher[Move] = Batcher("sqs-moves", send=self._move, give_up=_log_not_moved, key=message_url)
        self._closes_at_exit = False

    def ack(self, message: InFlightMessage) -> bool:
        """The work is done: deletes the message. Like ``release``, returns False if it was settled before."""
        return self._settle(message, self.deletes, message, is_done=True)

    def release(self, message: InFlightMessage, after_s: int = 0) -> bool:
        """Releases the message: SQS delivers it again."""
        return self._settle(message, self.releases, Release(message, after_s))

    def put_back(self, message: InFlightMessage) -> bool:
        """Nothing has begun its work: releases it, or replaces it with a copy after its last receive.

        A release uses up a receive, so the messages that several workers in turn have put back would be dead letters.
        """
        if self._redrive.is_last_receive(message.url, message.receives):
            return self.defer(message, 0)
        return self.release(message)

    def fail(
        self,
        message: InFlightMessage,
        reason: str,
        *,
        is_outage: bool = False,
        headers: Mapping[str, Any] | None = None,
    ) -> Effect:
        """The work failed or was lost: releases the message for 2, 4, 8 … 60 s, or dead-letters it at its last receive.

        ``is_outage``: a service failed, so the pauses are longer, and the receives last for hours. The next task of a
        chain that runs under the previous task's message is published instead. ``headers``: see ``dead_letter``.
        """
        if message.is_successor:
            self.defer(message, OUTAGE_RELEASES_S[1] if is_outage else RETRY_BACKOFF.ceiling_s(1), was_begun=True)
            return Effect.DEFER
        if self._redrive.is_last_receive(message.url, message.receives):
            self.dead_letter(message, f"delivered {message.receives} times, at last: {reason}", headers=headers)
            return Effect.DEAD_LETTER
        after_s = int(RETRY_BACKOFF.ceiling_s(message.receives))
        if is_outage:
            after_s = OUTAGE_RELEASES_S[min(message.receives, len(OUTAGE_RELEASES_S)) - 1]
        self.release(message, after_s)
        return Effect.RELEASE

    def dead_letter(self, message: InFlightMessage, reason: str, *, headers: Mapping[str, Any] | None = None) -> bool:
        """Moves it to its dead-letter queue, with the reason. ``headers``: replace those of the message."""
        return self._settle(message, self.moves, Move(message, reason, headers=headers or {}))

    def defer(
        self,
        message: InFlightMessage,
        delay_s: float,
        *,
        was_begun: bool = False,
        headers: Mapping[str, Any] | None = None,
    ) -> bool:
        """Replaces it with a copy that is delivered after ``delay_s`` seconds and has used up no receives."""
        return self._settle(message, self.moves, Move(message, "", delay_s, was_begun, headers or {}))

    def close(self) -> None:
        """Sends what is left, for at most a few seconds. Called at the end of the process."""
        for batcher in (self.moves, self.deletes, self.releases):  # a move ends in a delete
            batcher.close()

    def _settle(self, message: InFlightMessage, batcher: Batcher[Any], item: object, *, is_done: bool = False) -> bool:
        if not self._in_flight.take(message):
            return False
        if not self._closes_at_exit:
            self._closes_at_exit = True
            atexit.register(self.close)
        batcher.put(item)
        self._on_settled(message, is_done)
        return True

    # The batchers' threads call the following methods.

    def _delete(self, batch: Sequence[InFlightMessage]) -> list[BatchFailure[InFlightMessage]]:
        reply = self._sqs().delete_message_batch(
            QueueUrl=batch[0].url,
            Entries=[{"Id": str(n), "ReceiptHandle": message.handle} for n, message in enumerate(batch)],
        )
        return failed_entries(reply, batch)

    def _release(self, batch: Sequence[Release]) -> list[BatchFailure[Release]]:
        reply = self._sqs().change_message_visibility_batch(
            QueueUrl=batch[0].message.url,
            Entries=[
                {"Id": str(n), "ReceiptHandle": item.message.handle, "VisibilityTimeout": item.after_s}
                for n, item in enumerate(batch)
            ],
        )
        return failed_entries(reply, batch)

    def _move(self, batch: Sequence[Move]) -> list[BatchFailure[Move]]:
        # One by one: it is rare, and ten of them might be too large for one call.
        failures = []
        for item in batch:
            try:
                self._send_copy(item)
            except Exception as exc:
                failures.append(BatchFailure(item, f"{type(exc).__name__}: {exc}"))
            else:
                self.deletes.put(item.message)
        return failures

    def _send_copy(self, item: Move) -> None:
        message = item.message
        if item.delay_s is not None:
            sent = message.to_send()
            redelivered = item.was_begun or message.receives > 1
            if redelivered or item.headers:
                sent["MessageBody"] = changed(sent["MessageBody"], item.headers, redelivered=redelivered)
            self._sqs().send_message(QueueUrl=message.url, DelaySeconds=whole_delay_s(item.delay_s), **sent)
            return
        letter = with_reason(message, item.reason)
        if item.headers:
            letter["MessageBody"] = changed(letter["MessageBody"], item.headers, redelivered=False)
        self._sqs().send_message(QueueUrl=self._redrive.of(message.url).url, **letter)
        logger.error(
            "Message %s of %s is in the dead-letter queue now: %s",
            message.message_id,
            message.queue,
            clean(item.reason),
            extra=_extra("dead_lettered", message),
        )


def changed(body: str, headers: Mapping[str, Any], *, redelivered: bool = True) -> str:
    """The task message with these headers, marked as delivered before; any other text is returned unchanged."""
    try:
        envelope = json.loads(body)
        envelope["headers"].update(headers)
        if redelivered:
            envelope["properties"]["delivery_info"]["redelivered"] = True
    except (ValueError, KeyError, TypeError, AttributeError):
        return body
    return to_text(envelope)


def with_reason(message: InFlightMessage, reason: str) -> dict[str, Any]:
    """The dead letter: the message as it was sent, with this reason in place of an earlier one."""
    sent = message.to_send()
    others = {name: value for name, value in sent.get("MessageAttributes", {}).items() if name != "reason"}
    kept = dict(list(others.items())[: MAX_ATTRIBUTES - 1])
    return sent | {"MessageAttributes": kept | {"reason": {"DataType": "String", "StringValue": clean(reason)}}}


def clean(reason: str) -> str:
    """The reason without the characters that a message attribute can't contain, and cut to its maximum length."""
    return NOT_XML.sub("\ufffd", reason)[:MAX_REASON_CHARS] or "rejected by the task"


def _extra(action: str, message: InFlightMessage) -> dict[str, Any]:
    return {"action": action, "message_id": message.message_id, "queue": message.queue}


def _log_not_deleted(failure: BatchFailure[InFlightMessage]) -> None:
    message = failure.item
    logger.warning(
        "Message %s of %s is done but could not be deleted (%s): SQS will deliver it once more",
        message.message_id,
        message.queue,
        failure.reason,
        extra=_extra("delete_failed", message),
    )


def _log_not_released(failure: BatchFailure[Release]) -> None:
    message = failure.item.message
    logger.info(
        "Message %s of %s could not be released (%s): it stays hidden until its visibility time-out",
        message.message_id,
        message.queue,
        failure.reason,
        extra=_extra("release_failed", message),
    )


def _log_not_moved(failure: BatchFailure[Move]) -> None:
    message, is_dead = failure.item.message, failure.item.delay_s is None
    logger.log(
        logging.ERROR if is_dead else logging.WARNING,
        "Message %s of %s could not be %s (%s): SQS will deliver it again",
        message.message_id,
        message.queue,
        "moved to the dead-letter queue" if is_dead else "deferred",
        failure.reason,
        extra=_extra("dead_letter_failed" if is_dead else "defer_failed", message),
    )

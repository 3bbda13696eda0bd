"""The loop: receive ten, understand, publish, delete what is done."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from bridge.outcomes import Outcome, Verdict
from pipeline.aws.errors import told
from pipeline.aws.queues import sqs_errors
from pipeline.core.errors import MessageError
from pipeline.core.health import Heartbeat
from pipeline.core.routes import Routes
from pipeline.core.s3_event import Change, Kind, Notification, parse
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.enqueue import NotEnqueued

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient
    from types_boto3_sqs.type_defs import MessageTypeDef

logger = logging.getLogger(__name__)

#: SQS's limit for a receive and for a batch call.
BATCH = 10
#: Longest wait between polls while SQS or the broker fails.
MAX_BACKOFF_S = 30.0


class Bridge:
    """Moves events from the events queue to the tasks queue, until ``stop``.

    ``publish`` sends the chains of all the given sources, and ``reconcile`` a task for each of those that were
    removed (without it, removals are skipped). A message stays in the queue if one of its sources is named by
    the ``NotEnqueued`` that they raise; if they raise anything else, all do. ``routes`` say what is due at all.
    Raises ``ConfigError`` when a queue does not exist, ``TransientError`` when it can't be asked for.
    """

    def __init__(
        self,
        settings: Settings,
        sqs: SQSClient,
        publish: Callable[[Sequence[Source]], None],
        heartbeat: Heartbeat | None = None,
        reconcile: Callable[[Sequence[Source]], None] | None = None,
        routes: Routes | None = None,
    ) -> None:
        self._settings = settings
        self._sqs = sqs
        self._publish = publish
        self._reconcile = reconcile if settings.delete_renditions else None
        self._heartbeat = heartbeat
        self._routes = Routes.load(settings) if routes is None else routes
        self._stopping = threading.Event()
        self._failures = 0
        self._queue_url = self._url_of("events")
        self._dead_letter_url = self._url_of("events-dlq")

    def _url_of(self, name: str) -> str:
        name = self._settings.queue_prefix + name
        with sqs_errors(name, "GetQueueUrl"):
            return self._sqs.get_queue_url(QueueName=name)["QueueUrl"]

    def stop(self) -> None:
        """Ends the loop after the batch in hand; safe in a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Polls until ``stop``; rides out outages with back-off."""
        logger.info("bridge: polling %s", self._queue_url, extra={"action": "start"})
        while not self._stopping.is_set():
            try:
                trouble = Outcome.RETRY in self.step()
            except (ClientError, BotoCoreError) as exc:
                trouble = True
                if self._failures == 0:
                    logger.warning("bridge: SQS fails, backing off: %s", told(exc), extra={"action": "outage"})
            if trouble:
                self._failures += 1
                self._stopping.wait(_backoff_s(self._failures))
            elif self._failures:
                logger.info("bridge: working again after %d failures", self._failures, extra={"action": "recovered"})
                self._failures = 0
            if self._heartbeat is not None:
                self._heartbeat.touch()
        if self._heartbeat is not None:
            self._heartbeat.remove()
        logger.info("bridge: stopped", extra={"action": "stop"})

    def step(self) -> list[Outcome]:
        """One receive and all that follows from it; returns the messages' outcomes."""
        received = self._sqs.receive_message(
            QueueUrl=self._queue_url,
            MaxNumberOfMessages=BATCH,
            WaitTimeSeconds=self._settings.poll_wait_s,
            VisibilityTimeout=self._settings.message_visibility_timeout_s,
        )
        messages = received.get("Messages", [])
        verdicts = self._verdicts([message.get("Body", "") for message in messages])
        for message, verdict in zip(messages, verdicts, strict=True):
            logger.log(
                verdict.effect.level,
                "%s: %s",
                verdict.outcome.value,
                verdict.reason,
                extra={"action": verdict.outcome.value, "message_id": message.get("MessageId")},
            )
        done = [
            message
            for message, verdict in zip(messages, verdicts, strict=True)
            if verdict.effect.delete and (not verdict.effect.dead_letter or self._dead_letter(message, verdict.reason))
        ]
        self._delete(done)
        return [verdict.outcome for verdict in verdicts]

    def _verdicts(self, texts: Sequence[str]) -> list[Verdict]:
        """Understands all messages, then publishes what is due of them together."""
        read = [self._read(text) for text in texts]
        due = [change for found in read if not isinstance(found, Verdict) for change in found]
        sent = [_send(self._publish, [change.source for change in due if change.kind is Kind.CREATED])]
        if self._reconcile is not None:
            sent.append(_send(self._reconcile, [change.source for change in due if change.kind is Kind.REMOVED]))
        unsent = {source: reason for reason, sources in sent for source in sources}
        return [found if isinstance(found, Verdict) else _published(found, unsent) for found in read]

    def _read(self, text: str) -> Verdict | list[Change]:
        """The changes that are due, or the verdict when there are none."""
        try:
            notification = parse(text)
        except MessageError as exc:
            return Verdict(Outcome.REJECTED, str(exc))
        try:
            due = [change for change in notification.changes if self._why_not(change) is None]
            return due if due else Verdict(Outcome.SKIPPED, self._explained(notification))
        except Exception as exc:  # whatever a route's rule for the content raises: the message must stay
            names = ", ".join(change.source.uri for change in notification.changes)
            return Verdict(Outcome.RETRY, f"{names}: no route could be chosen: {exc!r}")

    def _why_not(self, change: Change) -> str | None:
        if change.kind is Kind.OTHER or (change.kind is Kind.REMOVED and self._reconcile is None):
            return f"{change.name} needs no work"
        return self._routes.skip_reason(change.source, is_gone=change.kind is Kind.REMOVED)

    def _explained(self, notification: Notification) -> str:
        if notification.is_test:
            return "S3's test event: the bucket's notification is set up"
        if not notification.changes:
            return "an event without records"
        return ", ".join(f"{change.source.uri}: {self._why_not(change)}" for change in notification.changes)

    def _dead_letter(self, message: MessageTypeDef, reason: str) -> bool:
        """Copies a message to the dead-letter queue; False leaves it where it is."""
        try:
            self._sqs.send_message(
                QueueUrl=self._dead_letter_url,
                MessageBody=message["Body"],
                MessageAttributes={"reason": {"DataType": "String", "StringValue": reason}},
            )
        except (ClientError, BotoCoreError) as exc:
            logger.warning(
                "bridge: could not dead-letter a message, so it stays: %s", told(exc), extra={"action": "retry"}
            )
            return False
        return True

    def _delete(self, messages: Sequence[MessageTypeDef]) -> None:
        """Deletes what is done. One that stays is delivered again, which is harmless."""
        if not messages:
            return
        answer = self._sqs.delete_message_batch(
            QueueUrl=self._queue_url,
            Entries=[{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)],
        )
        for failed in answer.get("Failed", []):
            logger.warning(
                "bridge: message %s was not deleted and will come again: %s",
                messages[int(failed["Id"])].get("MessageId"),
                failed.get("Message", failed["Code"]),
                extra={"action": "not-deleted"},
            )


def _send(send: Callable[[Sequence[Source]], None], sources: Sequence[Source]) -> tuple[str, Sequence[Source]]:
    """Sends the sources; returns those that are not sent, and why."""
    try:
        if sources:
            send(sources)
    except NotEnqueued as exc:
        return str(exc), exc.sources
    except Exception as exc:  # whatever the broker layer raises: the messages must stay
        return str(exc), sources
    return "", ()


def _published(changes: Sequence[Change], unsent: Mapping[Source, str]) -> Verdict:
    names = ", ".join(change.source.uri for change in changes)
    reasons = {unsent[change.source] for change in changes if change.source in unsent}
    if not reasons:
        return Verdict(Outcome.DISPATCHED, names)
    return Verdict(Outcome.RETRY, f"{names}: could not publish: {'; '.join(sorted(reasons))}")


def _backoff_s(failures: int) -> float:
    """Doubles from a second with each failure in a row, with jitter."""
    return random.uniform(0.5, 1) * min(2.0 ** min(failures, 10), MAX_BACKOFF_S)  # noqa: S311

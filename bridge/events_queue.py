"""The events queue and its dead-letter queue, as the bridge uses them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.aws.batches import MAX_ENTRIES
from pipeline.aws.errors import describe_error
from pipeline.aws.queues import sqs_errors
from pipeline.aws.xml import NOT_XML
from pipeline.core.queue_names import DEAD_LETTERS, EVENTS_QUEUE
from pipeline.core.settings import Settings

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient
    from types_boto3_sqs.type_defs import MessageTypeDef

logger = logging.getLogger(__name__)


class EventsQueue:
    """Raises ``ConfigError`` if one of the queues does not exist, ``TransientError`` if it can't be looked up."""

    def __init__(self, settings: Settings, sqs: SQSClient) -> None:
        self._sqs = sqs
        self._prefix = settings.queue_prefix
        self._wait_s = settings.poll_wait_s
        self._visibility_s = settings.message_visibility_timeout_s
        self.url = self._find(EVENTS_QUEUE)
        self._dead_letter_url = self._find(EVENTS_QUEUE + DEAD_LETTERS)

    def _find(self, name: str) -> str:
        name = self._prefix + name
        with sqs_errors(name, "GetQueueUrl"):
            return self._sqs.get_queue_url(QueueName=name)["QueueUrl"]

    def receive(self) -> list[tuple[MessageTypeDef, int]]:
        """Up to ten messages, each with how often it has been received. Raises boto3's errors."""
        received = self._sqs.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=MAX_ENTRIES,
            WaitTimeSeconds=self._wait_s,
            VisibilityTimeout=self._visibility_s,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        return [
            (message, int(message.get("Attributes", {}).get("ApproximateReceiveCount", "1")))
            for message in received.get("Messages", [])
        ]

    def dead_letter(self, message: MessageTypeDef, reason: str) -> bool:
        """Copies a message to the dead-letter queue. False if that failed: the message must stay."""
        try:
            self._sqs.send_message(
                QueueUrl=self._dead_letter_url,
                MessageBody=message["Body"],
                # SQS rejects the same characters as XML 1.0.
                MessageAttributes={"reason": {"DataType": "String", "StringValue": NOT_XML.sub("\ufffd", reason)}},
            )
        except (ClientError, BotoCoreError) as exc:
            logger.warning(
                "bridge: could not dead-letter a message, so it stays: %s",
                describe_error(exc),
                extra={"action": "retry"},
            )
            return False
        return True

    def hide(self, messages: Sequence[tuple[MessageTypeDef, float]]) -> None:
        """Makes each message visible again after the given seconds. If that fails, its visibility time-out applies."""
        if not messages:
            return
        try:
            answer = self._sqs.change_message_visibility_batch(
                QueueUrl=self.url,
                Entries=[
                    {"Id": str(n), "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": round(after_s)}
                    for n, (message, after_s) in enumerate(messages)
                ],
            )
        except (ClientError, BotoCoreError) as exc:
            failures = {describe_error(exc)}
        else:
            failures = {failed.get("Message", failed["Code"]) for failed in answer.get("Failed", [])}
        if failures:
            logger.warning(
                "bridge: the visibility of messages was not changed, so their visibility time-out applies: %s",
                "; ".join(sorted(failures)),
                extra={"action": "visibility_change_failed"},
            )

    def delete(self, messages: Sequence[MessageTypeDef]) -> None:
        """Deletes messages. One that could not be deleted is delivered again, which is harmless.

        Raises boto3's errors.
        """
        if not messages:
            return
        answer = self._sqs.delete_message_batch(
            QueueUrl=self.url,
            Entries=[{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)],
        )
        for failed in answer.get("Failed", []):
            logger.warning(
                "bridge: message %s was not deleted and will be delivered again: %s",
                messages[int(failed["Id"])].get("MessageId"),
                failed.get("Message", failed["Code"]),
                extra={"action": "delete_failed"},
            )

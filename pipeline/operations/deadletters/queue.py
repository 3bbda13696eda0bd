"""The dead-letter queues: reads, redrives and deletes messages without losing any.

SQS can only show a message by delivering it, which hides it for a while. Messages that were only read are released.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from pipeline.aws import clients, queues
from pipeline.aws.batches import MAX_ENTRIES, batches
from pipeline.core import console
from pipeline.core.errors import TransientError
from pipeline.core.queue_names import DEAD_LETTERS
from pipeline.core.settings import Settings
from pipeline.operations import own_queues
from pipeline.operations.deadletters.letter import DeadLetter

if TYPE_CHECKING:
    from types_boto3_sqs.type_defs import MessageTypeDef, SendMessageBatchRequestEntryTypeDef

#: Visibility time-out in seconds of messages that were read, unless they are released earlier.
HIDDEN_S = 600
#: Wait time in seconds of a receive: any value above 0 makes SQS query all its servers.
POLL_S = 1
#: Reading ends after this many consecutive empty receives, if SQS counts no more messages either.
EMPTY_POLLS = 2
#: If SQS counts more, reading waits this many seconds after the last new message. Other consumers may have them, and
#: SQS's counts are up to a minute late (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/
#: API_GetQueueAttributes.html).
QUIET_S = 20.0


class DeadLetterQueue:
    """The dead-letter queue of one of ``QUEUES``. A context manager: releases all messages that were not deleted.

    Raises ``PipelineError`` in all its methods.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self.name = name
        self.url = own_queues.url_of(settings, name + DEAD_LETTERS)
        self.full_name = self.url.rsplit("/", 1)[-1]
        self.unseen = 0  # approximate number of messages that were not read, when they were last counted
        self._handles: dict[str, str] = {}  # in flight here: the newest receipt handles, by message id

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def receive(self, limit: int | None = None) -> Iterator[DeadLetter]:
        """Up to ``limit`` messages (None: all), each once; they stay hidden for ``HIDDEN_S``.

        Ends when SQS neither has nor counts any more, or when there was no new one for ``QUIET_S``. Its last count is
        ``unseen``: a message that comes later is not one that this reading has missed.
        """
        seen: set[str] = set()
        empty, deadline = 0, time.monotonic() + QUIET_S
        while limit is None or len(seen) < limit:
            messages = self._poll(MAX_ENTRIES if limit is None else min(MAX_ENTRIES, limit - len(seen)))
            empty = 0 if messages else empty + 1
            fresh = [message for message in messages if message["MessageId"] not in seen]
            for message in fresh:
                seen.add(message["MessageId"])
                yield DeadLetter.of(self.name, message)
            if fresh:
                deadline = time.monotonic() + QUIET_S
            elif time.monotonic() >= deadline:
                break
            elif empty >= EMPTY_POLLS and not self.count_unseen():
                return
        self.count_unseen()

    def _poll(self, most: int) -> Sequence[MessageTypeDef]:
        with queues.sqs_errors(self.full_name, "ReceiveMessage"):
            found = clients.sqs().receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=most,
                WaitTimeSeconds=POLL_S,
                VisibilityTimeout=HIDDEN_S,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["All"],
            )
        messages = found.get("Messages", [])
        self._handles |= {message["MessageId"]: message["ReceiptHandle"] for message in messages}
        return messages

    def count_unseen(self) -> int:
        """Counts the messages that are not in flight here, approximately: the new ``unseen``."""
        self.unseen = max(0, queues.depth(self.url) - len(self._handles))
        return self.unseen

    def release(self) -> None:
        """Makes the messages in flight here visible at once. If that fails, they are visible after ``HIDDEN_S``."""
        handles, self._handles = self._handles, {}
        for batch in batches(handles.values(), MAX_ENTRIES):
            with queues.sqs_errors(self.full_name, "ChangeMessageVisibility"):
                clients.sqs().change_message_visibility_batch(
                    QueueUrl=self.url,
                    Entries=[
                        {"Id": str(n), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                        for n, handle in enumerate(batch)
                    ],
                )

    def send_back(self, letters: Sequence[DeadLetter], destination: str) -> int:
        """Sends up to ten letters to the queue at the URL, then deletes those that SQS accepted; returns how many.

        In this order, an interruption leaves a message twice, which is harmless, and never loses one.
        """
        with queues.sqs_errors(destination.rsplit("/", 1)[-1], "SendMessage"):
            reply = clients.sqs().send_message_batch(
                QueueUrl=destination, Entries=[_entry(n, letter) for n, letter in enumerate(letters)]
            )
        refused = {int(failed["Id"]): failed for failed in reply.get("Failed", [])}
        sent = [letter for n, letter in enumerate(letters) if n not in refused]
        self.delete(sent)
        if refused:
            first = next(iter(refused.values()))
            raise TransientError(
                f"{console.pluralize(len(refused), 'dead letter')} stayed in queue {self.full_name}: "
                f"SQS answered {first['Code']}. Run it again"
            )
        return len(sent)

    def delete(self, letters: Iterable[DeadLetter]) -> None:
        for batch in batches(letters, MAX_ENTRIES):
            with queues.sqs_errors(self.full_name, "DeleteMessage"):
                reply = clients.sqs().delete_message_batch(
                    QueueUrl=self.url,
                    Entries=[
                        {"Id": str(n), "ReceiptHandle": self._handles.get(letter.message_id, letter.handle)}
                        for n, letter in enumerate(batch)
                    ],
                )
            for done in reply.get("Successful", []):
                self._handles.pop(batch[int(done["Id"])].message_id, None)
            for failed in reply.get("Failed", []):
                message_id = batch[int(failed["Id"])].message_id
                raise TransientError(
                    f"dead letter {message_id} was not deleted from queue {self.full_name}: {failed['Code']}"
                )


def _entry(n: int, letter: DeadLetter) -> SendMessageBatchRequestEntryTypeDef:
    """The original message, without the reason for dead-lettering."""
    entry: SendMessageBatchRequestEntryTypeDef = {"Id": str(n), "MessageBody": letter.body}
    attributes: dict[str, Any] = {name: value for name, value in letter.attributes.items() if name != "reason"}
    if attributes:
        entry["MessageAttributes"] = attributes
    return entry

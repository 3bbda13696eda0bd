"""The dead-letter queues: looked into without losing anything, sent back, emptied.

SQS has no way to read a message but to receive it, which hides it for a while. What was only looked at is given back.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.aws import clients, queues
from pipeline.core import console
from pipeline.core.batches import batches
from pipeline.core.errors import TransientError
from pipeline.core.queue_names import DEAD_LETTERS, MAX_ENTRIES
from pipeline.core.settings import Settings
from pipeline.operations.deadletters.letter import DeadLetter

if TYPE_CHECKING:
    from types_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

#: Seconds that a message stays hidden after it was looked at, unless it is given back.
HIDDEN_S = 600
#: A receive that finds nothing in this long (seconds) has found all: a long poll asks all of SQS's servers.
POLL_S = 2


class DeadLetterQueue:
    """That of one of ``QUEUES``. Raises ``PipelineError`` in all its methods."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.name = name
        self.url = queues.url_of(settings, name + DEAD_LETTERS)
        self._settings = settings
        self._full_name = self.url.rsplit("/", 1)[-1]

    def receive(self, limit: int) -> Iterator[DeadLetter]:
        """Up to ``limit`` messages, each once; they stay hidden for ``HIDDEN_S``."""
        seen: set[str] = set()
        while len(seen) < limit:
            with queues.sqs_errors(self._full_name, "ReceiveMessage"):
                found = clients.sqs().receive_message(
                    QueueUrl=self.url,
                    MaxNumberOfMessages=min(MAX_ENTRIES, limit - len(seen)),
                    WaitTimeSeconds=POLL_S,
                    VisibilityTimeout=HIDDEN_S,
                    MessageAttributeNames=["All"],
                    MessageSystemAttributeNames=["All"],
                )
            messages = found.get("Messages", [])
            fresh = [message for message in messages if message["MessageId"] not in seen]
            if not fresh:
                return
            for message in fresh:
                seen.add(message["MessageId"])
                yield DeadLetter.of(self.name, message)

    def give_back(self, handles: Iterable[str]) -> None:
        """Makes messages visible again at once. One that can't be, will be after ``HIDDEN_S``."""
        for batch in batches(handles, MAX_ENTRIES):
            with queues.sqs_errors(self._full_name, "ChangeMessageVisibility"):
                clients.sqs().change_message_visibility_batch(
                    QueueUrl=self.url,
                    Entries=[
                        {"Id": str(n), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                        for n, handle in enumerate(batch)
                    ],
                )

    def send_back(self, letters: Sequence[DeadLetter], destination: str) -> int:
        """Sends up to ten letters to the queue at the URL, then deletes those that were taken; returns how many.

        Never the other way round: what is between the two is there twice, which is harmless, and never lost.
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
                f"{console.counted(len(refused), 'dead letter')} stayed in queue {self._full_name}: "
                f"SQS answered {first['Code']}. Run it again"
            )
        return len(sent)

    def delete(self, letters: Iterable[DeadLetter]) -> None:
        for batch in batches(letters, MAX_ENTRIES):
            with queues.sqs_errors(self._full_name, "DeleteMessage"):
                reply = clients.sqs().delete_message_batch(
                    QueueUrl=self.url,
                    Entries=[{"Id": str(n), "ReceiptHandle": letter.handle} for n, letter in enumerate(batch)],
                )
            for failed in reply.get("Failed", []):
                message_id = batch[int(failed["Id"])].message_id
                raise TransientError(
                    f"dead letter {message_id} was not deleted from queue {self._full_name}: {failed['Code']}"
                )


class Pace:
    """At most so many a second; ``wait`` says how many are about to be done."""

    def __init__(self, per_s: float | None) -> None:
        self._per_s = per_s
        self._next = time.monotonic()

    def wait(self, count: int) -> None:
        if self._per_s is None:
            return
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = max(self._next, time.monotonic()) + count / self._per_s


def _entry(n: int, letter: DeadLetter) -> SendMessageBatchRequestEntryTypeDef:
    """As it was sent first: without the reason why it died."""
    entry: SendMessageBatchRequestEntryTypeDef = {"Id": str(n), "MessageBody": letter.body}
    attributes: dict[str, Any] = {name: value for name, value in letter.attributes.items() if name != "reason"}
    if attributes:
        entry["MessageAttributes"] = attributes
    return entry

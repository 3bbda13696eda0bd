"""Giving messages back: visible to other workers at once, or after a pause, in batches."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

from kombu.transport import SQS

from pipeline.aws import clients
from pipeline.sqs.transport.batcher import Batcher, Failure, failed_entries
from pipeline.sqs.transport.inflight import Held
from pipeline.sqs.transport.pool import running_tags

#: Longest pause before a message is tried again whose process was lost.
MAX_PAUSE_S = 60

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Return:
    held: Held
    after_s: int  # seconds until SQS delivers it again


class Returning(SQS.Channel):
    def give_back(self, messages: Iterable[Held], after_s: int = 0) -> int:
        """Lets go of held messages and frees their places; returns how many. ``returns`` sends it."""
        count = 0
        for held in messages:
            if self.held.take(held.handle) is not None:
                self.returns.put(Return(held, after_s))
                self.qos.ack(held.handle)
                count += 1
        return count

    def let_go(self) -> None:
        """Ends what this channel does for its messages; called when it closes.

        What a process has begun stays held, and is acknowledged when it is done: receipt handles are not bound
        to a connection. The rest Celery forgets when it loses one. At the end of a worker nothing runs.
        """
        running = running_tags()
        self.give_back(self.held.select(lambda held: held.handle not in running))
        if not self.held:
            for name in ("burials", "postponements", "deletes", "returns"):  # some end in a delete
                batcher = self.__dict__.get(name)
                if batcher is not None:
                    batcher.close()
            if "keeper" in self.__dict__:
                self.keeper.stop()

    def _restore(self, message: Any) -> None:
        """kombu's name for it: a message that was delivered, and is not settled, goes back."""
        held = self.held.find(message.delivery_tag)
        if held is not None:
            self.give_back([held])

    def requeue(self, held: Held) -> None:
        """For work that was lost with its process: again after 2, 4, 8… seconds, until SQS has had enough of it."""
        self.give_back([held], after_s=min(MAX_PAUSE_S, 2 ** min(held.receives, 10)))

    def _release_messages(self, queue: str, qname: str, messages: Sequence[dict[str, Any]]) -> None:
        """What a poll brought that nobody consumes any more. ``queue`` is the URL (the names are kombu's)."""
        logger.info(
            "Nobody consumes %s any more: giving %d messages back",
            qname,
            len(messages),
            extra={"action": "given-back", "queue": qname},
        )
        for message in messages:
            self.returns.put(Return(Held(queue, message, 0.0, 0.0), 0))

    @cached_property
    def returns(self) -> Batcher[Return]:
        sqs = clients.sqs(long_poll=False)

        def send(batch: Sequence[Return]) -> list[Failure[Return]]:
            reply = sqs.change_message_visibility_batch(
                QueueUrl=batch[0].held.url,
                Entries=[
                    {"Id": str(n), "ReceiptHandle": item.held.handle, "VisibilityTimeout": item.after_s}
                    for n, item in enumerate(batch)
                ],
            )
            return failed_entries(reply, batch)

        return Batcher("sqs-returns", send=send, give_up=_log_hidden, key=attrgetter("held.url"))


def _log_hidden(failure: Failure[Return]) -> None:
    held = failure.item.held
    logger.info(
        "Message %s of %s could not be given back (%s): it stays hidden until its lease ends",
        held.message_id,
        held.queue,
        failure.reason,
        extra={"action": "not-given-back", "message_id": held.message_id, "queue": held.queue},
    )

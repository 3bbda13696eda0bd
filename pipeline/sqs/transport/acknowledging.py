"""Acknowledgements: deleted from SQS ten at a time, from a thread, so that the event loop never waits.

A process that dies before a delete was sent has done its work twice in the end: SQS delivers again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any

from kombu.transport import SQS

from pipeline.aws import clients
from pipeline.sqs.transport.batcher import Batcher, Failure, failed_entries
from pipeline.sqs.transport.inflight import Held

#: Longest that a done message waits for others; its lease lasts much longer.
LINGER_S = 0.5

logger = logging.getLogger(__name__)


class Acknowledging(SQS.Channel):
    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """A tag that isn't held any more was given back or moved: then it isn't ours to delete."""
        held = self.held.take(delivery_tag)
        if held is not None:
            self.reserve.done(time.monotonic())
            self.deletes.put(held)
            self.qos.ack(delivery_tag)

    @cached_property
    def deletes(self) -> Batcher[Held]:
        """Where messages go whose work is done."""
        sqs = clients.sqs(long_poll=False)

        def send(batch: Sequence[Held]) -> list[Failure[Held]]:
            reply = sqs.delete_message_batch(
                QueueUrl=batch[0].url,
                Entries=[{"Id": str(n), "ReceiptHandle": held.handle} for n, held in enumerate(batch)],
            )
            return failed_entries(reply, batch)

        return Batcher("sqs-deletes", send=send, give_up=_log_kept, key=attrgetter("url"), linger_s=LINGER_S)


def _log_kept(failure: Failure[Any]) -> None:
    held: Held = failure.item
    logger.warning(
        "Message %s of %s is done but could not be deleted (%s): SQS will deliver it once more",
        held.message_id,
        held.queue,
        failure.reason,
        extra={"action": "not-deleted", "message_id": held.message_id, "queue": held.queue},
    )

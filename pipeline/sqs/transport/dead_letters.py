"""Rejected messages: copied to the dead-letter queue with the reason, then deleted. Never the other way round.

kombu deletes a rejected message where the queue has no redrive policy, and otherwise leaves it to be
delivered until SQS has had enough of it, without a reason.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from kombu.transport import SQS

from pipeline.aws import clients
from pipeline.aws.storage import NOT_XML
from pipeline.core.errors import ConfigError
from pipeline.sqs.transport.batcher import Batcher, Failure
from pipeline.sqs.transport.inflight import Held

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

MAX_REASON_CHARS = 1000
#: SQS's limit for the attributes of a message.
MAX_ATTRIBUTES = 10

logger = logging.getLogger(__name__)


def dead_letter_url(sqs: SQSClient, url: str) -> str:
    """The URL of a queue's dead-letter queue. Raises ``ConfigError`` when it has none."""
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])
    policy = found.get("Attributes", {}).get("RedrivePolicy")
    name = url.rsplit("/", 1)[-1]
    if not policy:
        raise ConfigError(
            f"queue {name} has no dead-letter queue, so what can't be processed would be lost: "
            "give it a RedrivePolicy (the stack does)"
        )
    dead = json.loads(policy)["deadLetterTargetArn"].rsplit(":", 1)[-1]
    try:
        return sqs.get_queue_url(QueueName=dead)["QueueUrl"]
    except sqs.exceptions.QueueDoesNotExist:
        raise ConfigError(
            f"the dead-letter queue {dead} of queue {name} does not exist: deploy the stack that makes it"
        ) from None


class DeadLetters(SQS.Channel):
    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        held = self.held.find(delivery_tag)
        if held is None:
            return  # given back or moved already
        if requeue:
            self.requeue(held)
        else:
            self.bury(held)

    def explain(self, delivery_tag: str, reason: str) -> None:
        """Says why a message is about to be rejected; the first reason stands."""
        held = self.held.find(delivery_tag)
        if held is not None and not held.reason:
            held.reason = reason

    def bury(self, held: Held) -> None:
        """Moves a message to the dead-letter queue, with ``held.reason``."""
        self.held.take(held.handle)
        self.burials.put(held)
        self.qos.ack(held.handle)

    def _not_delivered(self, url: str, message: dict[str, Any], exc: Exception) -> None:
        """The consumer raised. What it doesn't hold was not even a message to it."""
        held = self.held.find(message["ReceiptHandle"])
        if held is not None:
            self.requeue(held)
        else:
            self.burials.put(Held(url, message, 0.0, 0.0, f"not a Celery message: {type(exc).__name__}: {exc}"))

    @cached_property
    def burials(self) -> Batcher[Held]:
        sqs = clients.sqs(long_poll=False)
        urls: dict[str, str] = {}

        def send(batch: Sequence[Held]) -> list[Failure[Held]]:
            # One by one: it is rare, and ten of them might be too large for one call.
            failures = []
            for held in batch:
                try:
                    if held.url not in urls:
                        urls[held.url] = dead_letter_url(sqs, held.url)
                    sqs.send_message(QueueUrl=urls[held.url], **_with_reason(held))
                except Exception as exc:
                    failures.append(Failure(held, f"{type(exc).__name__}: {exc}"))
                else:
                    _log_buried(held)
                    self.deletes.put(held)
            return failures

        return Batcher("sqs-burials", send=send, give_up=_log_kept, key=attrgetter("url"))


def _with_reason(held: Held) -> dict[str, Any]:
    """What goes to the dead-letter queue: the message as it was sent, but for the reason of an earlier failure."""
    sent = held.to_send()
    others = {name: value for name, value in sent.get("MessageAttributes", {}).items() if name != "reason"}
    kept = dict(list(others.items())[: MAX_ATTRIBUTES - 1])
    reason = {"DataType": "String", "StringValue": _clean(held.reason)}
    return sent | {"MessageAttributes": kept | {"reason": reason}}


def _clean(reason: str) -> str:
    return NOT_XML.sub("\ufffd", reason)[:MAX_REASON_CHARS] or "rejected by the task"


def _log_buried(held: Held) -> None:
    logger.error(
        "Message %s of %s is in the dead-letter queue now: %s",
        held.message_id,
        held.queue,
        _clean(held.reason),
        extra={"action": "dead-lettered", "message_id": held.message_id, "queue": held.queue},
    )


def _log_kept(failure: Failure[Held]) -> None:
    held = failure.item
    logger.error(
        "Message %s of %s could not be moved to the dead-letter queue (%s): SQS will deliver it again",
        held.message_id,
        held.queue,
        failure.reason,
        extra={"action": "not-dead-lettered", "message_id": held.message_id, "queue": held.queue},
    )

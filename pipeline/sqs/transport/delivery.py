"""Passes received messages to Celery's consumer. Releases, defers or dead-letters those that it can't pass on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.sqs.transport.delays import DUE_WITHIN_S, remaining_s
from pipeline.sqs.transport.inflight import InFlightMessage
from pipeline.sqs.transport.parts import Parts
from pipeline.sqs.transport.receiver import Received, in_flight
from pipeline.sqs.transport.visibility import MAX_HIDDEN_S

#: Seconds after its receive in which a message may be reused for the next task, which needs time to run, too.
GOES_ON_WITHIN_S = MAX_HIDDEN_S / 2

logger = logging.getLogger(__name__)

Message = dict[str, Any]


class Delivery:
    """Passes a channel's received messages on.

    ``admit``: from receipt handles to how many of them may be started now, counted from the first. ``parse``: from a
    received message, its queue's name and URL to kombu's message; raises if it is not a Celery message.
    ``consumer_of``: a queue's consumer; None: nobody consumes it now. ``was_delivered``: whether kombu has the message
    of a receipt handle. ``max_delay_s``: maximum seconds until a message's ETA.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        admit: Callable[[Sequence[str]], int],
        parse: Callable[[Message, str, str], Message],
        consumer_of: Callable[[str], Callable[[Any], object] | None],
        was_delivered: Callable[[str], bool],
        visibility_timeout_s: int,
        max_delay_s: float,
    ) -> None:
        self._parts = parts
        self._admit = admit
        self._parse = parse
        self._consumer_of = consumer_of
        self._was_delivered = was_delivered
        self._visibility_timeout_s = visibility_timeout_s
        self._max_delay_s = max_delay_s
        self._is_closed = False

    def close(self) -> None:
        """From now on, received messages are released, since nothing would settle them."""
        self._is_closed = True

    def take_in(self, received: Received) -> None:
        """Keeps the received messages hidden from other workers until they are settled."""
        now = time.monotonic()
        messages = in_flight(received, now, self._visibility_timeout_s)
        new = [message for message in messages if self._parts.in_flight.find(message.handle) is None]
        if new:
            if not len(self._parts.in_flight):
                self._parts.prefetch.on_work(now)
            self._parts.in_flight.add(new)
            self._parts.extender.watch()

    def taken(self, queue: str, received: Received) -> bool:
        """Whether the received messages should be delivered. Called in the receiving thread."""
        if received.are_settled:
            self.take_in(received)
            if self._is_closed:
                self._release(queue, received)
                return False
        return True

    def deliver(self, queue: str, received: Received) -> None:
        """Passes received messages to the consumer. A message that can't be handled doesn't affect the others."""
        consumer = self._consumer_of(queue)
        if consumer is None:
            self._release(queue, received)
            return
        for message in self._admitted(received):
            try:
                self._deliver_one(queue, received.url, message, consumer)
            except Exception as exc:
                logger.exception(
                    "Message %s of %s could not be handled",
                    message.get("MessageId"),
                    queue,
                    extra={"action": "message_failed", "queue": queue},
                )
                self._not_delivered(message["ReceiptHandle"], exc)

    def go_on(self, queue: str, message: InFlightMessage) -> None:
        """Passes the next task of a chain to the consumer, under the message of the previous task.

        Publishes the task instead if the queue has no consumer now, or SQS can hide the message for only a few more
        hours.
        """
        consumer = self._consumer_of(queue)
        if consumer is None or self._is_closed or time.monotonic() - message.received_at > GOES_ON_WITHIN_S:
            self._parts.settlement.defer(message, 0)
            return
        try:
            self._deliver_one(queue, message.url, message.message, consumer)
        except Exception as exc:
            logger.exception("A chain could not go on in place", extra={"action": "message_failed", "queue": queue})
            self._not_delivered(message.handle, exc)

    def _admitted(self, received: Received) -> list[Message]:
        """The messages that the gate lets through. Puts the others back as new: their poll began before it closed."""
        if not received.are_settled:
            return received.messages
        count = self._admit([message["ReceiptHandle"] for message in received.messages])
        for message in received.messages[count:]:
            found = self._parts.in_flight.find(message["ReceiptHandle"])
            if found is not None:
                self._parts.settlement.defer(found, 0)
        return received.messages[:count]

    def _deliver_one(self, queue: str, url: str, message: Message, consumer: Callable[[Any], object]) -> None:
        payload = self._parse(message, queue, url)
        left_s = remaining_s(payload)
        found = self._parts.in_flight.find(message["ReceiptHandle"])
        if left_s > DUE_WITHIN_S and found is not None:
            self._defer(found, left_s)
            return
        if payload.get("headers"):
            payload["headers"]["eta"] = None  # it is due, so Celery must not hold it back
        consumer(payload)

    def _defer(self, message: InFlightMessage, left_s: float) -> None:
        """Defers a message, or dead-letters it if its ETA is too far away.

        A message that never becomes due would be sent again every quarter of an hour, and keep workers running.
        """
        if left_s <= self._max_delay_s:
            self._parts.settlement.defer(message, left_s)
        else:
            limit = f"MAX_DELAY_DAYS={self._max_delay_s / 86400:g}"
            self._parts.settlement.dead_letter(message, f"due in {left_s / 86400:.1f} days, more than {limit}")

    def _not_delivered(self, handle: str, exc: Exception) -> None:
        """The consumer raised. Dead-letters a message that kombu could not parse, since it never will."""
        message = self._parts.in_flight.find(handle)
        if message is None:
            return
        reason = f"{type(exc).__name__}: {exc}"
        if self._was_delivered(handle):
            self._parts.settlement.fail(message, reason)
        else:
            self._parts.settlement.dead_letter(message, f"not a Celery message: {reason}")

    def _release(self, queue: str, received: Received) -> None:
        found = [self._parts.in_flight.find(message["ReceiptHandle"]) for message in received.messages]
        count = sum(self._parts.settlement.put_back(message) for message in found if message is not None)
        if count:
            logger.info(
                "No consumer for %s: released %d messages",
                queue,
                count,
                extra={"action": "released", "queue": queue},
            )

"""kombu's names. Everything that kombu and Celery call on a channel is here, in a line or two; the parts do the work.

A message's way:

    publishing   sends, alone or in tens
    receiver     receives; ``polling`` begins the next receive, whatever the last one ended with
    prefetch     decides how many to receive
    delays       what has come too early is deferred
    visibility   keeps what is in flight hidden from others
    settlement   where it ends: deleted, released, dead-lettered, deferred
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kombu.transport import SQS
from kombu.transport.SQS.exceptions import UndefinedQueueException

from pipeline.aws import clients, queues
from pipeline.aws.batches import MAX_ENTRIES
from pipeline.aws.plain_errors import ConfigError
from pipeline.sqs.transport.delays import DEFAULT_MAX_DELAY_S, DUE_WITHIN_S, delay_s, remaining_s
from pipeline.sqs.transport.inflight import InFlightMessage, InFlightMessages, receives
from pipeline.sqs.transport.polling import Poller
from pipeline.sqs.transport.pool import running_tags
from pipeline.sqs.transport.prefetch import DEFAULT_PREFETCH_S, PrefetchController
from pipeline.sqs.transport.publishing import PublishBatch, Publisher
from pipeline.sqs.transport.receiver import REPLY_MARGIN_S, Received, Receiver, in_flight
from pipeline.sqs.transport.redrive_policy import RedrivePolicies
from pipeline.sqs.transport.settlement import Settlement
from pipeline.sqs.transport.visibility import (
    DEFAULT_STALLED_AFTER_S,
    DEFAULT_VISIBILITY_TIMEOUT_S,
    Pulse,
    VisibilityExtender,
)

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

logger = logging.getLogger(__name__)


class MissingQueue(ConfigError, UndefinedQueueException):
    """To kombu it is its own error."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a channel is made of, for those who use it: the worker's steps, and Celery's request."""

    in_flight: InFlightMessages
    settlement: Settlement
    redrive: RedrivePolicies
    prefetch: PrefetchController
    extender: VisibilityExtender
    publisher: Publisher


class QoS(SQS.QoS):
    """kombu's book of what was delivered; how much may be is decided by the ``PrefetchController``."""

    def append(self, message: Any, delivery_tag: str) -> None:
        super().append(message, delivery_tag)
        info = message.delivery_info
        if "sqs_message" in info:
            self.channel.take_in(Received(info["sqs_queue"], [info["sqs_message"]]))

    def can_consume(self) -> bool:
        return self.can_consume_max_estimate() != 0

    def can_consume_max_estimate(self) -> int | None:
        """None: as many as a receive brings (no prefetch count was set)."""
        if not self.prefetch_count:
            return None
        parts: Parts = self.channel.parts
        return parts.prefetch.capacity(len(parts.in_flight), self.prefetch_count)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """The channel closes, or is garbage."""
        self._on_collect.cancel()
        self.channel.let_go()


class TaskChannel(SQS.Channel):
    """Transport options: ``visibility_timeout_s``, ``prefetch_s``, ``reply_margin_s``, and ``stalled_after_s``, which
    must be above the longest time that the event loop may be busy (with the solo pool that is the longest task)."""

    QoS: Any = QoS
    supports_batch_publish = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._has_let_go = False
        #: Queues that SQS refuses to receive from, while it answers another request about them.
        self.refused: set[str] = set()
        super().__init__(*args, **kwargs)

    @cached_property
    def parts(self) -> Parts:
        messages = InFlightMessages()
        redrive = RedrivePolicies(_sqs)
        # Read now: what is in the pool is settled even after this channel was closed, and has no connection any more.
        stalled_after_s = float(self.transport_options.get("stalled_after_s", DEFAULT_STALLED_AFTER_S))
        return Parts(
            in_flight=messages,
            settlement=Settlement(messages, redrive, _sqs, on_settled=self._on_settled),
            redrive=redrive,
            prefetch=PrefetchController(float(self.transport_options.get("prefetch_s", DEFAULT_PREFETCH_S))),
            extender=VisibilityExtender(
                messages, _sqs, self.visibility_timeout_s, is_alive=Pulse(self._call_soon, stalled_after_s)
            ),
            publisher=Publisher(self.sqs, self._new_queue),
        )

    @cached_property
    def poller(self) -> Poller:
        """Needs an event loop; without one kombu receives synchronously."""
        return Poller(
            Receiver(self._receive, call_soon=self.hub.call_soon, taken=self._taken),
            self.hub,
            is_consumed=lambda queue: queue in self._active_queues,
            capacity=self._capacity,
            deliver=self._deliver,
        )

    @cached_property
    def visibility_timeout_s(self) -> int:
        return int(self.transport_options.get("visibility_timeout_s", DEFAULT_VISIBILITY_TIMEOUT_S))

    @property
    def reply_timeout_s(self) -> float:
        """Longest that a receive takes."""
        return float(self.wait_time_seconds + self.transport_options.get("reply_margin_s", REPLY_MARGIN_S))

    def _call_soon(self, callback: Callable[[], None]) -> None:
        """In the event loop, if there is one."""
        if self.hub is None:
            callback()
        else:
            self.hub.call_soon(callback)

    # --- queues: no ListQueues, and no queue made by mistake ---

    def sqs(self, queue: str | None = None) -> Any:
        """The project's own client, whose time-outs and retries are set in one place."""
        return clients.sqs()

    def _update_queue_cache(self, queue_name_prefix: str) -> None:
        """Looks the one queue up by GetQueueUrl; called with the bare prefix, it has nothing to do."""
        if queue_name_prefix == self.queue_name_prefix:
            return
        client = self.sqs()
        try:
            found = client.get_queue_url(QueueName=queue_name_prefix)
        except client.exceptions.QueueDoesNotExist:
            return
        self._queue_cache[queue_name_prefix] = found["QueueUrl"]

    def _create_queue(self, queue_name: str, attributes: dict[str, Any]) -> Any:
        raise MissingQueue(queues.missing(queue_name))

    def _new_queue(self, queue: str, **kwargs: Any) -> Any:
        """The queue's URL. Raises ``ConfigError``."""
        if queue.endswith(".fifo"):
            raise ConfigError(
                f"queue {queue} is a FIFO queue, which can't delay single messages, and so neither retries nor "
                "countdowns: use a standard queue"
            )
        return super()._new_queue(queue, **kwargs)

    def _purge(self, queue: str) -> int:
        """Removes all messages; how many there were, in flight and delayed ones too."""
        url = self._new_queue(queue)
        with queues.sqs_errors(url.rsplit("/", 1)[-1], "PurgeQueue"):
            count = queues.depth(url)
            _sqs().purge_queue(QueueUrl=url)
        return count

    # --- publishing ---

    def create_publish_batch(self, max_size: int) -> PublishBatch:
        """``max_size`` is not ours to choose: SQS takes ten."""
        return PublishBatch(self, self.sqs)

    def _put(
        self, queue: str, message: dict[str, Any], *, _publish_batch: PublishBatch | None = None, **_kwargs: Any
    ) -> None:
        left_s = remaining_s(message)
        if left_s:
            message["properties"].setdefault("delay_seconds", delay_s(left_s))
        delay = self._resolve_delay_seconds(message.get("properties", {}))
        self.parts.publisher.publish(queue, message, delay, _publish_batch)

    # --- receiving ---

    @property
    def get_message_attributes(self) -> dict[str, Any]:
        """What a receive asks for beside the text: all that is needed to send a message again."""
        return {
            "MessageSystemAttributeNames": ["ApproximateReceiveCount", "MessageGroupId"],
            "MessageAttributeNames": ["All"],
        }

    def _schedule_queue(self, queue: str) -> None:
        """kombu calls this when a queue is consumed."""
        self.poller.poll(queue)

    def _capacity(self) -> int:
        room: int | None = self.qos.can_consume_max_estimate()
        return MAX_ENTRIES if room is None else room

    def _receive(self, queue: str, count: int) -> Received:
        """Where messages are not acknowledged, the queue's own time-out counts: control queues hide them for good."""
        url: str = self._new_queue(queue)
        are_settled = queue not in self._noack_queues
        wanted = {"QueueUrl": url, "MaxNumberOfMessages": count, "WaitTimeSeconds": self.wait_time_seconds}
        if are_settled:
            wanted["VisibilityTimeout"] = self.visibility_timeout_s
        client: Any = clients.sqs_receiver(self.reply_timeout_s)
        try:
            reply = client.receive_message(**wanted, **self.get_message_attributes)
        except client.exceptions.QueueDoesNotExist:
            self._queue_cache.pop(self.canonical_queue_name(queue), None)
            raise
        except Exception:
            self._ask_other(queue, url)
            raise
        self.refused.discard(queue)
        return Received(url, reply.get("Messages", []), are_settled)

    def _ask_other(self, queue: str, url: str) -> None:
        """Tells an outage, which passes, from a receive that alone is refused: see ``worker.heartbeat``."""
        try:
            _sqs().get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        except Exception:
            self.refused.discard(queue)
        else:
            self.refused.add(queue)

    def take_in(self, received: Received) -> None:
        """Keeps what was received hidden from others until it is settled."""
        now = time.monotonic()
        messages = in_flight(received, now, self.visibility_timeout_s)
        new = [message for message in messages if self.parts.in_flight.find(message.handle) is None]
        if new:
            if not len(self.parts.in_flight):
                self.parts.prefetch.on_work(now)
            self.parts.in_flight.add(new)
            self.parts.extender.watch()

    def _taken(self, queue: str, received: Received) -> bool:
        """In the receiving thread. After the channel has let go nobody would settle them."""
        if received.are_settled:
            self.take_in(received)
            if self._has_let_go:
                self._release_received(queue, received)
                return False
        return True

    def _deliver(self, queue: str, received: Received) -> None:
        """Hands received messages to the consumer; one that can't be handled doesn't cost the others."""
        consumer = None if self.connection is None else self.connection._callbacks.get(queue)
        if consumer is None or self.poller.stopped:
            self._release_received(queue, received)
            return
        for message in received.messages:
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

    def _deliver_one(self, queue: str, url: str, message: dict[str, Any], consumer: Callable[[Any], Any]) -> None:
        payload = self._message_to_python(message, queue, url)
        left_s = remaining_s(payload)
        found = self.parts.in_flight.find(message["ReceiptHandle"])
        if left_s > DUE_WITHIN_S and found is not None:
            self._defer(found, left_s)
            return
        if payload.get("headers"):
            payload["headers"]["eta"] = None  # due: Celery need not time it
        consumer(payload)

    def _defer(self, message: InFlightMessage, left_s: float) -> None:
        """A message that never becomes due would be sent again every quarter of an hour, and keep workers up."""
        most_s = self.transport_options.get("max_delay_s", DEFAULT_MAX_DELAY_S)
        if left_s <= most_s:
            self.parts.settlement.defer(message, left_s)
        else:
            reason = f"due in {left_s / 86400:.1f} days, more than MAX_DELAY_DAYS={most_s / 86400:g}"
            self.parts.settlement.dead_letter(message, reason)

    def _not_delivered(self, handle: str, exc: Exception) -> None:
        """The consumer raised. What kombu has not even taken for a message never will be one."""
        message = self.parts.in_flight.find(handle)
        if message is None:
            return
        reason = f"{type(exc).__name__}: {exc}"
        if handle in self.qos._delivered:
            self.parts.settlement.fail(message, reason)
        else:
            self.parts.settlement.dead_letter(message, f"not a Celery message: {reason}")

    def _release_received(self, queue: str, received: Received) -> None:
        found = [self.parts.in_flight.find(message["ReceiptHandle"]) for message in received.messages]
        count = sum(self.parts.settlement.release(message) for message in found if message is not None)
        if count:
            logger.info(
                "No consumer for %s: released %d messages",
                queue,
                count,
                extra={"action": "released", "queue": queue},
            )

    def _message_to_python(self, message: Any, queue_name: str, q_url: str) -> Any:
        """Tells the task when its message was delivered before, so that it can look at what an earlier try has left:
        ``self.request.delivery_info["redelivered"]``, which kombu's SQS transport never sets."""
        payload = super()._message_to_python(message, queue_name, q_url)
        if receives(message) > 1 and "properties" in payload:
            payload["properties"].setdefault("delivery_info", {})["redelivered"] = True
        return payload

    # --- settling ---

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        message = self.parts.in_flight.find(delivery_tag)
        if message is not None:
            self.parts.settlement.ack(message)

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        message = self.parts.in_flight.find(delivery_tag)
        if message is None:
            return
        if requeue:
            self.parts.settlement.fail(message, "rejected, to be delivered again")
        else:
            self.parts.settlement.dead_letter(message, "rejected")

    def _restore(self, message: Any) -> None:
        """A message that was delivered, and is not settled, goes back."""
        found = self.parts.in_flight.find(message.delivery_tag)
        if found is not None:
            self.parts.settlement.release(found)

    def _on_settled(self, message: InFlightMessage, is_done: bool) -> None:
        if is_done:
            self.parts.prefetch.on_done(time.monotonic())
        self.qos.ack(message.handle)
        if "poller" in self.__dict__:
            self.poller.resume()

    def let_go(self) -> None:
        """Ends what this channel does for its messages; called when it closes.

        What a process has begun stays in flight, and is settled when it ends: receipt handles are not bound to a
        connection. The rest Celery forgets when it loses one. At the end of a worker nothing runs.
        """
        self._has_let_go = True
        if "poller" in self.__dict__:
            self.poller.close()
        if "parts" in self.__dict__:
            running = running_tags()
            for message in self.parts.in_flight.select(lambda message: message.handle not in running):
                self.parts.settlement.release(message)


def _sqs() -> SQSClient:
    return clients.sqs(long_poll=False)

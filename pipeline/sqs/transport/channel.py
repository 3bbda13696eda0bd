"""Implements kombu's channel: each method that kombu and Celery call is short, and calls a part that does the work.

A message's way:

    publishing     sends, alone or in tens
    receiver       receives; ``polling`` begins the next receive, whatever the last one ended with
    prefetch       decides how many messages to receive
    delivery       passes them to the consumer; defers those that come too early (``delays``)
    visibility     keeps messages in flight hidden from other workers
    settlement     deletes, releases, dead-letters or defers each message

Events and remote control have exchanges and queues of their own: ``monitoring.fanout``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from botocore.exceptions import ClientError
from kombu.transport import SQS
from kombu.transport.SQS.exceptions import UndefinedQueueException
from kombu.transport.virtual.base import queue_declare_ok_t

from pipeline.aws import clients, queues
from pipeline.aws.batches import MAX_ENTRIES
from pipeline.aws.errors import is_missing
from pipeline.aws.plain_errors import ConfigError
from pipeline.sqs.monitoring import names
from pipeline.sqs.monitoring.fanout import DEFAULT_QUEUE_TTL_S, Fanout, reply_poll_s, replying
from pipeline.sqs.monitoring.names import Kind
from pipeline.sqs.monitoring.process_queues import owned
from pipeline.sqs.outage.gate import Gate
from pipeline.sqs.transport import qos
from pipeline.sqs.transport.delays import DEFAULT_MAX_DELAY_S, delay_s, remaining_s
from pipeline.sqs.transport.delivery import Delivery
from pipeline.sqs.transport.inflight import InFlightMessage, receives
from pipeline.sqs.transport.parts import Parts, assemble, visibility_timeout_s
from pipeline.sqs.transport.polling import Poller
from pipeline.sqs.transport.pool import running_tags
from pipeline.sqs.transport.publishing import PublishBatch
from pipeline.sqs.transport.queue_reader import WANTED_ATTRIBUTES, QueueReader
from pipeline.sqs.transport.receiver import REPLY_MARGIN_S, Receiver


class MissingQueue(ConfigError, UndefinedQueueException):
    """A ``ConfigError`` that kombu also handles as its own error for a missing queue."""


class Channel(SQS.Channel):
    """For tasks, events and remote control. Transport options in addition to kombu's: ``visibility_timeout_s``,
    ``prefetch_s``, ``reply_margin_s``, ``max_delay_s``, ``control_queue_ttl_s``, and ``stalled_after_s``, which must be
    above the longest time that the event loop may be busy (with the solo pool that is the longest task)."""

    QoS: Any = qos.QoS
    supports_batch_publish = True
    supports_fanout = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._drain_timeout_s: float | None = None
        #: The channel's own gate, until the worker replaces it by the gate that outlives connections.
        self.gate = Gate()
        super().__init__(*args, **kwargs)

    # --- the parts ---

    @cached_property
    def parts(self) -> Parts:
        return assemble(
            self.transport_options,
            client=self.sqs,
            url=self._new_queue,
            call_soon=self._call_soon,
            on_settled=self._on_settled,
        )

    @cached_property
    def fanout(self) -> Fanout:
        options = self.transport_options
        topics = options.get("predefined_exchanges", {})
        return Fanout(topics, int(options.get("control_queue_ttl_s", DEFAULT_QUEUE_TTL_S)))

    @cached_property
    def delivery(self) -> Delivery:
        return Delivery(
            self.parts,
            admit=self._admit,
            parse=self._message_to_python,
            consumer_of=self._consumer_of,
            was_delivered=lambda handle: handle in self.qos._delivered,
            visibility_timeout_s=visibility_timeout_s(self.transport_options),
            max_delay_s=float(self.transport_options.get("max_delay_s", DEFAULT_MAX_DELAY_S)),
        )

    @cached_property
    def reader(self) -> QueueReader:
        return QueueReader(
            url=self._new_queue,
            forget_url=lambda queue: self._queue_cache.pop(self.canonical_queue_name(queue), None),
            unsettled=self._noack_queues,
            wait_s=self.wait_time_seconds,
            reply_timeout_s=self.reply_timeout_s,
            visibility_timeout_s=visibility_timeout_s(self.transport_options),
        )

    @cached_property
    def poller(self) -> Poller:
        """Needs an event loop; without one kombu receives synchronously."""
        return Poller(
            Receiver(self.reader.receive, call_soon=self.hub.call_soon, taken=self.delivery.taken),
            self.hub,
            is_consumed=lambda queue: queue in self._active_queues,
            capacity=self._capacity,
            deliver=self.delivery.deliver,
        )

    @property
    def reply_timeout_s(self) -> float:
        """Longest time that a receive may take."""
        return float(self.wait_time_seconds + self.transport_options.get("reply_margin_s", REPLY_MARGIN_S))

    def _call_soon(self, callback: Callable[[], None]) -> None:
        """Calls it in the event loop, if there is one."""
        if self.hub is None:
            callback()
        else:
            self.hub.call_soon(callback)

    # --- queues: never ListQueues; creates only this process's temporary queues ---

    def sqs(self, queue: str | None = None) -> Any:
        """The project's own client, with its time-outs and retries."""
        return clients.sqs()

    def canonical_queue_name(self, queue_name: str) -> Any:
        return super().canonical_queue_name(names.shortened(queue_name))

    def queue_declare(self, queue: str | None = None, passive: bool = False, **kwargs: Any) -> Any:
        kind = None if queue is None or passive else names.kind_of(queue)
        if queue is None or kind is None:
            return super().queue_declare(queue, passive, **kwargs)
        name = self.canonical_queue_name(queue)
        self._queue_cache[name] = self.fanout.open_queue(name, kind)
        return queue_declare_ok_t(queue, 0, 0)

    def _update_queue_cache(self, queue_name_prefix: str) -> None:
        """Looks up one queue by GetQueueUrl; does nothing if called with the bare prefix."""
        name = queue_name_prefix
        if (url := owned().url(name)) is not None:
            self._queue_cache[name] = url
        elif name != self.queue_name_prefix:
            client = self.sqs()
            with suppress(client.exceptions.QueueDoesNotExist):
                self._queue_cache[name] = client.get_queue_url(QueueName=name)["QueueUrl"]

    def _create_queue(self, queue_name: str, attributes: dict[str, Any]) -> Any:
        raise MissingQueue(queues.missing(queue_name))

    def _new_queue(self, queue: str, **kwargs: Any) -> Any:
        """The queue's URL. Raises ``ConfigError`` if it does not exist, or is a FIFO queue."""
        if queue.endswith(".fifo"):
            raise ConfigError(
                f"queue {queue} is a FIFO queue, which can't delay single messages, and so neither retries nor "
                "countdowns: use a standard queue"
            )
        return super()._new_queue(queue, **kwargs)

    def _purge(self, queue: str) -> int:
        """Removes all messages, including those in flight and delayed; returns their number."""
        url = self._new_queue(queue)
        with queues.sqs_errors(url.rsplit("/", 1)[-1], "PurgeQueue"):
            count = queues.depth(url)
            clients.sqs(long_poll=False).purge_queue(QueueUrl=url)
        return count

    # --- exchanges ---

    def exchange_declare(self, exchange: str | None = None, type: str = "direct", *args: Any, **kwargs: Any) -> Any:
        # Celery declares its event exchange as a topic exchange, except for brokers that it knows.
        kind = "fanout" if self.fanout.has(exchange) else type
        return super().exchange_declare(exchange, kind, *args, **kwargs)

    def _put_fanout(self, exchange: str, message: dict[str, Any], routing_key: str, **_: Any) -> None:
        self.fanout.publish(exchange, message)

    def _queue_bind(self, *_: Any) -> None:
        """Nothing to do: a queue is subscribed when it is created."""

    def _subscribe_queue_to_fanout_exchange_if_required(self, queue_name: str) -> None:
        """Nothing to do: a queue is subscribed when it is created."""

    def _lookup(self, exchange: str, routing_key: str, default: str | None = None) -> Any:
        if exchange == names.REPLY_EXCHANGE:
            # kombu keeps bindings in memory, so only the requester has this one.
            return [names.reply_queue(routing_key)]
        return super()._lookup(exchange, routing_key, default)

    # --- publishing ---

    def create_publish_batch(self, max_size: int) -> PublishBatch:
        """Ignores ``max_size``: SQS takes ten."""
        return PublishBatch(self, self.sqs)

    def encode_body(self, body: Any, encoding: str | None = None) -> Any:
        # A compressed body is not text. Each message records its body's encoding.
        return super().encode_body(body, "base64" if isinstance(body, bytes) else encoding)

    def _put(
        self, queue: str, message: dict[str, Any], *, _publish_batch: PublishBatch | None = None, **_kwargs: Any
    ) -> None:
        left_s = remaining_s(message)
        if left_s:
            message["properties"].setdefault("delay_seconds", delay_s(left_s))
        delay = self._resolve_delay_seconds(message.get("properties", {}))
        if names.kind_of(queue) is not Kind.REPLY:
            self.parts.publisher.publish(queue, message, delay, _publish_batch)
            return
        try:
            with replying(queue):
                self.parts.publisher.publish(queue, message, delay, _publish_batch)
        finally:
            self._queue_cache.pop(self.canonical_queue_name(queue), None)

    # --- receiving ---

    def _schedule_queue(self, queue: str) -> None:
        """kombu calls this when a queue is consumed."""
        self.poller.poll(queue)

    def basic_cancel(self, consumer_tag: str) -> Any:
        queue = self._tag_to_queue.get(consumer_tag, "")
        cancelled = super().basic_cancel(consumer_tag)
        if names.kind_of(queue) in (Kind.CONTROL, Kind.EVENTS):
            owned().release(self.canonical_queue_name(queue))
        return cancelled

    def _capacity(self) -> int:
        room: int | None = self.qos.can_consume_max_estimate()
        return MAX_ENTRIES if room is None else room

    def _admit(self, handles: Sequence[str]) -> int:
        return self.gate.admit(handles)

    def _consumer_of(self, queue: str) -> Callable[[Any], object] | None:
        if self.connection is None or self.poller.stopped:
            return None
        consumer: Callable[[Any], object] | None = self.connection._callbacks.get(queue)
        return consumer

    def _message_to_python(self, message: Any, queue_name: str, q_url: str) -> Any:
        """Tells the task that its message was delivered before, so that it can check what an earlier try left:
        ``self.request.delivery_info["redelivered"]``, which kombu's SQS transport never sets."""
        payload = super()._message_to_python(message, queue_name, q_url)
        if receives(message) > 1 and "properties" in payload:
            payload["properties"].setdefault("delivery_info", {})["redelivered"] = True
        return payload

    # --- receiving without an event loop, for callers that wait for replies or events ---

    @property
    def get_message_attributes(self) -> dict[str, Any]:
        return dict(WANTED_ATTRIBUTES)

    def drain_events(self, timeout: float | None = None, *args: Any, **kwargs: Any) -> Any:
        self._drain_timeout_s = timeout
        return super().drain_events(timeout, *args, **kwargs)

    def _receive_message(
        self, queue: str, max_number_of_messages: int = 1, wait_time_seconds: int | None = None
    ) -> Any:
        if names.kind_of(queue) is Kind.REPLY:
            wait_time_seconds = reply_poll_s(wait_time_seconds, self._drain_timeout_s)
        try:
            return super()._receive_message(queue, max_number_of_messages, wait_time_seconds)
        except ClientError as exc:
            if not (owned().closed and is_missing(exc)):
                raise
            time.sleep(1)  # the process is ending, and has removed the queue under this poll
            return {}

    def _delete_message(self, queue_name: str, message: dict[str, Any]) -> None:
        if names.kind_of(queue_name) is None:
            super()._delete_message(queue_name, message)
        # Otherwise nothing is to be deleted: SQS does not deliver it again before its retention ends.

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
        """Releases a message that was delivered and is not settled."""
        found = self.parts.in_flight.find(message.delivery_tag)
        if found is not None:
            self.parts.settlement.release(found)

    def _on_settled(self, message: InFlightMessage, is_done: bool) -> None:
        if is_done:
            self.parts.prefetch.on_done(time.monotonic())
        self.qos.ack(message.handle)
        self.gate.ended(message.handle)
        if "poller" in self.__dict__:
            self.poller.resume()

    def let_go(self) -> None:
        """Stops this channel's work for its messages; called when it closes.

        Messages of running tasks stay in flight, and are settled when the tasks end: receipt handles are not bound to a
        connection. Celery forgets all others when it loses one. At the end of a worker no task runs.
        """
        if "delivery" in self.__dict__:
            self.delivery.close()
        if "poller" in self.__dict__:
            self.poller.close()
        if "parts" in self.__dict__:
            running = running_tags()
            for message in self.parts.in_flight.select(lambda message: message.handle not in running):
                self.parts.settlement.put_back(message)

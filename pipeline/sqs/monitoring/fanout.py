"""What kombu's SQS channel lacks for events and remote control: fanout over the stack's SNS topics.

Only queues with the exact names of ``pipeline.sqs.monitoring.names`` are ever made, and only by the process
that will read them.
"""

from __future__ import annotations

import logging
import math
import time
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from kombu.transport import SQS
from kombu.transport.SQS.exceptions import DoesNotExistQueueException, UndefinedQueueException
from kombu.transport.virtual.base import queue_declare_ok_t
from kombu.utils.json import dumps

from pipeline.aws import clients
from pipeline.aws.errors import is_missing, told
from pipeline.aws.plain_errors import ConfigError
from pipeline.sqs.monitoring import names
from pipeline.sqs.monitoring.names import Kind
from pipeline.sqs.monitoring.process_queues import owned, topic_errors

logger = logging.getLogger(__name__)

#: What a Transport with this channel can do; Celery's remote control looks for ``fanout``.
EXCHANGE_TYPES = frozenset({"direct", "topic", "fanout"})


class Fanout(SQS.Channel):
    """Reads ``predefined_exchanges`` (exchange → topic ARN) and ``control_queue_ttl_s`` of the transport options."""

    supports_fanout = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._drain_timeout_s: float | None = None
        super().__init__(*args, **kwargs)

    # --- exchanges ---

    def exchange_declare(self, exchange: str | None = None, type: str = "direct", *args: Any, **kwargs: Any) -> Any:
        # Celery declares its event exchange as a topic exchange, except for brokers that it knows.
        if exchange in self._topics():
            type = "fanout"
        return super().exchange_declare(exchange, type, *args, **kwargs)

    def _put_fanout(self, exchange: str, message: dict[str, Any], routing_key: str, **_: Any) -> None:
        topic_arn = self._topic_arn(exchange)
        with topic_errors(topic_arn):
            clients.sns().publish(TopicArn=topic_arn, Message=dumps(message))

    def _queue_bind(self, *_: Any) -> None:
        """Nothing to do: a queue is subscribed when it is made."""

    def _subscribe_queue_to_fanout_exchange_if_required(self, queue_name: str) -> None:
        """Nothing to do: a queue is subscribed when it is made."""

    def _lookup(self, exchange: str, routing_key: str, default: str | None = None) -> Any:
        if exchange == names.REPLY_EXCHANGE:
            # kombu keeps bindings in memory: this one is known to the requester alone.
            return [names.reply_queue(routing_key)]
        return super()._lookup(exchange, routing_key, default)

    def _topics(self) -> dict[str, dict[str, str]]:
        topics: dict[str, dict[str, str]] = self.transport_options.get("predefined_exchanges", {})
        return topics

    def _topic_arn(self, exchange: str) -> str:
        try:
            return self._topics()[exchange]["arn"]
        except KeyError:
            raise ConfigError(
                "Events and remote control are off: set TOPIC_ARN_PREFIX to where the stack's topics are"
            ) from None

    # --- queues ---

    def canonical_queue_name(self, queue_name: str) -> Any:
        return super().canonical_queue_name(names.shortened(queue_name))

    def queue_declare(self, queue: str | None = None, passive: bool = False, **kwargs: Any) -> Any:
        kind = None if queue is None or passive else names.kind_of(queue)
        if queue is None or kind is None:
            return super().queue_declare(queue, passive, **kwargs)
        name = self.canonical_queue_name(queue)
        # Also for a reply queue, which has no topic: where there is none, nothing is made.
        topic_arn = self._topic_arn(names.CONTROL_EXCHANGE if kind.exchange is None else kind.exchange)
        self._queue_cache[name] = owned().open(
            name,
            kind,
            None if kind.exchange is None else topic_arn,
            lease_s=self.transport_options["control_queue_ttl_s"],
        )
        return queue_declare_ok_t(queue, 0, 0)

    def _update_queue_cache(self, name: str) -> None:
        url = owned().url(name)
        if url is None:
            super()._update_queue_cache(name)
        else:
            self._queue_cache[name] = url

    def basic_cancel(self, consumer_tag: str) -> Any:
        queue = self._tag_to_queue.get(consumer_tag, "")
        cancelled = super().basic_cancel(consumer_tag)
        if names.kind_of(queue) in (Kind.CONTROL, Kind.EVENTS):
            owned().release(self.canonical_queue_name(queue))
        return cancelled

    # --- messages ---

    def encode_body(self, body: Any, encoding: str | None = None) -> Any:
        # What is compressed is not text; each message says how its body is encoded.
        return super().encode_body(body, "base64" if isinstance(body, bytes) else encoding)

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        if names.kind_of(queue) is not Kind.REPLY:
            super()._put(queue, message, **kwargs)
            return
        try:
            super()._put(queue, message, **kwargs)
        except (DoesNotExistQueueException, UndefinedQueueException):
            logger.debug("nobody waits for a reply on %s any more", queue)
        except (ClientError, BotoCoreError) as exc:
            # Not tried again: whoever asked has stopped waiting by then.
            level = logging.DEBUG if isinstance(exc, ClientError) and is_missing(exc) else logging.WARNING
            logger.log(level, "a reply on %s was not sent: %s", queue, told(exc))
        finally:
            self._queue_cache.pop(self.canonical_queue_name(queue), None)

    def _delete_message(self, queue_name: str, message: dict[str, Any]) -> None:
        if names.kind_of(queue_name) is None:
            super()._delete_message(queue_name, message)
        # Else it is gone already: it can't be received twice before it expires.

    def drain_events(self, timeout: float | None = None, *args: Any, **kwargs: Any) -> Any:
        self._drain_timeout_s = timeout
        return super().drain_events(timeout, *args, **kwargs)

    def _receive_message(
        self, queue: str, max_number_of_messages: int = 1, wait_time_seconds: int | None = None
    ) -> Any:
        if names.kind_of(queue) is Kind.REPLY:
            wait_time_seconds = self._patience_s(wait_time_seconds)
        try:
            return super()._receive_message(queue, max_number_of_messages, wait_time_seconds)
        except ClientError as exc:
            if not (owned().closed and is_missing(exc)):
                raise
            time.sleep(1)  # the process is ending, and has removed the queue under this poll
            return {}

    def _patience_s(self, long_poll_s: int | None) -> int | None:
        """How long to poll for a reply: as long as the requester waits, not as long as workers poll for tasks."""
        if not long_poll_s or self._drain_timeout_s is None:
            return long_poll_s
        return min(long_poll_s, max(1, math.ceil(self._drain_timeout_s)))

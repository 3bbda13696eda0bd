"""Never deaf: the poll loop of a queue goes on whatever a ReceiveMessage ends with.

In kombu the next poll is started by the success of the last one, so one failed ReceiveMessage ends
the polling of that queue for good, while the process looks healthy. Here every way out of a poll
leads to the next one:

    open ──messages or none──▶ open, at once
      │ └──no room to hold more──▶ full ──a message is done──▶ open
      └──error, time-out, exception──▶ backing off ──0.5 to 10 s──▶ open
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from kombu.asynchronous import set_event_loop
from kombu.transport import SQS
from vine import promise

from pipeline.sqs.transport.receiving import REPLY_MARGIN_S, SQSConnection

FIRST_BACKOFF_S = 1.0
MAX_BACKOFF_S = 10.0

logger = logging.getLogger(__name__)


class PollState(Enum):
    OPEN = "open"
    FULL = "full"
    BACKING_OFF = "backing off"


@dataclass
class Poll:
    """Where the polling of one queue stands. Times are ``time.monotonic()``."""

    state: PollState | None = None
    since: float = field(default_factory=time.monotonic)
    failures: int = 0
    failing_since: float = 0.0

    def age_s(self) -> float:
        return time.monotonic() - self.since

    def enter(self, state: PollState | None) -> None:
        self.state = state
        self.since = time.monotonic()


class PollingTransport(SQS.Transport):
    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Celery calls this for each connection.

        After the loss of one it has reset its event loop, which kombu then no longer takes for the current one:
        the channels of the next connection would find none, and never poll.
        """
        set_event_loop(loop)
        for channel in (*self.channels, *self._avail_channels):
            channel.hub = loop
        super().register_with_event_loop(connection, loop)


class Polling(SQS.Channel):
    """Needs a hub, so it is used by workers; without one kombu receives synchronously."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._asynsqs: SQSConnection | None = None
        self.polls: dict[str, Poll] = {}
        self._polling_stopped = False
        super().__init__(*args, **kwargs)

    @property
    def get_message_attributes(self) -> dict[str, Any]:
        """kombu's name for what a receive asks for beside the text: all that is needed to send a message again."""
        return {
            "MessageSystemAttributeNames": ["ApproximateReceiveCount", "MessageGroupId"],
            "MessageAttributeNames": ["All"],
        }

    def asynsqs(self, queue: str | None = None) -> Any:
        if self._asynsqs is None:
            margin_s = self.transport_options.get("reply_margin_s", REPLY_MARGIN_S)
            names = self.get_message_attributes
            self._asynsqs = SQSConnection(
                self.sqs(),
                region=self.region,
                message_system_attribute_names=names["MessageSystemAttributeNames"],
                message_attribute_names=names["MessageAttributeNames"],
                reply_timeout_s=self.wait_time_seconds + margin_s,
            )
        return self._asynsqs

    def stop_polling(self) -> None:
        """No new poll is opened. What open ones still bring goes to ``_deliver_all`` as before."""
        self._polling_stopped = True

    def poll_again(self) -> None:
        """To be called when there is room for more messages."""
        for queue, poll in list(self.polls.items()):
            if poll.state is PollState.FULL:
                poll.enter(None)
                self._schedule_queue(queue)

    def _schedule_queue(self, queue: str) -> None:
        """Opens a poll of the queue; its end, good or bad, leads back here. kombu calls this first."""
        if self._polling_stopped or queue not in self._active_queues:
            self.polls.pop(queue, None)
            return
        poll = self.polls.setdefault(queue, Poll())
        if poll.state is not None:
            return  # consumed anew while it was being polled: one loop a queue is enough
        if not self.qos.can_consume():
            poll.enter(PollState.FULL)
            return
        poll.enter(PollState.OPEN)
        url = None
        try:
            url = self._new_queue(queue)
            self._get_from_sqs(
                queue,
                url,
                self.asynsqs(),
                count=self._get_message_estimate(),
                callback=promise(self._poll_ended, (queue, url), on_error=self._poll_failed),
            )
        except Exception as exc:
            # No credentials, no DNS, no such queue: whatever it is, it may pass.
            self._poll_failed(queue, url, exc)

    def _poll_ended(self, queue: str, url: str, reply: dict[str, Any]) -> None:
        poll = self.polls.setdefault(queue, Poll())
        if poll.failures:
            logger.warning(
                "Receiving from %s works again, after %.0f s and %d failures",
                queue,
                time.monotonic() - poll.failing_since,
                poll.failures,
                extra={"action": "poll-recovered", "queue": queue, "failures": poll.failures},
            )
            poll.failures = 0
        self._deliver_all(queue, url, reply.get("Messages") or [])
        poll.enter(None)
        self.hub.call_soon(self._schedule_queue, queue)

    def _poll_failed(self, queue: str, _url: str | None, exc: Exception) -> None:
        poll = self.polls.setdefault(queue, Poll())
        poll.failures += 1
        if poll.failures == 1:
            poll.failing_since = time.monotonic()
            known = isinstance(exc, OSError) or type(exc).__module__.startswith(("pipeline.", "botocore."))
            logger.warning(
                "Receiving from %s failed (%s: %s); trying again until it works",
                queue,
                type(exc).__name__,
                exc,
                exc_info=None if known else exc,
                extra={"action": "poll-failed", "queue": queue},
            )
        poll.enter(PollState.BACKING_OFF)
        delay_s = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(poll.failures - 1, 10)) * random.uniform(0.5, 1)  # noqa: S311
        self.hub.call_later(delay_s, self._back_off_ended, queue)

    def _back_off_ended(self, queue: str) -> None:
        poll = self.polls.get(queue)
        if poll is not None:
            poll.enter(None)
        self._schedule_queue(queue)

    def _deliver_all(self, queue: str, url: str, messages: list[dict[str, Any]]) -> None:
        """Hands received messages to the consumer; one that can't be handled doesn't cost the others."""
        consumer = None if self.connection is None else self.connection._callbacks.get(queue)
        if consumer is None or self._polling_stopped:
            if messages:
                self._release_messages(url, queue, messages)
            return
        for message in messages:
            try:
                self._deliver_one(queue, url, message, consumer)
            except Exception as exc:
                logger.exception(
                    "Message %s of %s could not be handled",
                    message.get("MessageId"),
                    queue,
                    extra={"action": "message-failed", "queue": queue},
                )
                self._not_delivered(url, message, exc)

    def _deliver_one(self, queue: str, url: str, message: dict[str, Any], consumer: Callable[[Any], Any]) -> None:
        consumer(self._message_to_python(message, queue, url))

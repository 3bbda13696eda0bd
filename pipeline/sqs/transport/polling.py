"""Polling always resumes: every receive, however it ends, is followed by the next one.

In kombu a successful receive starts the next one, so one failed ReceiveMessage ends the polling of that
queue for good, while the process looks healthy. Here every end of a poll leads to the next one:

    open ──messages or none──▶ open, at once
      │ └──no room for more──▶ full ──a message is settled──▶ open
      └──error, time-out, exception──▶ backing off ──0.5 to 10 s──▶ open
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.aws.backoff import Backoff
from pipeline.aws.errors import describe_error
from pipeline.aws.plain_errors import PlainError
from pipeline.sqs.transport.receiver import Received, ReceiveJob

BACKOFF = Backoff(1, 10)

logger = logging.getLogger(__name__)


class PollState(Enum):
    OPEN = "open"
    FULL = "full"
    BACKING_OFF = "backing off"


@dataclass
class Poll:
    """The state of one queue's polling. Times are ``time.monotonic()``."""

    state: PollState | None = None
    since: float = field(default_factory=time.monotonic)
    failures: int = 0
    failing_since: float = 0.0

    def age_s(self) -> float:
        return time.monotonic() - self.since

    def enter(self, state: PollState | None) -> None:
        self.state = state
        self.since = time.monotonic()


class Loop(Protocol):
    """The part of kombu's event loop that ``Poller`` needs."""

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> object: ...

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any) -> object: ...


class Receives(Protocol):
    """The part of a ``Receiver`` that ``Poller`` needs."""

    def start(self, queue: str, job: ReceiveJob) -> None: ...

    def close(self) -> None: ...


class Poller:
    """Keeps one receive open for each consumed queue. All methods are called in the event loop.

    ``is_consumed``: whether a queue still has a consumer. ``capacity``: how many messages there is room for now.
    ``deliver`` passes on the received messages, and does not raise.
    """

    def __init__(
        self,
        receiver: Receives,
        loop: Loop,
        *,
        is_consumed: Callable[[str], bool],
        capacity: Callable[[], int],
        deliver: Callable[[str, Received], None],
    ) -> None:
        self._receiver = receiver
        self._loop = loop
        self._is_consumed = is_consumed
        self._capacity = capacity
        self._deliver = deliver
        self.polls: dict[str, Poll] = {}
        self.stopped = False

    def stop(self) -> None:
        """Starts no new receive. Messages of open ones are delivered as before."""
        self.stopped = True

    def close(self) -> None:
        self.stop()
        self._receiver.close()

    def poll(self, queue: str) -> None:
        """Begins a receive, unless one is open or there is no room. However it ends, this method is called again."""
        if self.stopped or not self._is_consumed(queue):
            self.polls.pop(queue, None)
            return
        poll = self.polls.setdefault(queue, Poll())
        if poll.state is not None:
            return  # a consumer was added while a receive is open: one for each queue is enough
        count = self._capacity()
        if not count:
            poll.enter(PollState.FULL)
            return
        poll.enter(PollState.OPEN)
        self._receiver.start(
            queue,
            ReceiveJob(count, lambda received: self._ended(queue, received), lambda exc: self._failed(queue, exc)),
        )

    def resume(self) -> None:
        """Call this when there is room for more messages."""
        for queue, poll in list(self.polls.items()):
            if poll.state is PollState.FULL:
                self._again(queue)

    def _ended(self, queue: str, received: Received) -> None:
        poll = self.polls.setdefault(queue, Poll())
        if poll.failures:
            logger.warning(
                "Receiving from %s works again, after %.0f s and %d failures",
                queue,
                time.monotonic() - poll.failing_since,
                poll.failures,
                extra={"action": "sqs_recovered", "queue": queue, "failures": poll.failures},
            )
            poll.failures = 0
        self._deliver(queue, received)
        poll.enter(None)
        self._loop.call_soon(self.poll, queue)

    def _failed(self, queue: str, exc: Exception) -> None:
        if self.stopped:
            return
        poll = self.polls.setdefault(queue, Poll())
        poll.failures += 1
        if poll.failures == 1:
            poll.failing_since = time.monotonic()
            is_known = isinstance(exc, (OSError, ClientError, BotoCoreError, PlainError))
            logger.warning(
                "Receiving from %s failed (%s); trying again until it works",
                queue,
                describe_error(exc) if is_known else repr(exc),
                exc_info=None if is_known else exc,
                extra={"action": "sqs_unavailable", "queue": queue},
            )
        poll.enter(PollState.BACKING_OFF)
        self._loop.call_later(BACKOFF.pause_s(poll.failures), self._again, queue)

    def _again(self, queue: str) -> None:
        poll = self.polls.get(queue)
        if poll is not None:
            poll.enter(None)
        self.poll(queue)

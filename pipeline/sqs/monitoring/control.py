"""Remote control over SNS: Celery's own, with mailbox names that SQS accepts, and replies matched to their calls.

A thread has one reply queue for all its calls, so a reply that comes after its call has ended is received by the next
call. kombu counts receives, not replies: a late reply would use up the only receive of a call to one worker. That
call's own reply would then be late for the next one, and so on for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery.app import control
from kombu import Consumer, Queue, pidbox

from pipeline.sqs.monitoring import names

#: Default seconds to wait for the replies to a control command; Flower's buttons use the default. Celery's 1 s is short
#: for the way over SNS, two queues and a worker's event loop. A call to named workers ends when all have answered.
REPLY_TIMEOUT_S = 3.0


class Mailbox(pidbox.Mailbox):
    @property
    def oid(self) -> str:
        return names.reply_id(type(self))

    def get_queue(self, hostname: str) -> Queue:
        """The control queue of a starting worker: a new one at each start."""
        queue = super().get_queue(hostname)
        queue.name = names.control_queue()
        return queue

    def get_reply_queue(self) -> Queue:
        queue = super().get_reply_queue()
        queue.name = names.reply_queue(self.oid)
        return queue

    def _collect(
        self,
        ticket: str,
        limit: int | None = None,
        timeout: float | None = 1,
        callback: Callable[[Any], None] | None = None,
        channel: Any = None,
        accept: Sequence[str] | None = None,
    ) -> list[Any]:
        """Returns the replies to the call with this ticket, as ``{hostname: reply}``; drops any others.

        Returns after ``limit`` replies (None: no limit), or when none has come for ``timeout`` seconds (None: waits
        for ever). Replies to other calls neither count nor prolong the wait.
        """
        replies: list[Any] = []

        def on_message(body: Any, message: Any) -> None:
            self.clock.adjust(message.headers.get("clock") or 0)
            if message.headers.get("ticket") != ticket:
                return  # a reply to a call that has ended
            if callback is not None:
                callback(body)
            replies.append(body)

        with Consumer(
            channel or self.connection.default_channel,
            [self.reply_queue],
            accept=self.accept if accept is None else accept,
            no_ack=True,
            callbacks=[on_message],
        ):
            while not limit or len(replies) < limit:
                if not self._wait_for_more(replies, timeout):
                    break
        return replies

    def _wait_for_more(self, replies: list[Any], timeout: float | None) -> bool:
        """Whether ``replies`` has grown before the time-out."""
        before, left = len(replies), timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        while left is None or left >= 0:
            try:
                self.connection.drain_events(timeout=left)
            except TimeoutError:
                return False
            if len(replies) > before:
                return True
            left = None if deadline is None else deadline - time.monotonic()
        return False


class Control(control.Control):
    Mailbox = Mailbox

    def broadcast(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        destination: Sequence[str] | None = None,
        connection: Any = None,
        reply: bool = False,
        timeout: float | None = REPLY_TIMEOUT_S,
        **options: Any,
    ) -> Any:
        """As Celery's, with a longer default time-out: see ``REPLY_TIMEOUT_S``."""
        return super().broadcast(command, arguments, destination, connection, reply, timeout, **options)

"""Remote control over SNS: Celery's own, with mailboxes whose names SQS accepts."""

from __future__ import annotations

from collections import deque
from typing import Any

from celery.app import control
from kombu import Queue, pidbox

from pipeline.sqs.monitoring import names


class _Unclaimed(dict[str, deque[Any]]):
    """Replies to calls that have ended. kombu keeps them for other threads; here each has its own queue."""

    def __missing__(self, ticket: str) -> deque[Any]:
        return deque(maxlen=0)


class Mailbox(pidbox.Mailbox):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.unclaimed = _Unclaimed()

    @property
    def oid(self) -> str:
        return names.reply_id(type(self))

    def get_queue(self, hostname: str) -> Queue:
        """The queue of a worker that starts: a new one each time."""
        queue = super().get_queue(hostname)
        queue.name = names.control_queue()
        return queue

    def get_reply_queue(self) -> Queue:
        queue = super().get_reply_queue()
        queue.name = names.reply_queue(self.oid)
        return queue


class Control(control.Control):
    Mailbox = Mailbox

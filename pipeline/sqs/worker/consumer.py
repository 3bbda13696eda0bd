"""Celery's consumer. It dead-letters malformed messages with the reason, and reconnects with a back-off.

A malformed message fails in the same way each time: it is not a Celery message, names an unknown task, or has arguments
that the task does not take. Without this consumer, Celery would reject some of these, delete others, and run the last.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.exceptions import CPendingDeprecationWarning, InvalidTaskError
from celery.worker import consumer
from celery.worker.consumer.consumer import CONNECTION_RETRY, INVALID_TASK_ERROR, UNKNOWN_FORMAT, UNKNOWN_TASK_ERROR
from celery.worker.state import maybe_shutdown

from pipeline.aws.backoff import Backoff
from pipeline.aws.errors import describe_error
from pipeline.sqs.transport.parts import Parts
from pipeline.sqs.worker import in_place
from pipeline.sqs.worker.request import Request

#: The default request class of a task.
STOCK_REQUEST = "celery.worker.request:Request"
#: Prefix of the names of Celery's own tasks.
BUILTIN = "celery."
#: Seconds before reconnecting; after the first loss, 0.
BACKOFF = Backoff(1, 15)
#: Seconds without a loss after which the next loss counts as the first.
STABLE_S = 60.0

logger = logging.getLogger(__name__)
#: Log lines of Celery's consumer that this module replaces: that a message was deleted, with its whole text, though it
#: was not (``settlement`` logs where it went); and that a connection was lost.
_TOLD_BETTER = (INVALID_TASK_ERROR, UNKNOWN_FORMAT, UNKNOWN_TASK_ERROR, CONNECTION_RETRY)


def _is_needed(record: logging.LogRecord) -> bool:
    first = record.args[0] if isinstance(record.args, tuple) and record.args else None
    return record.msg not in _TOLD_BETTER and first not in _TOLD_BETTER


logging.getLogger("celery.worker.consumer.consumer").addFilter(_is_needed)


class Consumer(consumer.Consumer):
    _losses = 0
    _lost_at = float("-inf")

    def __init__(self, on_task_request: Callable[[Any], None], *args: Any, **kwargs: Any) -> None:
        super().__init__(on_task_request, *args, **kwargs)
        if in_place.is_on(self.app, self.pool):
            self.on_task_request = partial(in_place.begin, self.controller)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Reconnects with a back-off; Celery alone would retry at once, some ten times a second.

        Also called if a starting worker can't reach SQS, since connecting makes no request.
        """
        with warnings.catch_warnings():
            # Running tasks are deliberately not cancelled.
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)
        self._losses = self._losses + 1 if time.monotonic() - self._lost_at < STABLE_S else 1
        pause_s = BACKOFF.ceiling_s(self._losses - 1)
        logger.warning(
            "Lost the connection to SQS, retrying %s: %s",
            f"in {pause_s:.0f} s" if pause_s else "now",
            describe_error(exc),
            extra={"action": "connection_lost", "failures": self._losses},
        )
        ends_at = time.monotonic() + pause_s
        while time.monotonic() < ends_at:
            maybe_shutdown()
            time.sleep(0.1)
        self._lost_at = time.monotonic()

    def update_strategies(self) -> None:
        for task in self.app.tasks.values():
            if task.Request == STOCK_REQUEST:
                task.Request = Request
            task.acks_late = True  # a message must not be acknowledged when its task has only begun
        super().update_strategies()
        # A forged `celery.chord_unlock` would publish itself again for ever.
        for name in set(self.strategies) - set(self.app.sqs.settings.builtin_tasks or ()):
            if name.startswith(BUILTIN):
                del self.strategies[name]

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        handle = super().create_task_handler(*args, **kwargs)

        def on_task_received(message: Any) -> None:
            if _is_malformed(message):
                self.on_invalid_task(None, message, InvalidTaskError("malformed task message: its body is no list"))
            else:
                handle(message)

        return on_task_received

    def on_unknown_message(self, body: Any, message: Any) -> None:
        _dead_letter(message, "not a Celery message: it names no task")
        super().on_unknown_message(body, message)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        name = str(exc.args[0])
        hint = ": it is Celery's own, and not in BUILTIN_TASKS" if name.startswith(BUILTIN) else ""
        _dead_letter(message, f"unknown task {name}{hint}")
        super().on_unknown_task(body, message, exc)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        _dead_letter(message, str(exc))
        super().on_invalid_task(body, message, exc)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Dead-letters the message. Celery would acknowledge it, which deletes it."""
        _dead_letter(message, f"the body can't be decoded: {exc}")


def _is_malformed(message: Any) -> bool:
    """Whether this is a task's message with a body that makes Celery fail without saying what is wrong."""
    if not isinstance(message.headers, dict) or "task" not in message.headers:
        return False
    try:
        return not isinstance(message.payload, (list, tuple, dict))
    except Exception:
        return False  # it can't be decoded, for which Celery has an error of its own


def _dead_letter(message: Any, reason: str) -> None:
    """Dead-letters the message with the reason, before Celery rejects it without one."""
    parts: Parts = message.channel.parts
    found = parts.in_flight.find(message.delivery_tag)
    if found is not None:
        parts.settlement.dead_letter(found, reason)

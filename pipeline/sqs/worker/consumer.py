"""Celery's consumer, which sends poison to the dead-letter queue with the reason, and takes its time to reconnect.

Poison is what fails in the same way each time: not a Celery message, an unknown task, arguments that the
task doesn't take. Celery rejects some of these, deletes others, and runs the last.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionWithTraceback
from celery.exceptions import CPendingDeprecationWarning, InvalidTaskError, Reject
from celery.worker import consumer, request
from celery.worker.consumer.consumer import CONNECTION_RETRY, INVALID_TASK_ERROR, UNKNOWN_FORMAT, UNKNOWN_TASK_ERROR
from celery.worker.state import maybe_shutdown, task_ready

from pipeline.aws.errors import told
from pipeline.sqs.transport.publishing import PublishError

#: The request class that a task names unless it has one of its own.
STOCK_REQUEST = "celery.worker.request:Request"
#: What Celery's request raises for a body that is not built as its protocol says.
MALFORMED = (AttributeError, IndexError, KeyError, TypeError, ValueError)
#: Longest pause before connecting anew, and the time without a loss after which the next one is the first again.
MAX_PAUSE_S = 15.0
STABLE_S = 60.0

logger = logging.getLogger(__name__)
#: What Celery's consumer logs and is told better here: that a message was deleted, which it is not, with all of its
#: text (where it went is said by ``dead_letters``); and that a connection is lost.
_TOLD_BETTER = (INVALID_TASK_ERROR, UNKNOWN_FORMAT, UNKNOWN_TASK_ERROR, CONNECTION_RETRY)


def _is_needed(record: logging.LogRecord) -> bool:
    first = record.args[0] if isinstance(record.args, tuple) and record.args else None
    return record.msg not in _TOLD_BETTER and first not in _TOLD_BETTER


logging.getLogger("celery.worker.consumer.consumer").addFilter(_is_needed)


class Request(request.Request):
    """Checks the task's arguments before a process gets them, keeps a task's reason to reject, and does not
    acknowledge a task whose successor could not be published."""

    def __init__(self, message: Any, **options: Any) -> None:
        try:
            super().__init__(message, **options)
        except MALFORMED as exc:
            raise InvalidTaskError(f"malformed task message: {type(exc).__name__}: {exc}") from exc
        if self.task.typing:
            try:
                self.task.__header__(*self.args, **self.kwargs)
            except TypeError as exc:
                raise InvalidTaskError(f"{self.task.name} does not take these arguments: {exc}") from exc

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        exc = exc_info.exception
        if isinstance(exc, ExceptionWithTraceback):
            exc = exc.exc
        # The next task of a chain, or a retry, is not in the queue: this task must not be acknowledged.
        if isinstance(exc, Reject) and isinstance(exc.reason, PublishError):
            exc.requeue = True
        if isinstance(exc, PublishError):
            task_ready(self)
            logger.warning("%s[%s] will be run again: %s", self.name, self.id, exc, extra={"action": "requeued"})
            self.reject(requeue=True)
            return
        if isinstance(exc, Reject):
            self.message.channel.explain(self.message.delivery_tag, f"rejected by {self.name}: {exc.reason}")
        super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)


class Consumer(consumer.Consumer):
    _losses = 0
    _lost_at = float("-inf")

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Also what a worker comes to that can't reach SQS when it starts: here, connecting costs nothing and proves
        nothing. Celery would try again at once, some ten times a second."""
        with warnings.catch_warnings():
            # That running tasks are not cancelled is meant.
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)
        self._losses = self._losses + 1 if time.monotonic() - self._lost_at < STABLE_S else 1
        pause_s = min(MAX_PAUSE_S, 2.0 ** (self._losses - 2)) if self._losses > 1 else 0.0
        logger.warning(
            "SQS can't be used, trying again %s: %s",
            f"in {pause_s:.0f} s" if pause_s else "at once",
            told(exc),
            extra={"action": "connection-lost", "failures": self._losses},
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
        super().update_strategies()

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        handle = super().create_task_handler(*args, **kwargs)

        def on_task_received(message: Any) -> None:
            if _is_malformed(message):
                self.on_invalid_task(None, message, InvalidTaskError("malformed task message: its body is no list"))
            else:
                handle(message)

        return on_task_received

    def on_unknown_message(self, body: Any, message: Any) -> None:
        _explain(message, "not a Celery message: it names no task")
        super().on_unknown_message(body, message)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        _explain(message, f"unknown task {exc.args[0]}")
        super().on_unknown_task(body, message, exc)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        _explain(message, str(exc))
        super().on_invalid_task(body, message, exc)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Celery's own acknowledges the message, which deletes it."""
        _explain(message, f"the body can't be decoded: {exc}")
        message.reject_log_error(logger, self.connection_errors)


def _is_malformed(message: Any) -> bool:
    """A task's message whose body Celery would choke on, instead of saying what is wrong with it."""
    if not isinstance(message.headers, dict) or "task" not in message.headers:
        return False
    try:
        return not isinstance(message.payload, (list, tuple, dict))
    except Exception:
        return False  # can't be decoded: that, Celery does say


def _explain(message: Any, reason: str) -> None:
    message.channel.explain(message.delivery_tag, reason)

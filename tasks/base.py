"""How every task about one object ends.

Deleting a message needs a proof (``pipeline.sqs.settled``): the task returned an outcome, its failure record is in
place, or its retry is published. Nothing here catches errors that occur while a task ends: they leave the message, and
SQS delivers it again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from celery import Task
from celery.exceptions import Reject, SoftTimeLimitExceeded

from pipeline.aws.backoff import Backoff
from pipeline.core.errors import (
    MessageError,
    ObjectChanged,
    ObjectGone,
    OwnOutput,
    PermanentError,
    PipelineError,
    ServiceUnavailable,
    TransientError,
)
from pipeline.core.outputs import Output
from pipeline.core.source import Source
from pipeline.core.task_result import TaskResult
from pipeline.enqueue import check_bucket
from pipeline.sqs.outage.patience import Patience
from pipeline.sqs.settled import Unavailable, settled
from tasks import failures
from tasks.cleanup import look_later, reconcile_now
from tasks.job import Job
from tasks.outcome import Outcome

logger = logging.getLogger(__name__)

#: SQS's limit for DelaySeconds.
MAX_DELAY_S = 900
#: Maximum seconds that a message waits for a service to recover, from its first failure: two and a half days. The
#: stack's queues keep a message for seven, and each try is a new message.
MAX_WAIT_S = 2.5 * 86400
#: The errors which mean that there is nothing to make, and their outcomes.
_NO_WORK: dict[type[PipelineError], Outcome] = {
    ObjectGone: Outcome.GONE,
    ObjectChanged: Outcome.SUPERSEDED,
    OwnOutput: Outcome.SKIPPED,
}
_OUTCOMES = frozenset(outcome.value for outcome in Outcome)


def now() -> float:
    """Unix time; tests set it."""
    return time.time()


@dataclass(frozen=True, slots=True)
class Failure:
    """What an exception means for the object, and whether another try may help."""

    error: Exception  # the error for the failure record
    try_again: bool
    retryable: bool  # by a person, later

    @classmethod
    def of(cls, exc: Exception, source: Source, soft_time_limit_s: int) -> Failure:
        match exc:
            case PermanentError():
                return cls(exc, try_again=False, retryable=False)
            case TransientError():
                return cls(exc, try_again=True, retryable=True)
            case MemoryError():  # Celery would think that the worker ran out of memory, and stop it
                return cls(TransientError(f"{source.uri}: out of memory"), try_again=True, retryable=True)
            case SoftTimeLimitExceeded():
                error = TransientError(f"{source.uri} took longer than SOFT_TIME_LIMIT_S={soft_time_limit_s}")
                return cls(error, try_again=False, retryable=True)
            case _:
                return cls(exc, try_again=False, retryable=False)


class ObjectTask(Task):
    """A task about one object. Its body calls ``run_with_policy`` with its work."""

    output: Output | None = None  # its output, if that is known without running it
    logs_its_end = True  # at INFO, so Celery's own line is logged at DEBUG
    throws = (PipelineError,)  # ``run_with_policy`` logs these errors; Celery must not print their tracebacks

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Raises ``TypeError`` for a result without an outcome: it does not prove that the work is done."""
        if self.request.called_directly:
            return super().__call__(*args, **kwargs)
        result = self.run(*args, **kwargs)
        if not isinstance(result, dict) or result.get("outcome") not in _OUTCOMES:
            raise TypeError(f"{self.name} returned {type(result).__name__} without an outcome: return derive's result")
        # A worker's logs and events contain the result's repr, so it is a short one.
        return result if self.request.is_eager else TaskResult(result)

    @property
    def is_repeated(self) -> bool:
        """Whether an earlier delivery of this message, or the message it retries, may have done part of the work."""
        delivery = self.request.delivery_info or {}
        return self.request.retries > 0 or bool(delivery.get("redelivered"))

    def parse(self, argument: Any, *, check_existing: bool = False) -> Job:
        """The job from the task's argument; a malformed argument sends the message to the dead-letter queue."""
        try:
            return Job.parse(self, argument, check_existing=check_existing)
        except MessageError as exc:
            raise Reject(str(exc), requeue=False) from exc

    def run_with_policy(
        self, source: Source, work: Callable[[], dict[str, Any]], *, record: bool = True
    ) -> dict[str, Any]:
        """Does the work, ends it by this policy, and returns the task's result.

        - Object gone or overwritten: returns a result with that outcome, and the chain ends.
        - Transient error: a retry, with back-off and jitter; after the last one, a failure record.
        - A service that may be down for everybody: the same, but an outage uses up no tries, for up to ``MAX_WAIT_S``.
          The worker, which sees how all tasks end, decides whether there is an outage.
        - If the service also prevents writing the record: the message waits just as long, and then goes to the
          dead-letter queue.
        - Permanent or unexpected error: a failure record at once. Tasks without records send messages with permanent
          errors to the dead-letter queue.
        - Any error while the task ends: the message stays in SQS.
        """
        try:
            check_bucket(self.app.settings, source)
        except MessageError as exc:
            raise Reject(str(exc), requeue=False) from exc
        try:
            return work()
        except Exception as exc:
            return self._end(source, exc, record=record)

    def _end(self, source: Source, exc: Exception, *, record: bool) -> dict[str, Any]:
        """Ends the task after an error: returns its result, or raises if the work must be tried again."""
        if type(exc) in _NO_WORK:
            return self._nothing_to_make(source, exc)
        if isinstance(exc, MessageError):
            raise Reject(str(exc), requeue=False) from exc
        failure = Failure.of(exc, source, self.app.settings.soft_time_limit_s)
        if isinstance(exc, ServiceUnavailable):
            if self._patience.retries <= self.app.settings.max_retries and not self._is_out_of_patience:
                self._wait_for_service(exc, source)
        elif failure.try_again and self.request.retries < self.app.settings.max_retries:
            self._try_again(failure.error)
        if not record:
            if not isinstance(exc, PipelineError):
                raise exc
            logger.error("failed: %s: %s", source.uri, failure.error, extra=self._extra("failed", source))
            raise Reject(str(failure.error), requeue=False) from exc
        try:
            written = failures.record(self, source, failure.error, retryable=failure.retryable)
        except (ObjectGone, ObjectChanged) as changed:  # an old version needs no record
            return self._nothing_to_make(source, changed)
        except ServiceUnavailable as unwritten:
            text = f"{failure.error} Its failure record could not be written: {unwritten}"
            if self._is_out_of_patience:
                raise Reject(f"waited for {MAX_WAIT_S / 86400:g} days, at last: {text}", requeue=False) from exc
            self._wait_for_service(ServiceUnavailable(text), source)
        try:
            reconcile_now(self.app, written.source, again=True)  # removes the leftovers of earlier versions
        except TransientError:
            look_later(self.app, written.source)
        settled(self, "failed", written.uri)
        logger.warning("failed: %s: %s", source.uri, failure.error, extra=self._extra("failed", source))
        raise failure.error from (None if failure.error is exc else exc)

    def _nothing_to_make(self, source: Source, exc: Exception) -> dict[str, Any]:
        outcome = _NO_WORK[type(exc)]  # type: ignore[index]
        if outcome is not Outcome.SKIPPED:
            state = reconcile_now(self.app, source, again=True)
            if state.removed:
                logger.info("removed what was outdated: %s", ", ".join(state.removed), extra={"action": "removed"})
        logger.info("%s: %s", outcome.value, exc, extra=self._extra(outcome.value, source))
        if self.request.chain:
            self.request.chain.clear()
        return {"outcome": outcome.value, "source": source.to_json()}

    def _try_again(self, error: Exception) -> NoReturn:
        """Publishes the retry. The exception that Celery then raises proves that it is published."""
        raise self.retry(exc=error, countdown=self._backoff_s(), max_retries=self.app.settings.max_retries)

    def _wait_for_service(self, error: Exception, source: Source) -> NoReturn:
        """Delays the message in SQS. That uses up no receive, and a try only if other tasks succeed meanwhile."""
        raise Unavailable(str(error), self._backoff_s(), subject=source.uri) from error

    @property
    def _patience(self) -> Patience:
        return Patience.of(vars(self.request))

    @property
    def _is_out_of_patience(self) -> bool:
        return self._patience.waited_s(now()) > MAX_WAIT_S

    def _backoff_s(self) -> float:
        return Backoff(self.app.settings.retry_backoff_s, MAX_DELAY_S).pause_s(self._patience.tries + 1)

    def _extra(self, action: str, source: Source) -> dict[str, str]:
        return {"action": action, "key": source.key, "task": self.name}

"""What every task about one object has in common: how its errors end, and what is looked at again."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

from celery import Task
from celery.exceptions import Reject, SoftTimeLimitExceeded

from pipeline import enqueue
from pipeline.core.errors import (
    MessageError,
    ObjectChanged,
    ObjectGone,
    OwnOutput,
    PermanentError,
    PipelineError,
    TransientError,
)
from pipeline.core.names import failure_key
from pipeline.core.source import Source
from pipeline.sqs.monitoring.task_result import Report
from pipeline.sqs.settled import settled
from tasks import failures
from tasks.convergence import FOLLOW_UP_S, State, reconcile

logger = logging.getLogger(__name__)

#: Outcomes in a task's result. All but the first two end its chain: there is nothing left to make.
DONE = "done"
DUPLICATE = "duplicate"
SUPERSEDED = "superseded"
GONE = "gone"
SKIPPED = "skipped"


class ObjectTask(Task):
    """A task about one object. Its body calls ``settle`` with the work to do."""

    throws = (PipelineError,)  # told by ``settle``; Celery need not print their tracebacks

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.request.called_directly:
            return super().__call__(*args, **kwargs)
        result = self.run(*args, **kwargs)
        # In a worker the result is also shown, in logs and events: there it has a short repr.
        return result if self.request.is_eager else Report(result)

    @property
    def is_repeated(self) -> bool:
        """Whether an earlier try of this message, or of the one it retries, may have done part of the work."""
        delivery = self.request.delivery_info or {}
        return self.request.retries > 0 or bool(delivery.get("redelivered"))

    def settle(self, source: Source, work: Callable[[], dict[str, Any]], *, record: bool = True) -> dict[str, Any]:
        """Does the work and decides how its errors end; returns the task's result.

        - object gone or overwritten: a result that says so, and the chain ends;
        - transient: retried later with back-off and jitter; after the last try, a failure record;
        - permanent, or unexpected: a failure record at once;
        - the record can't be written: the message is left to SQS, which delivers it again
          and in the end moves it to the dead-letter queue; it goes there at once where there is to be no record.
        """
        try:
            enqueue.check_bucket(self.app.settings, source)
        except MessageError as exc:
            raise Reject(str(exc), requeue=False) from exc
        try:
            return self._attempt(source, work)
        except PermanentError as exc:
            return self._failed(source, exc, exc, retryable=False, record=record)
        except (TransientError, MemoryError) as exc:
            # Celery takes a MemoryError as the whole worker's, and stops it.
            error = exc if isinstance(exc, TransientError) else TransientError(f"{source.uri}: out of memory")
            max_retries = self.app.settings.max_retries
            if self.request.retries < max_retries:
                raise self.retry(exc=error, countdown=self._backoff_s(), max_retries=max_retries) from exc
            return self._failed(source, error, exc, retryable=True, record=record)
        except SoftTimeLimitExceeded as exc:
            limit_s = self.app.settings.soft_time_limit_s
            error = TransientError(f"{source.uri} took longer than SOFT_TIME_LIMIT_S={limit_s}")
            return self._failed(source, error, exc, retryable=True, record=record)
        except Exception as exc:
            return self._failed(source, exc, exc, retryable=False, record=record)

    def _attempt(self, source: Source, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        try:
            return work()
        except ObjectGone as exc:
            return self._outdated(GONE, source, exc)
        except ObjectChanged as exc:
            return self._outdated(SUPERSEDED, source, exc)
        except OwnOutput as exc:
            return self._ended(SKIPPED, source, exc)

    def look(self, source: Source, *, again: bool = False, always: bool = False, thorough: bool = False) -> State:
        """Reconciles what is stored with the object as it is now, and enqueues what follows from that.

        ``again``: look a second time later, even when nothing was removed now; ``always``: enqueue the object
        when nothing is stored of its current version, even when an event of that version must be on its way;
        ``thorough``: see ``reconcile``. Raises ``TransientError``.
        """
        state = reconcile(source, self.app.routes, thorough=thorough)
        if state.current is not None and state.needs_work and (always or state.removed):
            found = state.current
            now = Source(source.bucket, source.key, version_id=found.version_id, etag=found.etag, size=found.size)
            try:
                due = enqueue.work(self.app, now)
            except MessageError as exc:
                logger.info("skipped: %s", exc, extra={"action": SKIPPED, "key": source.key, "task": self.name})
            else:
                enqueue.send(due)
        if again or state.removed:
            enqueue.send(enqueue.reconciliation(self.app, source, second_look=True), countdown_s=FOLLOW_UP_S)
        return state

    def _outdated(self, outcome: str, source: Source, exc: PipelineError) -> dict[str, Any]:
        state = self.look(source, again=True)
        if state.removed:
            logger.info("removed what was outdated: %s", ", ".join(state.removed), extra={"action": "removed"})
        return self._ended(outcome, source, exc)

    def _ended(self, outcome: str, source: Source, exc: PipelineError) -> dict[str, Any]:
        logger.info("%s: %s", outcome, exc, extra={"action": outcome, "key": source.key, "task": self.name})
        if self.request.chain:
            self.request.chain.clear()
        return {"outcome": outcome, "source": source.to_json()}

    def _backoff_s(self) -> float:
        """Doubles with each retry up to 15 minutes (SQS's longest delay), with full jitter on the upper half."""
        ceiling_s = min(self.app.settings.retry_backoff_s * 2**self.request.retries, 900)
        return random.uniform(ceiling_s / 2, ceiling_s)  # noqa: S311 - jitter, not a secret

    def _failed(
        self, source: Source, error: Exception, cause: BaseException, *, retryable: bool, record: bool
    ) -> dict[str, Any]:
        """Raises ``error`` when its record is safe; returns a result when the object is another one by now."""
        extra = {"action": "failed", "key": source.key, "task": self.name}
        if not record:
            logger.error("failed: %s: %s", source.uri, error, extra=extra)
            raise Reject(str(error), requeue=False) from cause
        try:
            try:
                self.look_after(failures.record(self, source, error, retryable=retryable))
            except ObjectGone as exc:
                return self._outdated(GONE, source, exc)
            except ObjectChanged as exc:
                return self._outdated(SUPERSEDED, source, exc)
        except PipelineError as unwritten:
            reason = f"{error} Its failure record could not be written: {unwritten}"
            logger.exception("failed: %s: %s", source.uri, reason, extra=extra)
            raise Reject(reason, requeue=True) from cause
        settled(self, "failed", failure_key(source.key))
        logger.warning("failed: %s: %s", source.uri, error, extra=extra)
        raise error from (None if error is cause else cause)

    def look_after(self, source: Source) -> None:
        """After a failure: removes what earlier versions left, now and once more later."""
        try:
            self.look(source, again=True)
        except TransientError:
            enqueue.send(enqueue.reconciliation(self.app, source, second_look=True), countdown_s=FOLLOW_UP_S)


def parse_source(value: Any) -> Source:
    """The source of a task's argument; one that can't be understood goes to the dead-letter queue."""
    try:
        return Source.parse(value)
    except MessageError as exc:
        raise Reject(str(exc), requeue=False) from exc

"""What every task about one object has in common: how its errors end."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

from celery import Task
from celery.exceptions import Reject, SoftTimeLimitExceeded

from pipeline.errors import (
    MessageError,
    ObjectChanged,
    ObjectGone,
    PermanentError,
    PipelineError,
    TransientError,
)
from pipeline.monitoring.report import Report
from pipeline.source import Source
from tasks import failures

logger = logging.getLogger(__name__)

#: Outcomes in a task's result that end its chain: there is nothing left to make.
SUPERSEDED = "superseded"
GONE = "gone"
DONE = "done"


class ObjectTask(Task):
    """A task about one object. Its body calls ``settle`` with the work to do."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.request.called_directly:
            return super().__call__(*args, **kwargs)
        result = self.run(*args, **kwargs)
        # In a worker the result is also shown, in logs and events: there it has a short repr.
        return result if self.request.is_eager else Report(result)

    def settle(self, source: Source, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Does the work and decides how its errors end; returns the task's result.

        - object gone or overwritten: a result that says so, and the chain ends;
        - transient: retried later with back-off and jitter; after the last try, a failure record;
        - permanent, or unexpected: a failure record at once;
        - the record can't be written: the message is left to SQS, which delivers it again
          and in the end moves it to the dead-letter queue.
        """
        try:
            return work()
        except ObjectGone as exc:
            return self._ended(GONE, source, exc)
        except ObjectChanged as exc:
            return self._ended(SUPERSEDED, source, exc)
        except PermanentError as exc:
            self._record(source, exc, retryable=False)
            raise
        except (TransientError, MemoryError) as exc:
            # Celery takes a MemoryError as the whole worker's, and stops it.
            error = exc if isinstance(exc, TransientError) else TransientError(f"{source.uri}: out of memory")
            max_retries = self.app.settings.max_retries
            if self.request.retries < max_retries:
                raise self.retry(exc=error, countdown=self._backoff_s(), max_retries=max_retries) from exc
            self._record(source, error, retryable=True)
            raise error from exc
        except SoftTimeLimitExceeded as exc:
            limit_s = self.app.settings.soft_time_limit_s
            error = TransientError(f"{source.uri} took longer than SOFT_TIME_LIMIT_S={limit_s}")
            self._record(source, error, retryable=True)
            raise error from exc
        except Exception as exc:
            self._record(source, exc, retryable=False)
            raise

    def _ended(self, outcome: str, source: Source, exc: PipelineError) -> dict[str, Any]:
        logger.info("%s: %s", outcome, exc, extra={"action": outcome, "key": source.key, "task": self.name})
        if self.request.chain:
            self.request.chain.clear()
        return {"outcome": outcome, "source": source.to_json()}

    def _backoff_s(self) -> float:
        """Doubles with each retry up to 15 minutes (SQS's longest delay), with full jitter on the upper half."""
        ceiling_s = min(self.app.settings.retry_backoff_s * 2**self.request.retries, 900)
        return random.uniform(ceiling_s / 2, ceiling_s)  # noqa: S311 - jitter, not a secret

    def _record(self, source: Source, exc: BaseException, *, retryable: bool) -> None:
        try:
            failures.record(self, source, exc, retryable=retryable)
        except PipelineError as unwritten:
            logger.exception(
                "failed: %s (%s); its failure record could not be written, so SQS will deliver it again",
                source.uri,
                exc,
                extra={"action": "failed", "key": source.key, "task": self.name},
            )
            raise Reject(str(unwritten), requeue=True) from exc
        logger.warning(
            "failed: %s: %s", source.uri, exc, extra={"action": "failed", "key": source.key, "task": self.name}
        )


def parse_source(value: Any) -> Source:
    """The source of a task's argument; one that can't be understood goes to the dead-letter queue."""
    try:
        return Source.parse(value)
    except MessageError as exc:
        raise Reject(str(exc), requeue=False) from exc

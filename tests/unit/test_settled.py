"""How a task's ending proves that its message may be deleted; by Celery's own tracer, across a pickle as in a pool."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery import Celery, signals
from celery.app.trace import trace_task
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded, TimeLimitExceeded

from pipeline.sqs.settled import Decision, Defer, Effect, carry, carry_proofs, on_raise, on_return, settled


class Odd(Exception):
    """Can't be pickled as it is."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)


@pytest.fixture
def app() -> Iterator[Celery]:
    made = Celery(set_as_current=False, broker="memory://")
    carry_proofs()
    yield made
    signals.task_failure.disconnect(carry)
    made.close()


def decision(app: Celery, body: Callable[[Any], Any]) -> Decision:
    """What is decided of a bound task with this body."""

    @app.task(bind=True, name=f"t{len(app.tasks)}", shared=False)
    def task(self: Any) -> Any:
        return body(self)

    result, info, *_, shown = trace_task(task, "id", (), {}, {}, app=app)
    crossed = pickle.loads(pickle.dumps(result if info else shown))
    return on_raise(crossed) if info else on_return(crossed)


def raising(exc: BaseException, *, proven: bool = False) -> Callable[[Any], Any]:
    def body(task: Any) -> None:
        if proven:
            settled(task, "failed", "s3://out/failed/a.jpg.json")
        raise exc

    return body


@pytest.mark.parametrize("result", [None, "", 0, {"outcome": "done"}, "x" * 10_000])
def test_a_task_that_returned_is_deleted(app: Celery, result: object) -> None:
    assert decision(app, lambda task: result).effect is Effect.DELETE


@pytest.mark.parametrize("exc", [ValueError("bad"), SoftTimeLimitExceeded(), OSError(5, "io"), Odd("a", "b")])
def test_what_was_raised_releases_unless_it_is_proven_to_be_settled(app: Celery, exc: Exception) -> None:
    told = decision(app, raising(exc))
    assert told.effect is Effect.RELEASE
    assert type(exc).__name__ in told.reason
    assert decision(app, raising(exc, proven=True)).effect is Effect.DELETE
    assert decision(app, raising(exc)).effect is Effect.RELEASE, "a proof is of one execution"


@pytest.mark.parametrize(
    ("exc", "wanted"),
    [
        (Retry("later", ValueError("bad"), 3), Decision(Effect.DELETE)),
        (Ignore(), Decision(Effect.DELETE)),
        (Reject("no object"), Decision(Effect.DEAD_LETTER, "no object")),
        (Reject("again", requeue=True), Decision(Effect.RELEASE, "again")),
        # Celery's own, where a retry could not be published.
        (Reject(ConnectionError("gone")), Decision(Effect.RELEASE, "gone")),
        (Defer("S3 is out", 30), Decision(Effect.DEFER, "S3 is out", 30)),
    ],
)
def test_what_a_task_says_by_name(app: Celery, exc: Exception, wanted: Decision) -> None:
    assert decision(app, raising(exc)) == wanted


@pytest.mark.parametrize(
    "exc", [WorkerLostError("signal 9"), TimeLimitExceeded(150), MemoryError(), SystemExit(1), KeyboardInterrupt()]
)
def test_what_a_pool_reports_of_its_process_releases(exc: BaseException) -> None:
    def fail() -> None:
        raise exc

    try:
        fail()
    except BaseException:
        info = ExceptionInfo()
    assert on_raise(info).effect is Effect.RELEASE
    assert on_raise(pickle.loads(pickle.dumps(info))).effect is Effect.RELEASE


@pytest.mark.filterwarnings("ignore:Exception raised outside body")
def test_celery_calls_a_task_done_that_has_not_begun(app: Celery) -> None:
    """Its tracer returns no information on an error before the task's own context is made."""

    @app.task(shared=False)
    def task() -> None:
        """Never begun."""

    _, info, _, shown = trace_task(task, "id", (), [], {}, app=app)
    assert info is None, "Celery would acknowledge this message"
    assert on_return(shown).effect is Effect.RELEASE

"""What Celery's request does with its message, whichever way Celery says that the task ended."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import Terminated, WorkerLostError
from celery import Celery
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from celery.worker import request as stock
from celery.worker.request import create_request_cls

from pipeline.sqs.settled import Defer, Settled
from pipeline.sqs.worker.request import Request
from tests.support.scripted import ScriptedChannel, scripted_channel, sqs_message


class Pool:
    """Keeps what Celery's request asks it to call."""

    def apply_async(self, _trace: Any, **options: Any) -> None:
        self.callback, self.error_callback = options["callback"], options["error_callback"]
        self.accepted, self.timed_out = options["accept_callback"], options["timeout_callback"]


@cache
def app_and_task(acks_late: bool) -> tuple[Any, Any]:
    """Made once, as an app costs more than all that is tried with it."""
    app = Celery(set_as_current=False, broker="memory://")
    app.conf.task_acks_on_failure = False

    @app.task(name="t", acks_late=acks_late, shared=False)
    def task() -> None:
        """Never run."""

    return app, task


class Stand:
    """One message, whose task a process has begun, in the class that Celery makes for the task."""

    def __init__(self, channel: ScriptedChannel, receives: int = 1, *, acks_late: bool = True) -> None:
        self.channel, self.pool, self.events = channel, Pool(), []  # type: ignore[var-annotated]
        app, task = app_and_task(acks_late)

        def send(kind: str, **fields: Any) -> None:
            self.events.append(kind)
            self.last_event = fields

        eventer = SimpleNamespace(enabled=True, send=send)
        made = create_request_cls(Request, task, self.pool, "h", eventer, app=app)
        messages = channel.consume()
        channel.answer(sqs_message(1, receives=receives))
        (message,) = messages
        self.request = made(
            message,
            on_ack=message.ack_log_error,
            on_reject=message.reject_log_error,
            app=app,
            task=task,
            hostname="h",
            eventer=eventer,
            connection_errors=(),
        )
        self.request.execute_using_pool(self.pool)

    @property
    def end(self) -> str:
        """Where the message is."""
        ends = {
            "deleted": self.channel.deletes,
            "released": self.channel.releases,
            "dead": [move for move in self.channel.moves if move.delay_s is None],
            "deferred": [move for move in self.channel.moves if move.delay_s is not None],
        }
        found = [name for name, items in ends.items() for _ in items]
        assert len(found) <= 1, "it is settled once"
        if not found:
            return "in flight" if len(self.channel.parts.in_flight) else "nowhere"
        assert not len(self.channel.parts.in_flight)
        return found[0]


@pytest.fixture
def channel() -> Iterator[ScriptedChannel]:
    with scripted_channel() as made:
        yield made


def info(exc: BaseException, proof: Settled | None = None) -> Any:
    def fail() -> None:
        raise exc

    try:
        fail()
    except BaseException:
        made = ExceptionInfo()
    made.settled = proof
    return made


def test_a_result_deletes_and_is_told(channel: ScriptedChannel) -> None:
    stand = Stand(channel)
    stand.pool.accepted(1, 0.0)
    assert stand.end == "in flight"
    stand.pool.callback((0, "'done'", 0.1))
    assert (stand.end, stand.events) == ("deleted", ["task-started", "task-succeeded"])


def test_what_celery_takes_for_done_without_a_result_is_released(channel: ScriptedChannel) -> None:
    stand = Stand(channel)
    stand.pool.callback((0, None, 0.1))
    assert (stand.end, stand.events) == ("released", ["task-rejected"])


@pytest.mark.parametrize(
    ("exc", "proof", "end", "events"),
    [
        (ValueError("bad"), None, "released", ["task-rejected"]),
        (ValueError("bad"), Settled("failed", "s3://out/failed/a"), "deleted", ["task-failed"]),
        (SoftTimeLimitExceeded(), None, "released", ["task-rejected"]),
        (MemoryError(), None, "released", ["task-rejected"]),
        (Retry("later", ValueError("bad"), 3), None, "deleted", ["task-retried"]),
        (Ignore(), None, "deleted", []),
        (Reject("no object"), None, "dead", ["task-rejected", "task-failed"]),
        (Reject("again", requeue=True), None, "released", ["task-rejected"]),
        (Reject(ConnectionError("gone")), None, "released", ["task-rejected", "task-failed"]),
        (Defer("S3 is out", 30), None, "deferred", ["task-rejected"]),
        (SystemExit(1), None, "released", ["task-rejected"]),
        (KeyboardInterrupt(), None, "released", ["task-rejected"]),
    ],
)
def test_what_was_raised_decides(
    channel: ScriptedChannel, exc: BaseException, proof: Settled | None, end: str, events: list[str]
) -> None:
    stand = Stand(channel)
    stand.pool.callback((1, info(exc, proof), 0.1))
    assert stand.end == end
    assert [event for event in stand.events if event != "task-failed"] == [e for e in events if e != "task-failed"]


def test_a_retry_s_event_says_when_it_is_due(channel: ScriptedChannel) -> None:
    stand = Stand(channel)
    before = datetime.now(UTC).replace(microsecond=0)
    stand.pool.callback((1, info(Retry("later", ValueError("bad"), 3600)), 0.1))
    due = datetime.fromisoformat(stand.last_event["eta"])
    assert timedelta(hours=1) <= due - before < timedelta(hours=2)
    fixed = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    stand = Stand(channel)
    stand.pool.callback((1, info(Retry("later", ValueError("bad"), fixed)), 0.1))
    assert stand.last_event["eta"] == fixed.isoformat()
    assert stand.last_event["exception"] == "ValueError('bad')"


@pytest.mark.parametrize("exc", [WorkerLostError("signal 9"), Terminated(15), SystemExit(1), MemoryError()])
def test_a_lost_process_releases(channel: ScriptedChannel, exc: BaseException) -> None:
    stand = Stand(channel)
    stand.pool.error_callback(info(exc))
    assert stand.end == "released"


def test_the_hard_time_limit_releases_once(channel: ScriptedChannel) -> None:
    stand = Stand(channel)
    stand.pool.timed_out(True, 5)
    assert stand.end == "in flight"
    stand.pool.timed_out(False, 6)
    stand.pool.error_callback(info(WorkerLostError("signal 9")))  # its process was killed for it
    assert stand.end == "released"


def test_at_the_last_delivery_it_is_dead_lettered_with_the_reason(channel: ScriptedChannel) -> None:
    stand = Stand(channel, receives=5)
    stand.pool.callback((1, info(ValueError("bad")), 0.1))
    assert stand.end == "dead"
    assert channel.reasons == ["delivered 5 times, at last: t: ValueError: bad"]


def test_a_rejected_one_says_who_rejects_it(channel: ScriptedChannel) -> None:
    stand = Stand(channel)
    stand.pool.callback((1, info(Reject("no object")), 0.1))
    assert channel.reasons == ["rejected by t: no object"]


def test_a_revoked_task_is_deleted(channel: ScriptedChannel, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(channel)
    monkeypatch.setattr(stock, "revoked_tasks", {"1"})
    assert stand.request.revoked()
    assert stand.end == "deleted"


class Odd(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


def test_an_exception_that_cannot_be_shown_releases(channel: ScriptedChannel) -> None:
    stand = Stand(channel)
    stand.pool.callback((1, SimpleNamespace(exception=Odd(), traceback="", exc_info=None), 0.1))
    assert stand.end == "released"


@pytest.mark.parametrize("where", ["ack", "fail", "dead_letter"])
@pytest.mark.parametrize("exc", [MemoryError, RuntimeError, SystemExit])
def test_what_could_not_be_settled_is_not_kept_hidden(
    channel: ScriptedChannel, where: str, exc: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody extends its visibility any more, so SQS delivers it again."""
    stand = Stand(channel)

    def fail(*_: Any, **__: Any) -> None:
        raise exc

    monkeypatch.setattr(type(channel.parts.settlement), where, fail)
    ending: tuple[Any, ...] = {
        "ack": (0, "1", 0.1),
        "fail": (1, info(ValueError()), 0.1),
        "dead_letter": (1, info(Reject("no")), 0.1),
    }[where]
    with pytest.raises(exc):
        stand.pool.callback(ending)
    assert stand.end == "nowhere"
    stand.request.acknowledge()
    assert stand.end == "nowhere"


def test_the_places_in_celery_that_endings_are_fastened_to() -> None:
    made = inspect.getsource(create_request_cls)
    assert "def on_success(self, failed__retval__runtime, **kwargs):" in made
    assert "callback=self.on_success" in made
    assert "error_callback=self.on_failure" in made
    assert "timeout_callback=self.on_timeout" in made
    for name in ("acknowledge", "reject"):
        assert "if not self.acknowledged:" in inspect.getsource(getattr(stock.Request, name))
    assert "if not self.task.acks_late:" in inspect.getsource(stock.Request.on_accepted)
    assert list(inspect.signature(stock.Request.on_failure).parameters) == [
        "self", "exc_info", "send_failed_event", "return_ok",
    ]  # fmt: skip

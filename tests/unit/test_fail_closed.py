"""Whatever is raised, at whichever line and request: a message is deleted only when what follows from it is in place.

The lines are those of this project's code that settles and publishes, and of Celery's tracer; what is raised is what
signals, the memory and the pool can raise there. Everything starts cold: no channel, no client, no queue's URL.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from botocore.exceptions import ClientError, EndpointConnectionError
from celery import signals
from celery.app.trace import build_tracer, trace_task
from celery.exceptions import Reject, SoftTimeLimitExceeded
from kombu import pools

from pipeline.aws import clients
from pipeline.celery import make_app
from pipeline.core.settings import Settings
from pipeline.sqs.settled import Decision, Defer, Effect, Unavailable, carry, carry_proofs, on_raise, on_return, settled
from pipeline.sqs.transport import batcher
from tests.support.injection import Injection, terse
from tests.support.scripted import URL, scripted_channel
from tests.unit.test_broker_endings import Stand, info

__all__ = ["terse"]
pytestmark = pytest.mark.usefixtures("terse")


class Lost(BaseException):
    """The process is gone here."""


RAISED: list[type[BaseException]] = [SoftTimeLimitExceeded, MemoryError, SystemExit, KeyboardInterrupt, Lost]
#: Errors of a request, besides what may be raised anywhere.
REFUSED: list[BaseException] = [
    ClientError({"Error": {"Code": "InternalError"}, "ResponseMetadata": {"HTTPStatusCode": 500}}, "Any"),
    ClientError({"Error": {"Code": "ExpiredToken"}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "Any"),
    EndpointConnectionError(endpoint_url="sqs"),
]
PUBLISHING = ("sqs/settled.py", "transport/publishing.py", "transport/channel.py", "celery/app/trace.py")
SETTLING = (
    "sqs/settled.py",
    "worker/request.py",
    "transport/settlement.py",
    "transport/inflight.py",
    "outage/gate.py",
    "outage/patience.py",
)


# --- in the pool's process: what is in place when the worker is told that it is done ---


@dataclass
class Store:
    """SQS and the failure records, in memory; ``stop`` is called at each request."""

    sent: list[dict[str, Any]] = field(default_factory=list)
    records: list[str] = field(default_factory=list)
    requests: int = 0
    refuse_at: int | None = None
    refusal: BaseException | None = None

    class exceptions:  # noqa: N801 - as a client has it
        QueueDoesNotExist = KeyError

    def stop(self) -> None:
        here, self.requests = self.requests, self.requests + 1
        if here == self.refuse_at and self.refusal is not None:
            raise self.refusal

    def get_queue_url(self, **_: Any) -> dict[str, Any]:
        self.stop()
        return {"QueueUrl": URL}

    def send_message(self, **message: Any) -> dict[str, Any]:
        self.stop()
        self.sent.append(json.loads(message["MessageBody"])["headers"])
        return {}

    def write_record(self) -> None:
        self.stop()
        self.records.append("failed")


@pytest.fixture(scope="module")
def app() -> Iterator[Any]:
    made = make_app(Settings(queue_prefix="p-"))

    @made.task(bind=True, name="t", max_retries=5)
    def task(self: Any) -> Any:
        return self.body()

    task.__trace__ = build_tracer("t", task, app=made)  # as a process of the pool does when it begins
    yield made
    made.close()
    pools.reset()


@pytest.fixture
def cold(app: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Store], Any]:
    """Makes the app that of a process which has just begun: no connection, and no queue's URL known."""

    def begin(store: Store) -> Any:
        pools.reset()
        app._after_fork()
        monkeypatch.setattr(clients, "sqs", lambda **_: store)
        return app

    return begin


def returns(store: Store, _task: Any) -> str:
    return "done"


def fails(store: Store, task: Any) -> None:
    store.write_record()
    settled(task, "failed", "the record")
    raise ValueError("bad")


def retries(store: Store, task: Any) -> None:
    raise task.retry(countdown=3)


#: A task's body, and what must be in place when its message is deleted.
BODIES: dict[str, tuple[Callable[[Store, Any], Any], Callable[[Store], bool]]] = {
    "next task": (returns, lambda store: [headers["task"] for headers in store.sent] == ["next"]),
    "record": (fails, lambda store: store.records == ["failed"]),
    "retry": (retries, lambda store: [headers["retries"] for headers in store.sent] == [1]),
}


def decided(app: Any, store: Store, body: Callable[[Store, Any], Any], injection: Injection) -> Decision | None:
    """What the worker decides; None where it hears nothing, so that it learns only that the process is lost."""

    task = app.tasks["t"]
    task.body = lambda: body(store, task)
    successor = [app.signature("next").set(task_id="n", queue="tasks")] if body is returns else None
    request = {"id": "1", "chain": successor, "delivery_info": {"routing_key": "tasks"}, "is_eager": False}
    try:
        result, failed, *_, shown = injection.run(lambda: trace_task(task, "1", (), {}, request, app=app))
    except Lost:
        return None
    except BaseException:
        return on_raise(pickle.loads(pickle.dumps(ExceptionInfo())))  # as billiard reports it
    crossed = pickle.loads(pickle.dumps(result if failed else shown))
    return on_raise(crossed) if failed else on_return(crossed)


@pytest.fixture
def proofs() -> Iterator[None]:
    carry_proofs()
    yield
    signals.task_failure.disconnect(carry)


@pytest.mark.filterwarnings("ignore:Exception raised outside body")
@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("kind", RAISED)
def test_at_every_line_of_a_task_s_end(
    name: str, kind: type[BaseException], cold: Callable[[Store], Any], proofs: None
) -> None:
    body, is_in_place = BODIES[name]
    count = Injection(PUBLISHING)
    whole = Store()
    decided(cold(whole), whole, body, count)
    assert is_in_place(whole)
    assert count.count > 40, "it sees the lines"
    effects = set()
    for at in range(count.count):
        store, injection = Store(), Injection(PUBLISHING, at, kind())
        decision = decided(cold(store), store, body, injection)
        effect = Effect.RELEASE if decision is None else decision.effect
        effects.add(effect)
        if effect is Effect.DELETE:
            assert is_in_place(store), f"{kind.__name__} at {injection.where}: deleted, and nothing follows from it"
        else:
            assert effect is Effect.RELEASE, f"{kind.__name__} at {injection.where}: {decision}"
    assert Effect.RELEASE in effects


@pytest.mark.filterwarnings("ignore:Exception raised outside body")
@pytest.mark.parametrize("name", BODIES)
def test_at_every_request_of_a_task_s_end(name: str, cold: Callable[[Store], Any], proofs: None) -> None:
    body, is_in_place = BODIES[name]
    counted = Store()
    decision = decided(cold(counted), counted, body, Injection(()))
    assert decision is not None
    assert (decision.effect, is_in_place(counted)) == (Effect.DELETE, True), "nothing is refused"
    assert counted.requests == (1 if name == "record" else 2), "the queue is looked up first"
    for at in range(counted.requests):
        for refusal in [*REFUSED, *(kind() for kind in RAISED)]:
            store = Store(refuse_at=at, refusal=refusal)
            decision = decided(cold(store), store, body, Injection(()))
            assert decision is None or decision.effect is Effect.RELEASE, f"request {at} ends with {refusal!r}"


# --- in the worker: where the message is when it has been told ---


@dataclass
class Queue:
    """What SQS has of one message."""

    is_deleted: bool = False
    copies: list[str] = field(default_factory=list)  # the URLs of the queues that they are in
    refusal: BaseException | None = None

    def _stop(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    def delete_message_batch(self, **_: Any) -> dict[str, Any]:
        self._stop()
        self.is_deleted = True
        return {}

    def change_message_visibility_batch(self, **_: Any) -> dict[str, Any]:
        self._stop()
        return {}

    def send_message(self, QueueUrl: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        self._stop()
        self.copies.append(QueueUrl)
        return {}


#: How the pool says that the task ended, and how often it was delivered; whether a deletion needs a copy before it.
ENDINGS: dict[str, tuple[tuple[Any, ...], int, bool | None]] = {
    "returned": ((0, "'done'", 0.1), 1, False),
    "no result": ((0, None, 0.1), 1, None),
    "raised": ((1, info(ValueError("bad")), 0.1), 1, None),
    "raised on the last delivery": ((1, info(ValueError("bad")), 0.1), 5, True),
    "rejected": ((1, info(Reject("no object")), 0.1), 1, True),
    "deferred": ((1, info(Defer("S3 is out", 30)), 0.1), 1, True),
    "unavailable": ((1, info(Unavailable("S3 is out", 30)), 0.1), 1, True),
}


def end(ending: str, queue: Queue, injection: Injection, monkeypatch: pytest.MonkeyPatch) -> None:
    told, receives, _ = ENDINGS[ending]
    with scripted_channel() as channel:
        stand = Stand(channel, receives=receives)
        monkeypatch.setattr(clients, "sqs", lambda **_: queue)

        def run() -> None:
            with suppress(BaseException):  # billiard's, or the end of the worker
                stand.pool.callback(told)
            settlement = channel.parts.settlement
            for items, send in (
                (channel.moves, settlement._move),
                (channel.releases, settlement._release),
                (channel.deletes, settlement._delete),
            ):
                if items:  # what the threads do, which try again what has failed
                    with suppress(BaseException):
                        send(items)

        injection.run(run)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", RAISED)
def test_at_every_line_of_the_worker_s_settling(
    ending: str, kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_copy = ENDINGS[ending][2]
    whole = Queue()
    count = Injection(SETTLING)
    end(ending, whole, count, monkeypatch)
    assert whole.is_deleted is (needs_copy is not None)
    assert bool(whole.copies) is (needs_copy is True)
    assert count.count > 15
    for at in range(count.count):
        queue, injection = Queue(), Injection(SETTLING, at, kind())
        end(ending, queue, injection, monkeypatch)
        if queue.is_deleted:
            assert needs_copy is not None, f"{kind.__name__} at {injection.where}: deleted without a proof"
            assert queue.copies or not needs_copy, f"{kind.__name__} at {injection.where}: deleted without a copy"


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("refusal", [*REFUSED, *(kind() for kind in RAISED)], ids=repr)
def test_at_every_request_of_the_worker_s_settling(
    ending: str, refusal: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Queue(refusal=refusal)
    end(ending, queue, Injection(()), monkeypatch)
    assert not queue.is_deleted


def test_a_thread_that_dies_leaves_the_message_to_sqs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one that is to be sent starts another."""
    died: list[Any] = []
    monkeypatch.setattr("threading.excepthook", died.append)
    sent: list[list[str]] = []

    def send(items: Any) -> list[Any]:
        sent.append(list(items))
        if len(sent) == 1:
            raise SystemExit
        return []

    made: batcher.Batcher[str] = batcher.Batcher("dies", send=send, give_up=died.append, key=len, linger_s=0.0)
    made.put("a")
    thread = made._thread
    assert thread is not None
    thread.join(10)
    made.put("b")
    assert made.flush(10)
    assert sent == [["a"], ["b"]]

"""A chain goes on in place: what is kept instead of published, and that no message is deleted before its last task."""

from __future__ import annotations

import json
import pickle
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from celery import chord, group, signals
from celery._state import _task_stack
from celery.app.trace import trace_task_ret
from celery.concurrency.prefork import TaskPool
from celery.exceptions import SoftTimeLimitExceeded
from kombu import pools
from kombu.asynchronous.semaphore import LaxBoundedSemaphore

from pipeline.aws import clients
from pipeline.celery import make_app
from pipeline.core.settings import Settings
from pipeline.sqs.settled import Effect, on_return
from pipeline.sqs.transport import delivery
from pipeline.sqs.worker import in_place
from tests.support.injection import Injection, terse
from tests.support.scripted import ScriptedChannel, scripted_channel
from tests.unit.test_broker_endings import Stand, info
from tests.unit.test_fail_closed import RAISED, Lost, Store

__all__ = ["terse"]
#: Where the next task is kept, and where it is handed on.
KEEPING = ("worker/in_place.py", "transport/publishing.py", "transport/channel.py", "celery/app/trace.py")
HANDING = ("worker/request.py", "worker/in_place.py", "transport/delivery.py", "transport/inflight.py")


# --- in the pool's process ---


class Sqs(Store):
    def get_queue_attributes(self, **_: Any) -> dict[str, Any]:
        """What Celery asks for before it publishes a group."""
        return {"Attributes": {"ApproximateNumberOfMessages": "0"}}


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    made = make_app(Settings(queue_prefix="p-"))
    in_place.connect()

    @made.task(name="one", bind=True)
    def one(self: Any, body: str = "") -> str:
        if body == "end":
            self.request.chain.clear()
        if body == "retry":
            raise self.retry(countdown=3)
        if body == "sends":
            made.signature("two", ("by hand",)).apply_async()
        if body == "replace":
            self.replace(made.signature("two"))
        return "1"

    @made.task(name="two")
    def two(before: str = "") -> str:
        return before

    @made.task(name="apart", in_place=False)
    def apart(before: str) -> str:
        return before

    yield made
    while _task_stack.top is not None:  # what a process that was interrupted has left
        _task_stack.pop()
    signals.task_prerun.disconnect(in_place.prepare)
    made.close()
    pools.reset()


def ran(app: Any, store: Store, chain: list[Any], monkeypatch: Any, body: str = "", **request: Any) -> Any:
    """What the worker is told of a task that a process has run, as it comes out of the pipe."""
    monkeypatch.setattr(clients, "sqs", lambda **_: store)
    pools.reset()
    app._after_fork()
    steps = json.loads(json.dumps(chain))
    known = {"id": "1", "root_id": "1", "delivery_info": {"routing_key": "tasks"}, **request}
    embed = {"chain": steps, "callbacks": None, "errbacks": None, "chord": request.get("chord")}
    told = in_place.trace(
        trace_task_ret, "one", "1", known, json.dumps([[body], {}, embed]), "application/json", "utf-8", app=app
    )
    return pickle.loads(pickle.dumps(told))


def names(store: Store) -> list[str]:
    return [headers["task"] for headers in store.sent]


def test_the_next_task_is_kept_with_all_that_it_would_have_been_published_with(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Sqs()
    failed, successor, _ = ran(app, store, [app.signature("apart"), app.signature("two", task_id="n")], monkeypatch)
    assert (failed, successor.shown, store.sent) == (0, "'1'", [])
    kept, published = json.loads(successor.body), Sqs()
    assert kept["headers"]["task"] == "two"
    assert (kept["headers"]["id"], kept["headers"]["parent_id"], kept["headers"]["root_id"]) == ("n", "1", "1")
    args, _, embed = json.loads(kept["body"])
    assert (args, [step["task"] for step in embed["chain"]]) == (["1"], ["apart"])
    signals.task_prerun.disconnect(in_place.prepare)
    monkeypatch.setattr(published, "send_message", lambda **sent: bodies.append(json.loads(sent["MessageBody"])))
    bodies: list[Any] = []
    ran(app, published, [app.signature("apart"), app.signature("two", task_id="n")], monkeypatch)
    own = ("correlation_id", "delivery_tag", "reply_to")
    for message in (kept, *bodies):
        message["headers"].pop("origin", None)
        for name in own:
            message["properties"].pop(name, None)
    assert bodies == [kept], "it is what is published otherwise"


@pytest.mark.parametrize(
    ("chain", "body", "request_", "published"),
    [
        (lambda app: [app.signature("two").set(countdown=5)], "", {}, ["two"]),
        (lambda app: [app.signature("two").set(message_attributes={})], "", {}, ["two"]),
        (lambda app: [app.signature("two").set(MessageGroupId="g")], "", {}, ["two"]),
        (lambda app: [app.signature("apart")], "", {}, ["apart"]),
        (lambda app: [app.signature("elsewhere").set(queue="tasks")], "", {}, ["elsewhere"]),
        (lambda app: [app.signature("two")], "", {"delivery_info": {"routing_key": "others"}}, ["two"]),
        (lambda app: [app.signature("two").set(group_id="g")], "", {}, ["two"]),
        (lambda app: [app.signature("two")], "", {"group": "g"}, ["two"]),
        (lambda app: [group(app.signature("two"), app.signature("apart"))], "", {}, ["two", "apart"]),
        (lambda app: [app.signature("two")], "end", {}, []),
        (lambda app: [app.signature("two")], "replace", {}, ["two"]),
    ],
)
def test_what_must_take_the_normal_way(
    app: Any,
    monkeypatch: pytest.MonkeyPatch,
    chain: Callable[[Any], list[Any]],
    body: str,
    request_: dict[str, Any],
    published: list[str],
) -> None:
    store = Sqs()
    _, result, _ = ran(app, store, chain(app), monkeypatch, body, **request_)
    assert not isinstance(result, in_place.Successor)
    assert names(store) == published


def test_what_a_task_sends_itself_is_sent(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Sqs()
    _, result, _ = ran(app, store, [app.signature("two", task_id="n")], monkeypatch, "sends")
    assert names(store) == ["two"]
    assert json.loads(result.body)["headers"]["id"] == "n"


def test_a_retry_takes_its_chain_with_it(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Sqs()
    bodies: list[Any] = []
    monkeypatch.setattr(store, "send_message", lambda **sent: bodies.append(json.loads(sent["MessageBody"])))
    shown = {"argsrepr": "photos/a.jpg", "kwargsrepr": "of a.jpg"}
    failed, _, _ = ran(app, store, [app.signature("two")], monkeypatch, "retry", **shown)
    (sent,) = bodies
    assert (failed, [step["task"] for step in json.loads(sent["body"])[2]["chain"]]) == (1, ["two"])
    assert {name: sent["headers"][name] for name in shown} == shown  # as Flower has shown it before


def test_what_a_task_sends_besides_is_shown_by_its_own_arguments(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Sqs()
    ran(app, store, [], monkeypatch, "sends", argsrepr="photos/a.jpg")
    assert [headers["argsrepr"] for headers in store.sent] == ["('by hand',)"]


def test_outside_of_a_worker_s_pool_nothing_is_kept(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Sqs()
    monkeypatch.setattr(clients, "sqs", lambda **_: store)
    embed = {"chain": [json.loads(json.dumps(app.signature("two")))]}
    known = {"id": "1", "delivery_info": {"routing_key": "tasks"}}
    trace_task_ret("one", "1", known, json.dumps([[], {}, embed]), "application/json", "utf-8", app=app)
    assert names(store) == ["two"]


def test_chords_are_not_touched(app: Any) -> None:
    assert chord([app.signature("two")], app.signature("two"))["subtask_type"] is not None


def test_who_does_not_know_a_successor_does_not_delete() -> None:
    assert on_return(in_place.Successor("'1'", "{}")).effect is Effect.RELEASE


@pytest.mark.filterwarnings("ignore:Exception raised outside body")
@pytest.mark.parametrize("kind", RAISED)
def test_at_every_line_of_the_keeping(
    kind: type[BaseException], app: Any, monkeypatch: pytest.MonkeyPatch, terse: None
) -> None:
    """Whatever is raised in the process: the worker hears of a result only with the next task, kept or published."""

    def told(injection: Injection, store: Store) -> Any:
        try:
            return injection.run(lambda: ran(app, store, [app.signature("two")], monkeypatch))
        except Lost:
            return None
        except BaseException:
            return (1, None, 0.0)

    count = Injection(KEEPING)
    assert isinstance(told(count, Sqs())[1], in_place.Successor)
    assert count.count > 60
    for at in range(count.count):
        store, injection = Sqs(), Injection(KEEPING, at, kind())
        answer = told(injection, store)
        if answer is None or answer[0]:
            continue
        followed = isinstance(answer[1], in_place.Successor) or names(store) == ["two"]
        assert followed or answer[1] is None, f"{kind.__name__} at {injection.where}: done, and nothing follows"


# --- in the worker ---


@pytest.fixture
def channel() -> Iterator[ScriptedChannel]:
    with scripted_channel() as made:
        yield made


def successor(number: str = "2") -> in_place.Successor:
    headers = {"task": "t", "id": number, "parent_id": "1"}
    properties = {"delivery_info": {"exchange": "", "routing_key": "tasks"}, "body_encoding": "utf-8"}
    text = {"content-type": "application/json", "content-encoding": "utf-8", "headers": headers}
    return in_place.Successor("'1'", json.dumps({**text, "body": "[[], {}, {}]", "properties": properties}))


class Line(Stand):
    """A worker that has begun a task, and takes what comes next from the consumer's callback."""

    def __init__(self, channel: ScriptedChannel, receives: int = 1) -> None:
        super().__init__(channel, receives=receives)
        self.handed: list[Any] = []
        channel.connection._callbacks["tasks"] = self._take

    def _take(self, payload: Any) -> None:
        message = self.channel.Message(payload, channel=self.channel)
        self.channel.qos.append(message, message.delivery_tag)
        self.handed.append(message)

    def next(self) -> Any:
        """The next task's request, which a process has begun."""
        first = self.request
        self.request = type(first)(
            self.handed[-1],
            on_ack=self.handed[-1].ack_log_error,
            on_reject=self.handed[-1].reject_log_error,
            app=first._app,
            task=first.task,
            hostname="h",
            eventer=first._eventer,
            connection_errors=(),
        )
        self.request.execute_using_pool(self.pool)
        return self.request


def test_the_message_becomes_the_next_task_s_and_is_deleted_when_that_is_done(channel: ScriptedChannel) -> None:
    line = Line(channel)
    line.pool.accepted(1, 0.0)
    line.pool.callback((0, successor("2"), 0.1))
    assert line.end == "in flight"
    assert line.events == ["task-started", "task-succeeded"]
    second = line.next()
    assert (second.id, second.delivery_info["redelivered"]) == ("2", False)
    line.pool.callback((0, successor("3"), 0.1))
    assert line.end == "in flight"
    assert line.next().id == "3"
    line.pool.callback((0, "'3'", 0.1))
    assert (line.end, line.events[-1]) == ("deleted", "task-succeeded")
    assert [message.handle for message in channel.deletes] == ["h1"]


def test_what_is_late_of_the_first_does_not_settle_the_second(channel: ScriptedChannel) -> None:
    line = Line(channel)
    first = line.request
    line.pool.callback((0, successor(), 0.1))
    first.on_timeout(soft=False, timeout=3)
    first.on_failure(info(SoftTimeLimitExceeded()))
    assert line.end == "in flight"


def test_a_message_that_was_delivered_before_tells_the_next_task_so(channel: ScriptedChannel) -> None:
    line = Line(channel, receives=2)
    line.pool.callback((0, successor(), 0.1))
    assert line.next().delivery_info["redelivered"] is True


def test_a_next_task_that_fails_or_is_lost_is_published(channel: ScriptedChannel) -> None:
    line = Line(channel, receives=5)  # the last delivery is of the first task, which is done
    line.pool.callback((0, successor(), 0.1))
    line.next()
    line.pool.callback((1, info(ValueError("bad")), 0.1))
    assert line.end == "deferred"
    (move,) = channel.moves
    assert json.loads(move.message.to_send()["MessageBody"])["headers"]["id"] == "2"
    assert move.was_begun


@pytest.mark.parametrize("why", ["draining", "no consumer", "held for hours"])
def test_what_can_t_go_on_here_is_published(
    channel: ScriptedChannel, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line(channel)
    if why == "draining":
        channel.poller.stop()
    elif why == "no consumer":
        del channel.connection._callbacks["tasks"]
    else:
        monkeypatch.setattr(delivery, "GOES_ON_WITHIN_S", -1)
    line.pool.callback((0, successor(), 0.1))
    assert (line.end, line.handed) == ("deferred", [])
    assert [(move.delay_s, move.was_begun) for move in channel.moves] == [(0, False)]
    assert line.events[-1] == "task-succeeded"


def test_a_message_that_is_settled_meanwhile_is_not_handed_on(channel: ScriptedChannel) -> None:
    line = Line(channel)
    (message,) = channel.parts.in_flight.select()
    channel.parts.settlement.release(message)  # a shutdown whose time is up
    line.pool.callback((0, successor(), 0.1))
    assert (line.end, line.handed) == ("released", [])


@pytest.mark.parametrize("kind", RAISED)
def test_at_every_line_of_the_handing_on(kind: type[BaseException], terse: None) -> None:
    """Nothing deletes the message, and nobody keeps it hidden who does not have it."""

    def handed(injection: Injection) -> Line:
        with scripted_channel() as channel:
            line = Line(channel)

            def run() -> None:
                with suppress(BaseException):  # billiard's, or the end of the worker
                    line.pool.callback((0, successor(), 0.1))

            injection.run(run)
            assert not channel.deletes, f"{kind.__name__} at {injection.where}"
            is_looked_for = injection.where.partition(":")[0].endswith(("request.py", "inflight.py"))
            assert line.handed or not len(channel.parts.in_flight) or is_looked_for, (
                f"{kind.__name__} at {injection.where}: hidden, and nobody has it"
            )
            return line

    count = Injection(HANDING)
    assert len(handed(count).handed) == 1
    assert count.count > 20
    for at in range(count.count):
        handed(Injection(HANDING, at, kind()))


# --- its turn ---


class Pool:
    def __init__(self) -> None:
        self._pool = SimpleNamespace(outbound_buffer=deque())

    def hand(self, request: Any) -> None:
        self._pool.outbound_buffer.append(request.name)


def request(name: str, channel: ScriptedChannel, *, goes_on: bool) -> Any:
    handle = f"h-{name}"
    found = SimpleNamespace(is_successor=goes_on)
    parts = SimpleNamespace(in_flight=SimpleNamespace(find=lambda tag: found if tag == handle else None))
    return SimpleNamespace(
        name=name, message=SimpleNamespace(delivery_tag=handle, channel=SimpleNamespace(parts=parts))
    )


def test_a_task_that_goes_on_is_before_those_that_wait_and_takes_no_place_more(channel: ScriptedChannel) -> None:
    pool, semaphore = Pool(), LaxBoundedSemaphore(2)
    worker = SimpleNamespace(
        pool=pool,
        semaphore=semaphore,
        _process_task=pool.hand,
        _process_task_sem=lambda req: semaphore.acquire(pool.hand, req),
    )
    outbound = pool._pool.outbound_buffer
    for name in "abcde":
        in_place.begin(worker, request(name, channel, goes_on=False))
    assert list(outbound) == ["a", "b"]
    outbound.clear()  # both have begun
    semaphore.release()  # a is done: billiard gives its place to c before anybody hears of it
    in_place.begin(worker, request("a2", channel, goes_on=True))
    assert list(outbound) == ["a2", "c"]
    outbound.clear()
    semaphore.release()  # a2 is done
    assert list(outbound) == [], "c has that place"
    semaphore.release()
    assert list(outbound) == ["d"]


def test_celery_s_pool_and_kombu_s_semaphore_have_what_the_turn_needs() -> None:
    """An upgrade that renames it costs the turn, and nothing else; this test tells."""
    from celery.concurrency import asynpool

    assert isinstance(LaxBoundedSemaphore(1)._waiting, deque)
    assert "outbound_buffer" in asynpool.AsynPool.__init__.__code__.co_names
    assert TaskPool.Pool is asynpool.AsynPool

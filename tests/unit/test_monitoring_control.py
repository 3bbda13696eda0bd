"""Replies to remote control commands: each call takes its own, whatever else lies in its thread's queue."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from celery.app.control import Control as StockControl
from kombu import Connection, pidbox

from pipeline.sqs.monitoring import control
from pipeline.sqs.monitoring.control import Mailbox

MINE, OTHER = "my-ticket", "another-ticket"


class Replies:
    """A mailbox on kombu's memory transport, and replies that are put into its thread's queue."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.mailbox = Mailbox("test", type="fanout", accept=["json"], serializer="json")(connection)
        self.mailbox.reply_queue(connection.default_channel).declare()

    def put(self, ticket: str | None, body: Any) -> None:
        self.mailbox._publish_reply(
            body, self.mailbox.reply_exchange.name, self.mailbox.oid, ticket, channel=self.connection.default_channel
        )

    def collect(self, **options: Any) -> list[Any]:
        return self.mailbox._collect(MINE, **{"timeout": 0.1, **options})


@pytest.fixture
def replies() -> Iterator[Replies]:
    with Connection("memory://") as connection:
        made = Replies(connection)
        yield made
        made.mailbox.reply_queue(connection.default_channel).delete()


def test_replies_to_other_calls_do_not_count(replies: Replies) -> None:
    for _ in range(3):
        replies.put(OTHER, {"late": "pong"})
    replies.put(None, {"nameless": "pong"})
    replies.put(MINE, {"one": "pong"})
    assert replies.collect(limit=1) == [{"one": "pong"}]


def test_it_returns_after_as_many_replies_as_are_wanted_and_else_after_the_time_out(replies: Replies) -> None:
    for name in ("one", "two", "three"):
        replies.put(MINE, {name: "pong"})
    heard: list[Any] = []
    assert replies.collect(limit=2, timeout=None, callback=heard.append) == [{"one": "pong"}, {"two": "pong"}] == heard
    replies.put(MINE, {"four": "pong"})
    assert replies.collect() == [{"three": "pong"}, {"four": "pong"}]
    assert replies.collect(limit=1) == []
    assert replies.collect(limit=1, timeout=0) == []


def test_replies_to_other_calls_do_not_prolong_the_wait(replies: Replies, monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = 0.0, 0
    drain = replies.connection.drain_events

    def drain_events(timeout: float) -> None:
        nonlocal now, asked
        now, asked = now + 0.3, asked + 1
        assert asked < 10
        replies.put(OTHER, {"late": "pong"})
        drain(timeout=timeout)

    monkeypatch.setattr(replies.connection, "drain_events", drain_events)
    monkeypatch.setattr(control.time, "monotonic", lambda: now)
    assert replies.collect(limit=1, timeout=1) == []
    assert asked == 4  # at 0, 0.3, 0.6 and 0.9 s


def test_the_place_in_kombu_is_still_there() -> None:
    """``_collect`` is private: these are all that is relied on."""
    assert StockControl.Mailbox is pidbox.Mailbox
    ours, kombus = (list(inspect.signature(each._collect).parameters) for each in (Mailbox, pidbox.Mailbox))
    assert ours == kombus
    theirs, own = (list(inspect.signature(each.broadcast).parameters) for each in (StockControl, control.Control))
    assert theirs[: len(own) - 1] == own[:-1]  # the last is **options
    called = inspect.getsource(pidbox.Mailbox._broadcast)
    assert "return self._collect(reply_ticket, limit=limit," in called

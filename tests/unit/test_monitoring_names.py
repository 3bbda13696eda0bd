"""Names of the queues that come and go: short, new, and never mistaken for another queue's."""

from __future__ import annotations

from uuid import uuid4

import pytest

from pipeline.celery import make_app
from pipeline.core.settings import Settings
from pipeline.sqs.monitoring import names
from pipeline.sqs.monitoring.names import Kind

LONGEST_PREFIX = "p" * 40


def made_by_celery() -> dict[Kind, str]:
    """The names as Celery and kombu really make them, from the installed versions."""
    app = make_app(Settings.from_env({}))
    with app.connection() as connection:
        mailbox = app.control.mailbox(connection)
        receiver_queue = f"{app.conf.event_queue_prefix}.{uuid4()}"
        return {
            Kind.CONTROL: mailbox.get_queue("worker@host").name,
            Kind.REPLY: mailbox.get_reply_queue().name,
            Kind.EVENTS: receiver_queue,
        }


def test_every_name_is_recognised_and_fits_into_80_characters_after_the_longest_prefix() -> None:
    app = make_app(Settings.from_env({"QUEUE_PREFIX": LONGEST_PREFIX}))
    with app.connection() as connection:
        for kind, name in made_by_celery().items():
            full = connection.default_channel.canonical_queue_name(name)
            assert names.kind_of(name) is kind
            assert names.kind_of(full, LONGEST_PREFIX) is kind
            assert len(full) <= 80


def test_a_worker_s_queue_is_new_at_every_start_and_a_thread_s_reply_queue_is_not() -> None:
    first, second = made_by_celery(), made_by_celery()
    assert first[Kind.CONTROL] != second[Kind.CONTROL]
    assert first[Kind.REPLY] == second[Kind.REPLY]


@pytest.mark.parametrize(
    "name",
    [
        "tasks",
        "tasks-dlq",
        "x-pidbox",
        "0123456789abcdef0123-pidbox-x",
        "x0123456789abcdef0123-pidbox",
        "0123456789ABCDEF0123-pidbox",
        "celeryev",
        "celeryev.x",
        "celeryev-0123456789abcdef0123-dlq",
        "",
    ],
)
def test_no_other_name_is_taken_for_one(name: str) -> None:
    assert names.kind_of(name) is None


def test_a_longer_prefix_of_another_stack_is_not_ours() -> None:
    assert names.kind_of("a-b-0123456789abcdef0123-pidbox", "a-b-") is Kind.CONTROL
    assert names.kind_of("a-b-0123456789abcdef0123-pidbox", "a-") is None
    assert names.kind_of("0123456789abcdef0123-pidbox", "a-") is None


def test_the_exchange_of_events_and_control_is_celery_s_own() -> None:
    app = make_app(Settings.from_env({}))
    assert app.conf.event_exchange == names.EVENT_EXCHANGE
    assert app.control.mailbox.exchange.name == names.CONTROL_EXCHANGE
    assert app.control.mailbox.reply_exchange.name == names.REPLY_EXCHANGE

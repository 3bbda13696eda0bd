from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery.app.amqp import AMQP
from hypothesis import given
from hypothesis import strategies as st
from kombu.transport import SQS

from pipeline.sqs.transport.delays import MAX_DELAY_S, delay_s, remaining_s
from tests.support.scripted import ScriptedChannel, scripted_channel, sqs_message

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def channel() -> Iterator[ScriptedChannel]:
    with scripted_channel() as made:
        yield made


def in_s(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


@pytest.mark.parametrize("eta", [None, "", "tomorrow", 5, (NOW - timedelta(seconds=1)).isoformat(), NOW.isoformat()])
def test_nothing_to_wait_for(eta: Any) -> None:
    assert remaining_s({"headers": {"eta": eta}}, NOW) == 0
    assert remaining_s({"headers": None}, NOW) == 0
    assert remaining_s({}, NOW) == 0


@pytest.mark.parametrize(
    "eta", ["2026-01-01T00:01:30+00:00", "2026-01-01T01:01:30+01:00", "2026-01-01T00:01:30", "2026-01-01T00:01:30Z"]
)
def test_reads_every_form_that_celery_writes(eta: str) -> None:
    assert remaining_s({"headers": {"eta": eta}}, NOW) == 90


@given(st.floats(0.001, 10_000_000))
def test_never_tells_sqs_to_deliver_too_early_nor_more_than_it_takes(left_s: float) -> None:
    told = delay_s(left_s)
    assert 1 <= told <= MAX_DELAY_S
    assert told == MAX_DELAY_S or left_s <= told < left_s + 1


def test_what_arrives_before_its_time_is_sent_on_and_not_delivered(channel: ScriptedChannel) -> None:
    messages = channel.consume()
    channel.answer(sqs_message(1, eta=in_s(2000)), sqs_message(2))
    assert [message.headers["id"] for message in messages] == ["2"]
    (item,) = channel.moves
    assert item.message.message_id == "m1"
    assert 1990 < item.delay_s <= 2000
    assert len(channel.parts.in_flight) == 1  # the other one


@pytest.mark.parametrize("eta", ["9999-12-31T23:59:59+00:00", "9999-12-31T23:59:59", "far"])
def test_what_would_never_be_due_is_a_dead_letter_with_the_reason(channel: ScriptedChannel, eta: str) -> None:
    messages = channel.consume()
    channel.answer(sqs_message(1, eta=in_s(8 * 86400) if eta == "far" else eta), sqs_message(2, eta=in_s(6 * 86400)))
    assert messages == []
    (reason,) = channel.reasons
    assert reason.startswith("due in ")
    assert reason.endswith("more than MAX_DELAY_DAYS=7")
    assert [move.message.message_id for move in channel.moves if move.delay_s is not None] == ["m2"]


@pytest.mark.parametrize("late_s", [0.5, 0, -100])
def test_what_is_due_is_delivered_and_celery_does_not_time_it(channel: ScriptedChannel, late_s: float) -> None:
    messages = channel.consume()
    channel.answer(sqs_message(1, eta=in_s(late_s)))
    assert messages[0].headers["eta"] is None
    assert channel.moves == []


def test_the_places_in_kombu_and_celery_that_delays_are_fastened_to() -> None:
    assert SQS.MAX_DELAY_SECONDS == MAX_DELAY_S
    assert "for key in ('delay_seconds', 'DelaySeconds')" in inspect.getsource(SQS.Channel._resolve_delay_seconds)
    made = AMQP.as_task_v2.__code__.co_consts
    assert "eta" in inspect.getsource(AMQP.as_task_v2)
    assert made
    from celery import Celery

    headers = Celery(set_as_current=False).amqp.as_task_v2("id", "t", (), {}, countdown=60).headers
    assert 55 < remaining_s({"headers": headers}) <= 60

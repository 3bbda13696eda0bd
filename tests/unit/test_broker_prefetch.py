from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.sqs.transport.prefetch import Reserve
from tests.support.scripted import scripted_channel, sqs_message


def settled(reserve: Reserve, per_s: float, count: int = 100) -> Reserve:
    """After so many tasks, done at this rate, in bursts of two."""
    reserve.begin(1000.0)
    for number in range(count):
        reserve.done(1000.0 + (number // 2 + 1) * 2 / per_s)
    return reserve


def test_without_experience_it_holds_what_can_run() -> None:
    reserve = Reserve(5)
    assert [reserve.room(held, 2) for held in range(4)] == [2, 1, 0, 0]


def test_with_fast_tasks_it_asks_for_ten_when_few_are_left() -> None:
    reserve = settled(Reserve(5), per_s=20)
    assert reserve.limit(2) == 14
    assert [reserve.room(held, 2) for held in (0, 4, 5, 13, 14)] == [10, 10, 0, 0, 0]


def test_with_slow_tasks_it_holds_no_reserve() -> None:
    reserve = settled(Reserve(5), per_s=0.1)
    assert reserve.limit(2) == 2
    assert [reserve.room(held, 2) for held in (0, 1, 2)] == [2, 1, 0]


def test_in_between_it_holds_the_work_of_reserve_s() -> None:
    assert settled(Reserve(5), per_s=2).limit(2) in (9, 10, 11)


def test_adapts_within_some_tasks_when_they_become_slow() -> None:
    reserve = settled(Reserve(5), per_s=20)
    reserve.begin(5000.0)
    for number in range(4):
        reserve.done(5000.0 + 10 * (number + 1))
    assert reserve.limit(2) == 2


def test_time_without_work_does_not_count() -> None:
    reserve = settled(Reserve(5), per_s=20)
    reserve.begin(90_000.0)
    reserve.done(90_000.05)
    assert reserve.limit(2) == 14


@given(
    processes=st.integers(1, 64),
    held=st.integers(0, 300),
    intervals_s=st.lists(st.floats(0, 1000), max_size=20),
    reserve_s=st.integers(0, 300),
)
def test_never_starves_a_process_and_never_asks_for_more_than_allowed(
    processes: int, held: int, intervals_s: list[float], reserve_s: int
) -> None:
    reserve = Reserve(reserve_s)
    now = 0.0
    for interval_s in intervals_s:
        now += interval_s
        reserve.done(now)
    room, limit = reserve.room(held, processes), reserve.limit(processes)
    assert processes <= limit <= 2 * processes + 10
    assert 0 <= room <= 10
    if room:
        assert held + room <= limit
    if held < processes:
        assert room >= 1


def test_the_channel_learns_from_its_acknowledgements() -> None:
    with scripted_channel() as channel:
        channel.basic_qos(prefetch_count=2)
        channel.consume()
        channel.answer(sqs_message(1), sqs_message(2))
        assert channel.qos.can_consume_max_estimate() == 0
        channel.basic_ack("h1")
        channel.basic_ack("h2")
        assert channel.qos.can_consume_max_estimate() == 10


def test_without_a_prefetch_count_it_takes_what_comes() -> None:
    with scripted_channel() as channel:
        assert channel.qos.can_consume_max_estimate() is None
        assert channel.qos.can_consume()

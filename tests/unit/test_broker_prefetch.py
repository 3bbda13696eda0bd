from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.broker.prefetch import Reserve
from tests.support.scripted import scripted_channel, sqs_message


def settled(reserve: Reserve, held: int, turnaround_s: float) -> Reserve:
    """After many observations of the same."""
    for _ in range(100):
        reserve.observe(held, turnaround_s)
    return reserve


def test_without_experience_it_holds_what_can_run() -> None:
    reserve = Reserve(5)
    assert [reserve.room(held, 2) for held in range(4)] == [2, 1, 0, 0]


def test_with_fast_tasks_it_asks_for_ten_when_few_are_left() -> None:
    reserve = settled(Reserve(5), held=10, turnaround_s=0.5)
    assert reserve.limit(2) == 14
    assert [reserve.room(held, 2) for held in (0, 4, 5, 13, 14)] == [10, 10, 0, 0, 0]


def test_with_slow_tasks_it_holds_no_reserve() -> None:
    reserve = settled(Reserve(5), held=2, turnaround_s=30)
    assert reserve.limit(2) == 2
    assert [reserve.room(held, 2) for held in (0, 1, 2)] == [2, 1, 0]


def test_in_between_it_holds_the_work_of_reserve_s() -> None:
    reserve = settled(Reserve(5), held=4, turnaround_s=2)  # two a second
    assert reserve.limit(2) == 10


def test_adapts_within_some_tens_of_tasks_when_they_become_slow() -> None:
    reserve = settled(Reserve(5), held=14, turnaround_s=0.5)
    for _ in range(60):
        reserve.observe(2, 20)
    assert reserve.limit(2) == 2


@given(
    processes=st.integers(1, 64),
    held=st.integers(0, 300),
    seen=st.lists(st.tuples(st.integers(1, 100), st.floats(0, 1000)), max_size=20),
    reserve_s=st.integers(0, 300),
)
def test_never_starves_a_process_and_never_asks_for_more_than_allowed(
    processes: int, held: int, seen: list[tuple[int, float]], reserve_s: int
) -> None:
    reserve = Reserve(reserve_s)
    for observation in seen:
        reserve.observe(*observation)
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

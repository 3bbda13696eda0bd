from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.sqs.transport.prefetch import PrefetchController
from tests.support.scripted import scripted_channel, sqs_message


def settled(controller: PrefetchController, per_s: float, count: int = 100) -> PrefetchController:
    """After so many tasks, done at this rate, in bursts of two."""
    controller.on_work(1000.0)
    for number in range(count):
        controller.on_done(1000.0 + (number // 2 + 1) * 2 / per_s)
    return controller


def test_without_experience_it_holds_what_can_run() -> None:
    controller = PrefetchController(5)
    assert [controller.capacity(in_flight, 2) for in_flight in range(4)] == [2, 1, 0, 0]


def test_with_fast_tasks_it_asks_for_ten_when_few_are_left() -> None:
    controller = settled(PrefetchController(5), per_s=20)
    assert controller.limit(2) == 14
    assert [controller.capacity(in_flight, 2) for in_flight in (0, 4, 5, 13, 14)] == [10, 10, 0, 0, 0]


def test_with_slow_tasks_it_prefetches_nothing() -> None:
    controller = settled(PrefetchController(5), per_s=0.1)
    assert controller.limit(2) == 2
    assert [controller.capacity(in_flight, 2) for in_flight in (0, 1, 2)] == [2, 1, 0]


def test_in_between_it_prefetches_the_work_of_prefetch_s() -> None:
    assert settled(PrefetchController(5), per_s=2).limit(2) in (9, 10, 11)


def test_adapts_within_some_tasks_when_they_become_slow() -> None:
    controller = settled(PrefetchController(5), per_s=20)
    controller.on_work(5000.0)
    for number in range(4):
        controller.on_done(5000.0 + 10 * (number + 1))
    assert controller.limit(2) == 2


def test_time_without_work_does_not_count() -> None:
    controller = settled(PrefetchController(5), per_s=20)
    controller.on_work(90_000.0)
    controller.on_done(90_000.05)
    assert controller.limit(2) == 14


@given(
    processes=st.integers(1, 64),
    in_flight=st.integers(0, 300),
    intervals_s=st.lists(st.floats(0, 1000), max_size=20),
    prefetch_s=st.integers(0, 300),
)
def test_never_starves_a_process_and_never_asks_for_more_than_allowed(
    processes: int, in_flight: int, intervals_s: list[float], prefetch_s: int
) -> None:
    controller = PrefetchController(prefetch_s)
    now = 0.0
    for interval_s in intervals_s:
        now += interval_s
        controller.on_done(now)
    room, limit = controller.capacity(in_flight, processes), controller.limit(processes)
    assert processes <= limit <= 2 * processes + 10
    assert 0 <= room <= 10
    if room:
        assert in_flight + room <= limit
    if in_flight < processes:
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

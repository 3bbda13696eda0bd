"""What the embedded run's emulator has to add to moto."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from pipeline.local.server import one_at_a_time

WRITERS = 8


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads are switched between almost any two steps."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_of_first_writes_at_the_same_time_one_is_accepted(restless: None) -> None:
    stored: set[int] = set()
    start = Barrier(WRITERS)

    @one_at_a_time
    def first_write(key: int) -> bool:
        is_there = key in stored
        sum(range(1000))
        stored.add(key)
        return not is_there

    def write(_: int) -> list[bool]:
        start.wait()
        return [first_write(key) for key in range(100)]

    with ThreadPoolExecutor(WRITERS) as pool:
        accepted = list(pool.map(write, range(WRITERS)))
    assert [sum(each) for each in zip(*accepted, strict=True)] == [1] * 100


def test_what_is_written_may_lead_to_another_write() -> None:
    @one_at_a_time
    def write(more: int) -> int:
        return write(more - 1) + 1 if more else 0

    assert write(3) == 3

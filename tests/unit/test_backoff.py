from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.aws.backoff import Backoff


def test_doubles_up_to_its_most() -> None:
    backoff = Backoff(1, 10)
    assert [backoff.ceiling_s(failures) for failures in range(7)] == [0, 1, 2, 4, 8, 10, 10]


@given(st.integers(-1, 10_000), st.floats(0.01, 100), st.floats(0.01, 1000))
def test_jitter_stays_in_the_upper_half(failures: int, first_s: float, most_s: float) -> None:
    backoff = Backoff(first_s, most_s)
    ceiling_s = backoff.ceiling_s(failures)
    assert ceiling_s / 2 <= backoff.pause_s(failures) <= ceiling_s <= most_s


def test_two_that_failed_together_do_not_come_back_together() -> None:
    assert len({Backoff(1, 10).pause_s(3) for _ in range(10)}) > 1

"""When renditions were made as they would be made now."""

from __future__ import annotations

import random
from datetime import timedelta

from pipeline.operations.audit.recipe_history import LONGEST_GAP, RecipeTimeline
from pipeline.testing.s3 import EPOCH

HOUR = timedelta(hours=1)


def test_nothing_is_assumed_at_first() -> None:
    assert not RecipeTimeline().is_up_to_date(EPOCH)


def test_what_is_written_after_an_up_to_date_one_is_too_for_a_while() -> None:
    timeline = RecipeTimeline()
    timeline.learn(EPOCH, True)
    assert timeline.is_up_to_date(EPOCH)
    assert timeline.is_up_to_date(EPOCH + HOUR)
    assert not timeline.is_up_to_date(EPOCH - HOUR)
    assert not timeline.is_up_to_date(EPOCH + LONGEST_GAP + HOUR)


def test_nothing_is_assumed_beside_one_that_is_out_of_date() -> None:
    timeline = RecipeTimeline()
    for hour, up_to_date in ((0, True), (2, False), (4, True)):
        timeline.learn(EPOCH + hour * HOUR, up_to_date)
    assert not timeline.is_up_to_date(EPOCH + 1 * HOUR)
    assert not timeline.is_up_to_date(EPOCH + 3 * HOUR)
    assert timeline.is_up_to_date(EPOCH + 5 * HOUR)


def looks(count: int, changed_at: float) -> tuple[int, int, int]:
    """Of objects over a year whose recipe changed once: looks at new ones, at old ones, and times remembered."""
    chance, timeline = random.Random(4), RecipeTimeline()
    looked = [0, 0]
    for _ in range(count):
        at = chance.random()
        written = EPOCH + timedelta(days=365 * at)
        new = at >= changed_at
        if timeline.is_up_to_date(written):
            assert new
            continue
        looked[not new] += 1
        timeline.learn(written, new)
    return looked[0], looked[1], len(timeline)


def test_few_looks_find_all_that_is_out_of_date() -> None:
    new, old, remembered = looks(50_000, changed_at=0.25)
    assert old in range(12_000, 13_000)  # all of them, to say so with certainty
    assert new < 1200
    assert remembered < 1500


def test_where_nothing_has_changed_a_year_takes_a_few_looks_a_day() -> None:
    new, old, remembered = looks(50_000, changed_at=0.0)
    assert old == 0
    assert new < 1500
    assert remembered < 1500

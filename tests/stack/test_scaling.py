"""The simulation that chose the template's defaults: its parts, and what it promises of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.metric_math import ExpressionError, evaluate, names
from benchmarks.scaling import BURSTS, HOUR_S, SMALL, WAVES, Ours, sample
from benchmarks.scaling_model import Assumptions, BridgeWakes, Burst, Fifo, Keda, Service, Steps
from bridge.wake import AGAIN_S, WakePolicy

WORLD = Assumptions()


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("a + b * 2", [7.0, None, 3.0]),
        ("FILL(b, 0) - a", [2.0, -1.0, 0.0]),
        ("FILL(b, REPEAT)", [3.0, 3.0, 1.0]),
        ("IF(a > 0, FILL(b, 9), a)", [3.0, 9.0, 1.0]),
        ("a / (a - a)", [None, None, None]),
    ],
)
def test_metric_math(expression: str, wanted: list[float | None]) -> None:
    assert evaluate(expression, {"a": [1.0, 1.0, 1.0], "b": [3.0, None, 1.0]}) == wanted
    assert names(expression) <= {"a", "b"}


@pytest.mark.parametrize("expression", ["a +", "c", "FILLED(a, 0)", "FILL(a, LINEAR)", "a ** 2"])
def test_metric_math_refuses(expression: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(expression, {"a": [1.0]})


def test_fifo_keeps_order_and_amounts() -> None:
    queue = Fifo()
    queue.put(0.0, 10)
    queue.put(60.0, 20)
    assert queue.take(15) == pytest.approx(15)
    assert queue.age(100.0) == pytest.approx(40.0)
    assert queue.take(100) == pytest.approx(15)
    assert (queue.size, queue.age(100.0)) == (0.0, 0.0)


@pytest.mark.parametrize("burst", BURSTS[:3], ids=lambda burst: burst.name)
@pytest.mark.parametrize("spot", [False, True])
def test_defaults_scale_from_zero_to_zero_and_stop_nobody_busy(burst: object, spot: bool) -> None:
    result = Ours(spot=spot).run("ours", burst, WORLD)  # type: ignore[arg-type]
    assert result.done_s is not None
    assert result.asleep_s is not None
    assert result.stopped_busy == 0
    assert result.backlog[-1] == pytest.approx(0, abs=1)
    assert 0 < result.peak < burst.max_workers  # type: ignore[attr-defined]


def test_defaults_cost_less_and_keep_uploads_waiting_for_less_than_the_sample_where_they_come_in_waves() -> None:
    """The sample's uploads go straight to its workers: without a bridge, and an image was always one message."""
    ours, others = Ours().run("ours", WAVES, WORLD), sample(WAVES, replace(WORLD, events_per_bridge=1e9))
    assert ours.total_dollars < 0.65 * others.total_dollars
    assert ours.age_95_s < others.age_95_s


def test_ten_thousand_at_once_are_done_within_six_minutes_for_no_more_than_six_cents() -> None:
    result = Ours().run("ours", SMALL, WORLD)
    assert (result.done_s or 999) <= 360
    assert result.total_dollars <= 0.06


def test_without_the_wake_alarm_nothing_ever_starts() -> None:
    result = Ours(wake=((1, 0),)).run("ours", BURSTS[1], WORLD)
    assert (result.done_s, result.peak) == (None, 0)


def test_an_upload_is_done_within_a_minute_from_zero_and_within_three_should_the_bridge_not_wake() -> None:
    woken, metrics = (Ours(bridge_wakes=wakes).run("ours", BURSTS[0], WORLD) for wakes in (True, False))
    assert (woken.done_s or 999) <= 60
    assert (metrics.done_s or 999) <= 180
    assert woken.total_dollars == pytest.approx(metrics.total_dollars, rel=0.1)


def test_what_the_bridge_wakes_is_not_stopped_for_the_quiet_before() -> None:
    """A second burst, some minutes after the workers of the first have been stopped."""
    twice = Burst("twice", 5_000, 60, 20, 4, 3 * HOUR_S, 2, waves=2, every_s=1_080)
    result = Ours().run("ours", twice, WORLD)
    course = dict(zip((round(minute) for minute in result.minutes), result.workers, strict=True))
    assert course[17] == 0
    assert all(course[minute] >= 1 for minute in range(20, 26))


def test_several_bridges_wake_no_more_than_one_does() -> None:
    workers = Service(WORLD, 0, 20)
    alarm = Steps(lambda _: [], lambda _: False, lambda value, count: count + value, cooldown_s=AGAIN_S)
    bridges = [BridgeWakes(WakePolicy(100), alarm, WORLD) for _ in range(4)]
    for now in range(120):
        for bridge in bridges:
            bridge.step(now, 1 if now == 0 else 0, 250, 0, workers)
    assert workers.desired == 3


def test_keda_starts_one_at_a_poll_and_doubles() -> None:
    workers = Service(WORLD, 0, 100)
    keda, course = Keda(100), []
    for now in range(0, 75, 15):
        keda.step(now, 0, 10_000, 0, workers)
        course.append(workers.desired)
    assert course == [5, 10, 20, 40, 80]

"""Simulates the stack's scaling beside others that people use; the template's defaults were chosen with it.

    python -m benchmarks.scaling            the comparison and the sweeps, as text (a minute)
    python -m benchmarks.scaling --write    also into docs/scaling.md, with plots (needs matplotlib)

The stack's expressions, targets, steps and cooldowns are read from cloudformation/batch.yaml.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.scaling_model import (
    MINUTE_S,
    Assumptions,
    BridgeWakes,
    Burst,
    Keda,
    Policy,
    Result,
    Steps,
    TargetTracking,
    expression,
    simulate,
)
from bridge.wake import WakePolicy
from tests.stack.template import Stack, load

DOCS = Path(__file__).parents[1] / "docs"

HOUR_S = 3600
#: A constant load: 60 images a second, the work of nine workers.
STEADY = Burst("steady", 60 * 12 * HOUR_S, 12 * HOUR_S, 20, 4, 14 * HOUR_S, 2)
#: Five thousand photos every half hour.
WAVES = Burst("waves", 5_000, 60, 20, 4, 13 * HOUR_S, 2, waves=24, every_s=HOUR_S / 2)
SMALL = Burst("ten thousand", 10_000, 60, 20, 4, 6 * HOUR_S, 1)
BURSTS = (
    Burst("one image", 1, 1, 20, 4, 2 * HOUR_S, 1),
    Burst("a thousand", 1_000, 30, 20, 4, 3 * HOUR_S, 1),
    WAVES,
    Burst("a million", 1_000_000, 600, 20, 4, 24 * HOUR_S, 5),
    Burst("a hundred million", 100_000_000, 24 * HOUR_S, 400, 12, 120 * HOUR_S, 20),
)


@dataclass(frozen=True)
class Ours:
    """The template's scaling, with the values that are varied here."""

    backlog_per_worker: float | None = None
    scale_in: str | None = None
    wake: tuple[tuple[float, int], ...] | None = None
    rest_minutes: int | None = None  # 0: no rest alarm
    out_cooldown_s: float | None = None
    spot: bool = False
    bridge_wakes: bool = True

    def run(self, name: str, burst: Burst, world: Assumptions) -> Result:
        parameters = {"ScaleIn": self.scale_in} if self.scale_in else {}
        stack = Stack(load(), parameters)
        tracking = stack.properties("WorkerTracking")["TargetTrackingScalingPolicyConfiguration"]
        target = float(tracking["TargetValue"]) if self.backlog_per_worker is None else self.backlog_per_worker

        def at_target(text: str) -> str:
            return text.replace(f" {stack.parameters['BacklogPerWorker']}", f" {target:.0f}")

        policies: list[Policy] = [
            TargetTracking(
                expression(at_target(_expression(tracking["CustomizedMetricSpecification"]["Metrics"]))),
                target,
                out_cooldown_s=tracking["ScaleOutCooldown"] if self.out_cooldown_s is None else self.out_cooldown_s,
                in_cooldown_s=tracking["ScaleInCooldown"],
                scale_in=not tracking["DisableScaleIn"],
            ),
            wake := self._wake(stack, at_target),
        ]
        policies += self._rest(stack)
        bridge = stack.properties("BridgeTracking")["TargetTrackingScalingPolicyConfiguration"]
        bridges = TargetTracking(
            expression(_expression(bridge["CustomizedMetricSpecification"]["Metrics"])), float(bridge["TargetValue"])
        )
        weights = int(stack.parameters["OnDemandWeight"]), int(stack.parameters["SpotWeight"])
        share = weights[1] / sum(weights) if self.spot else 0.0
        live = BridgeWakes(WakePolicy(int(target)), wake, world) if self.bridge_wakes else None
        return simulate(name, burst, world, policies, [bridges], spot_share=share, live=live)

    def _wake(self, stack: Stack, at_target: Callable[[str], str]) -> Steps:
        alarm, policy = stack.properties("WorkerWakeAlarm"), stack.properties("WorkerWake")
        steps = policy["StepScalingPolicyConfiguration"]
        adjustments = self.wake or tuple(
            (alarm["Threshold"] + step["MetricIntervalLowerBound"], int(step["ScalingAdjustment"]))
            for step in steps["StepAdjustments"]
        )
        return Steps(
            expression(at_target(_expression(alarm["Metrics"]))),
            lambda value: value >= alarm["Threshold"],
            lambda value, count: count + max((change for bound, change in adjustments if value >= bound), default=0),
            periods=alarm["EvaluationPeriods"],
            cooldown_s=steps["Cooldown"],
        )

    def _rest(self, stack: Stack) -> list[Policy]:
        alarm = stack.resources().get("WorkerRestAlarm", {}).get("Properties")
        if alarm is None or self.rest_minutes == 0:
            return []
        return [
            Steps(
                expression(_expression(alarm["Metrics"])),
                lambda value: value < alarm["Threshold"],
                lambda _value, _count: 0,
                periods=self.rest_minutes or alarm["EvaluationPeriods"],
            )
        ]


def sample(burst: Burst, world: Assumptions) -> Result:
    """The reference sample as its users set it up in the console: one alarm adds a task, another removes one."""
    policies = [
        Steps(expression("visible"), lambda v: v >= 100, lambda _, n: n + 1, every_s=300, cooldown_s=300),
        Steps(expression("visible"), lambda v: v < 10, lambda _, n: n - 1, every_s=300, cooldown_s=300),
    ]
    return simulate("sample", burst, world, policies, [], minimum=1, protected=False, lost_for_s=1800)


def copilot(burst: Burst, world: Assumptions, target: float) -> Result:
    """Copilot's worker service: a function publishes ceil(visible / running) each minute, and a target tracks it."""
    policies = [
        TargetTracking(
            lambda window: [
                None if visible is None or running is None else float(math.ceil(visible / max(running, 1)))
                for visible, running in zip(window["visible"], window["now_running"], strict=True)
            ],
            target,
            out_cooldown_s=60,
            in_cooldown_s=120,
        )
    ]
    return simulate("Copilot", burst, world, policies, [], minimum=1, protected=False, lost_for_s=30)


def cdk(burst: Burst, world: Assumptions) -> Result:
    """CDK's QueueProcessingFargateService with its default steps, and its CPU target of half."""
    policies: list[Policy] = [
        Steps(expression("visible"), lambda v: v >= 500, lambda _, n: n + 5, every_s=300, cooldown_s=300),
        Steps(expression("visible"), lambda v: 100 <= v < 500, lambda _, n: n + 1, every_s=300, cooldown_s=300),
        Steps(expression("visible"), lambda v: v <= 0, lambda _, n: n - 1, every_s=300, cooldown_s=300),
        TargetTracking(expression("cpu"), 50, out_cooldown_s=300, in_cooldown_s=300),
    ]
    return simulate("CDK", burst, world, policies, [], minimum=1, protected=False, lost_for_s=30)


def keda(burst: Burst, world: Assumptions, target: float) -> Result:
    """KEDA with the same target for each worker, in a cluster that has room for all workers and costs nothing."""
    return simulate("KEDA", burst, world, [], [], live=Keda(target))


def _expression(queries: Sequence[dict[str, str]]) -> str:
    return next(query["Expression"] for query in queries if "Expression" in query)


# --- what is shown


def compared(burst: Burst, world: Assumptions) -> list[Result]:
    # The others have no bridge: their uploads go directly to the queue that the workers read.
    direct = replace(world, events_per_bridge=1e9)
    return [
        Ours().run("ours", burst, world),
        Ours(spot=True).run("ours, on Spot", burst, world),
        sample(burst, direct),
        copilot(burst, direct, _target()),
        cdk(burst, direct),
        keda(burst, direct, _target()),
    ]


def comparison(results: Iterable[Result]) -> str:
    rows = [
        "| | first done | all done | age of the oldest (95 %) | workers at most | stopped while busy | "
        "workers sleep again | dollars |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        asleep = (
            "always one"
            if result.asleep_s is None or result.name in ("sample", "Copilot", "CDK")
            else _time(result.asleep_s)
        )
        rows.append(
            f"| {result.name} | {_time(result.first_done_s)} | {_time(result.done_s)} | {_time(result.age_95_s)} | "
            f"{result.peak} | {result.stopped_busy} | {asleep} | {result.total_dollars:,.2f} |"
        )
    return "\n".join(rows)


def sweep(values: Iterable[tuple[str, Ours]], bursts: Sequence[Burst], world: Assumptions) -> str:
    rows = ["| | " + " | ".join(f"{burst.name}: done, age, dollars" for burst in bursts) + " |"]
    rows.append("|---" * (len(bursts) + 1) + "|")
    for label, ours in values:
        cells = []
        for burst in bursts:
            result = ours.run(label, burst, world)
            cells.append(f"{_time(result.done_s)}, {_time(result.age_95_s)}, {result.total_dollars:,.2f}")
        rows.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    if seconds < 2 * HOUR_S:
        return f"{seconds / MINUTE_S:.1f} min"
    return f"{seconds / HOUR_S:.1f} h"


def sweeps(world: Assumptions) -> dict[str, str]:
    bursts = (SMALL, WAVES, STEADY)
    targets = (500, 1_000, 1_500, 1_800, 2_000, 2_500, 3_000, 5_000)
    rests = (("target", 0), ("target", 2), ("target", 3), ("target", 5), ("target", 10), ("idle", 3))
    return {
        "target": sweep(
            ((f"{value:,}", Ours(backlog_per_worker=value)) for value in targets), (*bursts, BURSTS[-1]), world
        ),
        "cooldown": sweep(
            ((f"{seconds} s", Ours(out_cooldown_s=seconds)) for seconds in (60, 180, 300)), bursts, world
        ),
        "rest": sweep(
            (
                (
                    f"{mode}, {f'rest after {rest} min' if rest else 'no rest alarm'}",
                    Ours(scale_in=mode, rest_minutes=rest),
                )
                for mode, rest in rests
            ),
            bursts,
            world,
        ),
        "wake": sweep(
            (
                ("by the metrics alone", Ours(bridge_wakes=False)),
                ("the bridge, one worker", Ours(wake=((1.0, 1),))),
                ("the bridge, by the backlog", Ours()),
            ),
            bursts,
            world,
        ),
    }


def _target() -> float:
    return float(Stack(load()).properties("WorkerTracking")["TargetTrackingScalingPolicyConfiguration"]["TargetValue"])


# --- plots


def plot(burst: Burst, results: Sequence[Result], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {"svg.hashsalt": "scaling", "svg.fonttype": "none", "font.size": 9}
    from matplotlib import pyplot

    panels: list[tuple[str, Callable[[Result], list[float]]]] = [
        ("Waiting (tasks)", lambda r: r.backlog),
        ("Workers", lambda r: r.workers),
        ("Age of the oldest (minutes)", lambda r: [age / MINUTE_S for age in r.age_s]),
        ("Dollars", lambda r: r.dollars),
    ]
    end = _end_minutes(results) if burst.waves == 1 else 6 * burst.every_s / MINUTE_S
    in_hours = end > 300
    figure, axes = pyplot.subplots(2, 2, figsize=(9, 5.2), sharex=True, layout="constrained")
    for axis, (title, values) in zip(axes.flat, panels, strict=True):
        for result in results:
            points = [(t, v) for t, v in zip(result.minutes, values(result), strict=True) if -3 <= t <= end]
            points = points[:: max(1, len(points) // 300)]
            axis.plot([t / 60 if in_hours else t for t, _ in points], [v for _, v in points], label=result.name, lw=1.3)
        axis.set_title(title, fontsize=9)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.25)
    for axis in axes[1]:
        axis.set_xlabel("hours" if in_hours else "minutes")
    axes[0][0].legend(frameon=False)
    figure.suptitle(
        f"{burst.name.capitalize()} images at once" if burst.waves == 1 else "Five thousand images every half hour"
    )
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _end_minutes(results: Sequence[Result]) -> float:
    done = [result.done_s for result in results if result.done_s is not None]
    return (max(done) if done else max(result.minutes[-1] for result in results) * MINUTE_S) / MINUTE_S * 1.05 + 25


def insert(path: Path, blocks: dict[str, str]) -> None:
    """Replaces the text between ``<!-- name -->`` and ``<!-- /name -->``."""
    text = path.read_text(encoding="utf-8")
    for name, block in blocks.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"{path} has no place for {name}")
        text = pattern.sub(lambda match, block=block: f"{match[1]}{block}\n{match[2]}", text)  # type: ignore[misc]
    path.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/scaling.md and its plots")
    parser.add_argument("--cpu-per-image", type=float, default=Assumptions().cpu_per_image_s, help="seconds, one vCPU")
    options = parser.parse_args()
    world = Assumptions(cpu_per_image_s=options.cpu_per_image)
    blocks = {}
    for burst in BURSTS:
        results = compared(burst, world)
        name = burst.name.replace(" ", "-")
        blocks[name] = comparison(results)
        print(f"\n## {burst.name}, at most {burst.max_workers} workers\n\n{blocks[name]}")
        if options.write and burst.images > 1:
            plot(burst, results, DOCS / "images" / f"scaling-{name}.svg")
    for name, table in sweeps(world).items():
        blocks[name] = table
        print(f"\n## {name}\n\n{table}")
    if options.write:
        insert(DOCS / "scaling.md", blocks)


if __name__ == "__main__":
    main()

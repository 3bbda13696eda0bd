"""A discrete-event model of the stack: uploads, bridge, queues, CloudWatch's delays, scaling, starts, stops, Spot.

Between two events, work is a continuous flow of tasks, so simulating a hundred million images takes seconds. Values
that AWS does not document exactly are fields of ``Assumptions``, marked †.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.metric_math import evaluate
from bridge.wake import WakePolicy

MINUTE_S = 60
#: Seconds before the first upload in which nothing happens, so that every metric has a history.
QUIET_S = 600


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Assumptions about AWS and the work. In seconds unless the name says otherwise."""

    # A 12 MP photo, both renditions, one message: 0.08 s measured, a quarter more for Celery and S3, half again
    # for Fargate †.
    cpu_per_image_s: float = 0.15
    events_per_bridge: float = 150.0  # a second, on a quarter of a vCPU: 0.94 ms measured, half again for Fargate †
    vcpu: float = 1.0
    gib: float = 2.0
    prefetched: int = 8  # messages that a busy worker holds
    start_s: float = 45.0  # from the decision to the first receive: placement, network, image pull, start †
    set_alarm_s: float = 3.0  # from SetAlarmState to the new count of workers †
    sqs_metric_delay_s: int = 60  # after the end of its minute †
    ecs_metric_delay_s: int = 120  # likewise †
    interruptions_per_hour: float = 0.03  # of each Spot worker †
    minimum_bill_s: float = 60.0
    # us-east-1, list prices, x86, dollars an hour
    vcpu_hour: float = 0.04048
    gib_hour: float = 0.004445
    spot_discount: float = 0.7


class Fifo:
    """A queue of fractional amounts, each with the time at which it came."""

    def __init__(self) -> None:
        self._cohorts: deque[list[float]] = deque()  # [time, amount]
        self.size = 0.0

    def put(self, now: float, amount: float) -> None:
        if amount <= 0:
            return
        self.size += amount
        if self._cohorts and self._cohorts[-1][0] == now:
            self._cohorts[-1][1] += amount
        else:
            self._cohorts.append([now, amount])

    def take(self, amount: float) -> float:
        """Takes up to ``amount``, oldest first; returns how much there was."""
        taken = 0.0
        while amount - taken > 1e-9 and self._cohorts:
            cohort = self._cohorts[0]
            part = min(cohort[1], amount - taken)
            taken += part
            self.size -= part
            if part == cohort[1]:
                self._cohorts.popleft()
            else:
                cohort[1] -= part
        if not self._cohorts:
            self.size = 0.0
        return taken

    def age(self, now: float) -> float:
        return now - self._cohorts[0][0] if self._cohorts else 0.0


@dataclass
class Metrics:
    """CloudWatch's metrics, one value a minute. A scaler sees only values that have arrived by now."""

    delays_s: Mapping[str, int]
    series: dict[str, list[float | None]] = field(default_factory=dict)

    def publish(self, **values: float | None) -> None:
        for name, value in values.items():
            self.series.setdefault(name, []).append(value)

    def window(self, now: float, minutes: int) -> dict[str, list[float | None]]:
        """The last ``minutes`` whole minutes of the fastest metric; values that have not arrived yet are missing."""
        newest = int((now - min(self.delays_s.values())) // MINUTE_S)
        found: dict[str, list[float | None]] = {}
        for name, series in self.series.items():
            arrived = int((now - self.delays_s[name]) // MINUTE_S)
            places = range(max(0, newest - minutes), newest)
            found[name] = [series[place] if place < min(arrived, len(series)) else None for place in places]
        return found


@dataclass
class Service:
    """An ECS service: its desired count, and its starting and running containers, protected while busy."""

    world: Assumptions
    minimum: int
    maximum: int
    spot_share: float = 0.0
    protected: bool = True
    desired: int = 0
    starting: list[tuple[float, float, bool]] = field(default_factory=list)  # ready at, ordered at, Spot
    running: list[tuple[float, bool]] = field(default_factory=list)  # since (for the bill), Spot
    dollars: float = 0.0
    stopped_busy: int = 0
    interrupted: int = 0
    peak: int = 0

    def want(self, count: float) -> None:
        self.desired = max(self.minimum, min(self.maximum, int(count)))

    def start_due(self, now: float) -> None:
        while self.starting and self.starting[0][0] <= now:
            _, ordered, spot = heapq.heappop(self.starting)
            self.running.append((ordered, spot))
        self.peak = max(self.peak, len(self.running))

    def converge(self, now: float, busy: int) -> int:
        """Starts missing containers, stops surplus ones; returns how many busy ones it stopped."""
        here = len(self.running) + len(self.starting)
        spots = sum(spot for _, spot in self.running) + sum(spot for *_, spot in self.starting)
        for place in range(here, self.desired):
            spot = place > 0 and spots < self.spot_share * (place + 1)
            spots += spot
            heapq.heappush(self.starting, (now + self.world.start_s, now, spot))
        excess = here - self.desired
        while excess > 0 and self.starting:
            _, ordered, spot = self.starting.pop()
            heapq.heapify(self.starting)
            self._bill(now - ordered, spot)
            excess -= 1
        idle = max(0, len(self.running) - busy)
        killed = 0
        for _ in range(max(0, excess)):
            if idle > 0:
                idle -= 1
            elif self.protected:
                break
            else:
                killed += 1
            since, spot = self.running.pop()
            self._bill(now - since, spot)
        self.stopped_busy += killed
        return killed

    def interrupt(self, now: float, chance: float, dice: random.Random) -> None:
        """Spot interrupts some containers; ECS replaces them."""
        kept = []
        for since, spot in self.running:
            if spot and dice.random() < chance:
                self._bill(now - since, spot)
                self.interrupted += 1
            else:
                kept.append((since, spot))
        self.running = kept

    def settle(self, now: float) -> float:
        """The bill up to now, including running containers."""
        running = [(now - since, spot) for since, spot in self.running]
        running += [(now - ordered, spot) for _, ordered, spot in self.starting]
        return self.dollars + sum(self._price(seconds, spot) for seconds, spot in running)

    def _bill(self, seconds: float, spot: bool) -> None:
        self.dollars += self._price(max(seconds, self.world.minimum_bill_s), spot)

    def _price(self, seconds: float, spot: bool) -> float:
        hour = self.world.vcpu * self.world.vcpu_hour + self.world.gib * self.world.gib_hour
        return seconds / 3600 * hour * (1 - self.world.spot_discount if spot else 1)


class TargetTracking:
    """AWS's target tracking: three datapoints above the target scale out, fifteen below nine tenths of it scale in."""

    def __init__(
        self,
        metric: Callable[[Mapping[str, Sequence[float | None]]], list[float | None]],
        target: float,
        *,
        out_cooldown_s: float = 60,
        in_cooldown_s: float = 60,
        scale_in: bool = True,
    ) -> None:
        self._metric = metric
        self._target = target
        self._out_cooldown_s = out_cooldown_s
        self._in_cooldown_s = in_cooldown_s
        self._scale_in = scale_in
        self._last_out = self._last_in = -math.inf

    def decide(self, now: float, metrics: Metrics, service: Service) -> None:
        values = self._metric(metrics.window(now, 30))
        recent = values[-15:]
        if len(recent) >= 3 and all(value is not None and value > self._target for value in recent[-3:]):
            latest = recent[-1] or 0.0
            # The metric counts the workers of some minutes ago, so new workers look as if they were missing: the
            # cooldown must be longer than that delay †.
            wanted = math.ceil(max(1, len(service.running)) * latest / self._target)
            if now - self._last_out >= self._out_cooldown_s and wanted > service.desired:
                service.want(wanted)
                self._last_out = now
        below = len(recent) == 15 and all(value is not None and value < 0.9 * self._target for value in recent)
        if below and self._scale_in and now - max(self._last_in, self._last_out) >= self._in_cooldown_s:
            wanted = math.ceil(service.desired * (recent[-1] or 0.0) / self._target)
            if wanted < service.desired:
                service.want(wanted)
                self._last_in = now


class Steps:
    """An alarm with a step scaling policy: the adjustment of the highest step whose bound is reached."""

    def __init__(
        self,
        metric: Callable[[Mapping[str, Sequence[float | None]]], list[float | None]],
        breaching: Callable[[float], bool],
        change: Callable[[float, int], float],
        *,
        periods: int = 1,
        every_s: int = MINUTE_S,
        cooldown_s: float = 0,
    ) -> None:
        self._metric = metric
        self._breaching = breaching
        self._change = change
        self._periods = periods
        self._every_s = every_s
        self._cooldown_s = cooldown_s
        self._last = -math.inf
        self._base = 0  # workers wanted before the activity that the cooldown began with

    def decide(self, now: float, metrics: Metrics, service: Service) -> None:
        if now % self._every_s >= MINUTE_S:
            return
        recent = self._metric(metrics.window(now, max(self._periods, 5)))[-self._periods :]
        if len(recent) == self._periods and all(value is not None and self._breaching(value) for value in recent):
            self.act(now, recent[-1] or 0.0, service)

    def act(self, now: float, value: float, service: Service) -> None:
        """The alarm's action. Within the cooldown, added workers count as running, and no worker is removed.

        https://docs.aws.amazon.com/autoscaling/application/APIReference/API_StepScalingPolicyConfiguration.html
        """
        before = service.desired
        if now - self._last < self._cooldown_s:
            wanted = self._change(value, self._base)
            if wanted > before:
                service.want(wanted)
            return
        service.want(self._change(value, before))
        if service.desired != before:
            self._last, self._base = now, before


class BridgeWakes:
    """The bridge's waking of workers: it reads the queue's depth, and sets the wake alarm."""

    def __init__(self, policy: WakePolicy, alarm: Steps, world: Assumptions) -> None:
        self._policy = policy
        self._alarm = alarm
        self._delay_s = world.set_alarm_s
        self._look_at = 0.0
        self._due: list[tuple[float, float]] = []  # when the action is taken, and for how many workers

    def step(self, now: float, published: float, waiting: float, held: float, service: Service) -> None:
        while self._due and self._due[0][0] <= now:
            self._alarm.act(now, self._due.pop(0)[1], service)
        if published and (due_s := self._policy.published(now)) is not None:
            self._look_at = min(self._look_at, now + due_s)
        if now < self._look_at:
            return
        decision = self._policy.decide(now, math.ceil(waiting - 1e-6), math.ceil(held - 1e-6))
        self._look_at = now + decision.look_again_s
        if decision.workers:
            self._due.append((now + self._delay_s, decision.workers))


class Keda:
    """KEDA's SQS scaler: it starts the first worker at a poll, Kubernetes' autoscaler all others, both with defaults.

    https://keda.sh/docs/latest/scalers/aws-sqs/ (messages in flight count),
    https://keda.sh/docs/latest/reference/scaledobject-spec/ (polls every 30 s, to zero after 300 s),
    https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/ (every 15 s twice as many or four more,
    fewer by the highest of five minutes, nothing within a tenth).
    """

    def __init__(self, target: float) -> None:
        self._target = target
        self._poll_at = self._scale_at = 0.0
        self._active_at = -math.inf
        self._advised: deque[tuple[float, int]] = deque()

    def step(self, now: float, published: float, waiting: float, held: float, service: Service) -> None:
        total = waiting + held
        if now >= self._poll_at:
            self._poll_at = now + 30
            if total > 0:
                self._active_at = now
                service.want(max(service.desired, 1))
            elif now - self._active_at >= 300:
                service.want(0)
        if now < self._scale_at or not service.desired:
            return
        self._scale_at = now + 15
        before = service.desired
        wanted = max(1, math.ceil(total / self._target))
        if abs(total / self._target / before - 1) <= 0.1:
            wanted = before
        self._advised.append((now, wanted))
        while self._advised[0][0] < now - 300:
            self._advised.popleft()
        if wanted > before:
            service.want(min(wanted, max(2 * before, before + 4)))
        else:
            service.want(min(before, max(advised for _, advised in self._advised)))


class Live(Protocol):
    """A scaler that reads the queue itself, at each step, and not CloudWatch's metrics."""

    def step(self, now: float, published: float, waiting: float, held: float, service: Service) -> None:
        """``published``: tasks since the last step; ``waiting`` and ``held``: tasks now."""


Policy = TargetTracking | Steps


def expression(text: str) -> Callable[[Mapping[str, Sequence[float | None]]], list[float | None]]:
    """A metric from an expression of metric math, as in the template."""
    return lambda window: evaluate(text, window)


@dataclass(frozen=True)
class Burst:
    """Images that are uploaded evenly over a time; repeatedly if ``waves`` is more than one."""

    name: str
    images: float  # of each wave
    upload_s: float
    max_workers: int
    max_bridges: int
    horizon_s: float
    step_s: float
    waves: int = 1
    every_s: float = 0.0

    def uploaded(self, elapsed_s: float) -> float:
        """Images uploaded in the step that ends ``elapsed_s`` after the first upload."""
        wave = min(self.waves - 1, int(elapsed_s / self.every_s)) if self.every_s else 0
        into = elapsed_s - wave * self.every_s
        span = max(self.upload_s, self.step_s)
        return self.images * self.step_s / span if 0 < into <= span else 0.0


@dataclass
class Result:
    """The result of a simulation, with values for each minute."""

    name: str
    minutes: list[float] = field(default_factory=list)
    backlog: list[float] = field(default_factory=list)  # tasks
    workers: list[float] = field(default_factory=list)
    age_s: list[float] = field(default_factory=list)  # of the oldest event or task
    dollars: list[float] = field(default_factory=list)
    first_done_s: float | None = None
    done_s: float | None = None
    asleep_s: float | None = None  # when the last worker above the minimum has stopped
    peak: int = 0
    stopped_busy: int = 0
    interrupted: int = 0
    total_dollars: float = 0.0

    @property
    def age_95_s(self) -> float:
        """The 95th percentile of the oldest message's age, over the minutes with work."""
        ages = sorted(age for age in self.age_s if age > 0)
        return ages[int(0.95 * (len(ages) - 1))] if ages else 0.0


def simulate(
    name: str,
    burst: Burst,
    world: Assumptions,
    policies: Sequence[Policy],
    bridge_policies: Sequence[Policy],
    *,
    minimum: int = 0,
    spot_share: float = 0.0,
    protected: bool = True,
    lost_for_s: float = 0.0,
    live: Live | None = None,
    seed: int = 1,
) -> Result:
    """Runs a burst until everything is done and the workers have stopped again, or until its horizon.

    ``lost_for_s``: how long messages stay hidden if their worker was stopped while busy.
    """
    workers = Service(world, minimum, burst.max_workers, spot_share, protected, desired=minimum)
    run = _Run(name, burst, world, workers, policies, bridge_policies, lost_for_s, live, random.Random(seed))
    now = 0.0
    while now < burst.horizon_s and not run.asleep:
        now += burst.step_s
        run.work(now)
        if now % MINUTE_S < burst.step_s:
            run.measure(now)
            run.scale(now)
        run.converge(now)
    return run.finished(now)


class _Run:
    """The state of one simulation."""

    def __init__(
        self,
        name: str,
        burst: Burst,
        world: Assumptions,
        workers: Service,
        policies: Sequence[Policy],
        bridge_policies: Sequence[Policy],
        lost_for_s: float,
        live: Live | None,
        dice: random.Random,
    ) -> None:
        self._burst, self._world, self._dice, self._lost_for_s = burst, world, dice, lost_for_s
        self._policies, self._bridge_policies, self._live = policies, bridge_policies, live
        delays = {"running": world.ecs_metric_delay_s}
        delays |= dict.fromkeys(
            ("visible", "inflight", "taken", "asked", "now_running", "cpu"), world.sqs_metric_delay_s
        )
        self._metrics, self._bridge_metrics = Metrics(delays), Metrics(delays)
        self._workers = workers
        self._workers.running = [(0.0, False)] * workers.minimum
        self._bridges = Service(world, 1, burst.max_bridges, desired=1)
        self._bridges.running = [(0.0, False)]
        self._events, self._tasks = Fifo(), Fifo()
        self._hidden: list[tuple[float, float]] = []  # (until when, number of tasks)
        self._rate = world.vcpu / world.cpu_per_image_s  # images a second for one worker
        self._left = burst.images * burst.waves
        self._taken = self._used = 0.0  # since the last minute
        self._result = Result(name)

    @property
    def asleep(self) -> bool:
        return self._result.asleep_s is not None

    def work(self, now: float) -> None:
        """One step of uploads, bridges and workers."""
        burst, step, workers, tasks = self._burst, self._burst.step_s, self._workers, self._tasks
        workers.start_due(now)
        self._bridges.start_due(now)
        if now > QUIET_S:
            self._events.put(now, burst.uploaded(now - QUIET_S))
        published = self._events.take(len(self._bridges.running) * self._world.events_per_bridge * step)
        tasks.put(now, published)
        while self._hidden and self._hidden[0][0] <= now:
            tasks.put(now, heapq.heappop(self._hidden)[1])
        capacity = len(workers.running) * self._rate * step
        done = tasks.take(capacity)
        self._left -= done
        self._taken += done
        self._used += done / capacity if capacity else 0.0
        if done > 0 and self._result.first_done_s is None:
            self._result.first_done_s = now - QUIET_S
        if self._left <= 0.5 and self._result.done_s is None:
            self._result.done_s = now - QUIET_S
        if self._live is not None:
            held = min(tasks.size, len(workers.running) * self._world.prefetched)
            self._live.step(now, published, tasks.size - held, held, workers)

    def measure(self, now: float) -> None:
        """Publishes the metrics at the end of a minute."""
        count = len(self._workers.running)
        held = min(self._tasks.size, count * self._world.prefetched)
        busy = min(1.0, self._used * self._burst.step_s / MINUTE_S)
        self._metrics.publish(
            visible=self._tasks.size - held,
            inflight=held,
            taken=self._taken,
            asked=3.0 * count * (1 - busy),
            running=float(count) if count else None,
            now_running=float(count),
            cpu=100 * busy if count else None,
        )
        bridges = float(len(self._bridges.running))
        self._bridge_metrics.publish(visible=self._events.size, running=bridges if bridges else None)
        self._taken = self._used = 0.0
        self._record(now)

    def scale(self, now: float) -> None:
        for policy in self._policies:
            policy.decide(now, self._metrics, self._workers)
        for policy in self._bridge_policies:
            policy.decide(now, self._bridge_metrics, self._bridges)
        self._workers.interrupt(now, self._world.interruptions_per_hour / 60, self._dice)

    def converge(self, now: float) -> None:
        """ECS follows the desired count. A worker that is stopped while busy leaves its messages hidden."""
        workers, tasks = self._workers, self._tasks
        busy = min(len(workers.running), math.ceil(tasks.size / self._world.prefetched))
        killed = workers.converge(now, busy)
        self._bridges.converge(now, 0)
        if killed:
            back = min(tasks.size, killed * self._world.prefetched)
            tasks.take(back)
            heapq.heappush(self._hidden, (now + self._lost_for_s, back))
        if self._result.done_s is not None and len(workers.running) + len(workers.starting) <= workers.minimum:
            self._result.asleep_s = now - QUIET_S

    def finished(self, now: float) -> Result:
        self._record(now)
        self._result.peak = self._workers.peak
        self._result.stopped_busy = self._workers.stopped_busy
        self._result.interrupted = self._workers.interrupted
        self._result.total_dollars = self._workers.settle(now)
        return self._result

    def _record(self, now: float) -> None:
        result = self._result
        result.minutes.append((now - QUIET_S) / MINUTE_S)
        result.backlog.append(self._tasks.size + self._events.size)
        result.workers.append(len(self._workers.running))
        result.age_s.append(max(self._events.age(now), self._tasks.age(now)))
        result.dollars.append(self._workers.settle(now))

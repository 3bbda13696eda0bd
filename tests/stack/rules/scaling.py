"""How workers follow the backlog, to and from zero."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.metric_math import evaluate
from tests.stack.iam import grants
from tests.stack.rules.base import Template, rule, variants
from tests.stack.rules.metrics import queries_of
from tests.stack.template import Stack


@rule
def workers_follow_the_backlog(template: Template) -> Iterator[str]:
    expression = _expression(template, "WorkerTracking")
    if expression is None:
        yield "the backlog per worker is not tracked"
        return
    # visible, in flight, running → tasks per worker
    cases = [
        (([300.0], [100.0], [4.0]), 100.0),  # what runs counts, else busy workers would be stopped
        (([0.0], [40.0], [4.0]), 10.0),
        (([300.0, 300.0], [None, None], [3.0, None]), 100.0),  # a late count of workers is not zero workers
        (([300.0], [0.0], [None]), None),  # no worker: for the wake alarm
    ]
    for (visible, inflight, running), wanted in cases:
        found = evaluate(expression, {"visible": visible, "inflight": inflight, "running": running})[-1]
        if found != wanted:
            yield f"{visible} waiting, {inflight} held, {running} workers: {found}, not {wanted}"
    if _of_query(template, "WorkerTracking", "running") != ("CPUUtilization", "SampleCount"):
        yield "how many workers run is the number of CPU samples"


@rule
def the_first_task_wakes_a_worker(template: Template) -> Iterator[str]:
    stack = Stack(template)
    alarm = stack.resources("AWS::CloudWatch::Alarm").get("WorkerWakeAlarm", {}).get("Properties")
    if alarm is None or alarm["AlarmActions"] != ["WorkerWake"]:
        yield "nothing starts the first worker"
        return
    expression = _expression(template, "WorkerWakeAlarm")
    # visible, in flight, received, empty receives → wake
    cases = [
        ((1.0, 0.0, 0.0, 0.0), True),
        ((1.0, None, None, None), True),
        ((5000.0, 0.0, 0.0, 0.0), True),
        ((0.0, 0.0, 0.0, 0.0), False),
        ((1.0, 0.0, 0.0, 3.0), False),  # a worker is listening
        ((1.0, 2.0, 0.0, 0.0), False),  # a worker is busy
        ((1.0, 0.0, 1.0, 0.0), False),
    ]
    for (visible, inflight, taken, asked), wakes in cases:
        values = {"visible": [visible], "inflight": [inflight], "taken": [taken], "asked": [asked]}
        found = evaluate(expression, values)[-1] if expression else None
        if (found is not None and found >= alarm["Threshold"]) != wakes:
            yield f"{values}: {found}"
    if alarm["ComparisonOperator"] != "GreaterThanOrEqualToThreshold":
        yield "one message would not be enough"
    step = stack.properties("WorkerWake")["StepScalingPolicyConfiguration"]
    if step["AdjustmentType"] != "ChangeInCapacity" or any(s["ScalingAdjustment"] < 1 for s in step["StepAdjustments"]):
        yield "waking must only ever add workers"


@rule
def idle_mode_never_stops_a_busy_worker(template: Template) -> Iterator[str]:
    stack = Stack(template, {"ScaleIn": "idle", "MinWorkers": 2})
    tracking = stack.properties("WorkerTracking")["TargetTrackingScalingPolicyConfiguration"]
    if tracking["DisableScaleIn"] is not True:
        yield "idle: the target still stops workers"
    if Stack(template).properties("WorkerTracking")["TargetTrackingScalingPolicyConfiguration"]["DisableScaleIn"]:
        yield "target: nothing ever stops a worker"
    expression = _expression(template, "WorkerRestAlarm") or ""
    for visible, inflight, rests in ((0.0, 0.0, True), (0.0, None, True), (0.0, 1.0, False), (1.0, 0.0, False)):
        found = evaluate(expression, {"visible": [visible], "inflight": [inflight]})[-1]
        if (found == 0) != rests:
            yield f"idle: {visible} waiting, {inflight} held: {found}"
    for each in variants(template):
        if "WorkerRestAlarm" not in each.resources():
            yield "workers that have nothing to do wait for the target to notice"
    alarm = stack.resources()["WorkerRestAlarm"]["Properties"]
    # Not "at most 0": a metric that equals the threshold is in no step that ends there.
    if alarm["AlarmActions"] != ["WorkerRest"] or (alarm["ComparisonOperator"], alarm["Threshold"]) != (
        "LessThanThreshold",
        1,
    ):
        yield "idle: the alarm does not stop workers"
    step = stack.properties("WorkerRest")["StepScalingPolicyConfiguration"]
    if step["AdjustmentType"] != "ExactCapacity" or step["StepAdjustments"] != [
        {"MetricIntervalUpperBound": 0, "ScalingAdjustment": 2}
    ]:
        yield "idle: workers are not brought back to MinWorkers"


@rule
def busy_workers_are_protected(template: Template) -> Iterator[str]:
    stack = Stack(template)
    actions = {grant.action: grant.resources for grant in grants(stack, "WorkerRole")}
    resources = actions.get("ecs:UpdateTaskProtection")
    if resources != ("arn:aws:ecs:us-east-1:123456789012:task/photos/*",):
        yield f"a worker can't protect itself from scale-in: {resources}"
    if stack.properties("WorkerService").get("AvailabilityZoneRebalancing") != "DISABLED":
        yield "workers would be stopped to balance zones"


def _expression(template: Template, name: str) -> str | None:
    queries = dict(queries_of(Stack(template, {"ScaleIn": "idle"}))).get(name, [])
    return next((query["Expression"] for query in queries if "Expression" in query), None)


def _of_query(template: Template, name: str, query_id: str) -> tuple[str, str] | None:
    for query in dict(queries_of(Stack(template))).get(name, []):
        if query["Id"] == query_id:
            return query["MetricStat"]["Metric"]["MetricName"], query["MetricStat"]["Stat"]
    return None

"""How workers follow the backlog, to and from zero."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import inf

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
    # visible, in flight, empty receives, running → tasks per worker
    cases = [
        (([300.0], [100.0], [0.0], [4.0]), 100.0),  # what runs counts, else busy workers would be stopped
        (([0.0], [40.0], [None], [4.0]), 10.0),
        (([0.0], [0.0], [9.0], [4.0]), 0.0),
        (([300.0, 300.0], [None, None], [1.0, 1.0], [3.0, None]), 100.0),  # a late count of workers is not zero workers
    ]
    for values, wanted in cases:
        found = evaluate(expression, dict(zip(("visible", "inflight", "asked", "running"), values, strict=True)))[-1]
        if found != wanted:
            yield f"{values}: {found}, not {wanted}"
    # Asleep: neither above the target nor below nine tenths of it, or what is woken would be stopped for the last hour.
    tracking = Stack(template).properties("WorkerTracking")["TargetTrackingScalingPolicyConfiguration"]
    asleep = {"visible": [0.0], "inflight": [0.0], "asked": [None], "running": [1.0]}
    neutral = evaluate(expression, asleep)[-1]
    if neutral is None or not 0.9 * tracking["TargetValue"] < neutral < tracking["TargetValue"]:
        yield f"while nobody is there: {neutral}"
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
    a_worker_s = int(stack.parameters["BacklogPerWorker"])
    # visible, in flight, received, empty receives → workers needed
    cases = [
        ((1.0, 0.0, 0.0, 0.0), 1),
        ((1.0, None, None, None), 1),
        ((a_worker_s * 3.5, 0.0, 0.0, 0.0), 4),
        ((0.0, 0.0, 0.0, 0.0), 0),
        ((1.0, 0.0, 0.0, 3.0), 0),  # a worker is listening
        ((1.0, 2.0, 0.0, 0.0), 0),  # a worker is busy
        ((1.0, 0.0, 1.0, 0.0), 0),
    ]
    for (visible, inflight, taken, asked), wanted in cases:
        values = {"visible": [visible], "inflight": [inflight], "taken": [taken], "asked": [asked]}
        found = evaluate(expression, values)[-1] if expression else None
        if found != wanted or alarm["Threshold"] != 1:
            yield f"{values}: {found}"
    if alarm["ComparisonOperator"] != "GreaterThanOrEqualToThreshold":
        yield "one message would not be enough"
    step = stack.properties("WorkerWake")["StepScalingPolicyConfiguration"]
    if step["AdjustmentType"] != "ChangeInCapacity" or any(s["ScalingAdjustment"] < 1 for s in step["StepAdjustments"]):
        yield "waking must only ever add workers"
    for needed in (*range(1, 7), 8, 40):
        if (added := _added(step["StepAdjustments"], needed - alarm["Threshold"])) != min(needed, 16):
            yield f"{needed} are needed: {added} come"
    if any(later < earlier for earlier, later in pairwise(_added(step["StepAdjustments"], n) for n in range(99))):
        yield "more backlog wakes fewer workers"


@rule
def the_bridge_may_wake_workers_and_do_nothing_else_to_them(template: Template) -> Iterator[str]:
    for stack in variants(template):
        name = stack.properties("WorkerWakeAlarm")["AlarmName"]
        (container,) = stack.properties("BridgeTask")["ContainerDefinitions"]
        environ = {entry["Name"]: entry["Value"] for entry in container["Environment"]}
        if environ.get("WAKE_ALARM") != name:
            yield f"the bridge sets {environ.get('WAKE_ALARM')}, not {name}"
        if environ.get("BACKLOG_PER_WORKER") != stack.parameters["BacklogPerWorker"]:
            yield "the bridge and the target have other ideas of a worker's share"
        partition = stack.pseudo["AWS::Partition"]
        arn = f"arn:{partition}:cloudwatch:{stack.pseudo['AWS::Region']}:123456789012:alarm:{name}"
        granted = [
            (grant.action, grant.resources)
            for grant in grants(stack, "BridgeRole")
            if grant.action.partition(":")[0] in ("cloudwatch", "ecs", "application-autoscaling")
        ]
        if granted != [("cloudwatch:SetAlarmState", (arn,))]:
            yield f"the bridge may {granted}"


def _added(adjustments: Sequence[Mapping[str, float]], above: float) -> float:
    """What a step scaling policy adds for a metric so far above the alarm's threshold."""
    for step in adjustments:
        if step.get("MetricIntervalLowerBound", -inf) <= above < step.get("MetricIntervalUpperBound", inf):
            return step["ScalingAdjustment"]
    return 0


@rule
def nothing_stops_the_workers_that_the_bridge_wakes(template: Template) -> Iterator[str]:
    """The action of an alarm is taken each minute, and the metrics do not know of the upload for two more."""
    expression = _expression(template, "WorkerRestAlarm") or ""
    alarm = Stack(template).properties("WorkerRestAlarm")
    found = evaluate(expression, {"visible": [0.0], "inflight": [0.0], "asked": [None]})[-1]
    if found is None or found < alarm["Threshold"]:
        yield f"the rest alarm acts while no worker asks for work: {found}"


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
        found = evaluate(expression, {"visible": [visible], "inflight": [inflight], "asked": [3.0]})[-1]
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

"""Alarms that say what to do, and Flower out of the public's reach."""

from __future__ import annotations

import re
from collections.abc import Iterator

from benchmarks.metric_math import evaluate
from tests.stack.rules.base import Template, rule, variants
from tests.stack.template import FOLDER, Stack


@rule
def alarms_say_what_to_do(template: Template) -> Iterator[str]:
    runbook = (FOLDER.parent / "docs" / "runbook.md").read_text(encoding="utf-8")
    entries = {_anchor(line) for line in runbook.splitlines() if line.startswith("## ")}
    stack = Stack(template)
    for name, alarm in stack.resources("AWS::CloudWatch::Alarm").items():
        text = alarm["Properties"].get("AlarmDescription", "")
        if alarm["Properties"]["AlarmActions"] != ["arn:aws:sns:us-east-1:123456789012:photos-alarms"]:
            if not text.startswith("Not a fault."):
                yield f"{name} tells nobody, and does not say that it is only for scaling"
            continue
        link = re.search(r"docs/runbook\.md#([a-z-]+)$", text)
        if "Do:" not in text or link is None:
            yield f"{name} does not say what to do"
        elif link[1] not in entries:
            yield f"{name}: docs/runbook.md has no entry {link[1]}"


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", heading.removeprefix("## ").lower()).strip().replace(" ", "-")


@rule
def what_matters_has_an_alarm(template: Template) -> Iterator[str]:
    stack = Stack(template)
    watched = {
        (
            alarm["Properties"].get("MetricName"),
            *(entry["Value"] for entry in alarm["Properties"].get("Dimensions", [])),
        )
        for alarm in stack.resources("AWS::CloudWatch::Alarm").values()
        if alarm["Properties"]["AlarmActions"] == ["arn:aws:sns:us-east-1:123456789012:photos-alarms"]
    }
    wanted = {
        ("ApproximateNumberOfMessagesVisible", "photos-events-dlq"): "dead events",
        ("ApproximateNumberOfMessagesVisible", "photos-tasks-dlq"): "dead tasks",
        ("ApproximateAgeOfOldestMessage", "photos-events"): "events that wait",
        ("ApproximateAgeOfOldestMessage", "photos-tasks"): "tasks that wait",
        ("CPUUtilization", "photos", "worker"): "workers at the maximum",
        ("CPUUtilization", "photos", "bridge"): "no bridge",
        ("FailureRecords",): "failures",
    }
    for metric, what in wanted.items():
        if metric not in watched:
            yield f"nothing tells of {what}"
    bridge = stack.properties("BridgeAlarm")
    if bridge["TreatMissingData"] != "breaching" or bridge["ComparisonOperator"] != "LessThanThreshold":
        yield "a bridge that does not run sends no metric: missing data must count"


@rule
def workers_that_can_not_start_are_told(template: Template) -> Iterator[str]:
    """Image gone, quota, no Spot, no addresses: tasks would wait for seven days, and vanish."""
    stack = Stack(template)
    alarm = stack.resources("AWS::CloudWatch::Alarm").get("NoWorkersAlarm", {}).get("Properties")
    if alarm is None:
        yield "nothing tells that workers do not start"
        return
    (expression,) = (query["Expression"] for query in alarm["Metrics"] if "Expression" in query)
    # visible, in flight, received → told
    cases = [
        ((5.0, None, None), True),
        ((1.0, 0.0, 0.0), True),
        ((5.0, 0.0, 7.0), False),
        ((5.0, 2.0, 0.0), False),  # long tasks run
        ((0.0, 0.0, 0.0), False),
    ]
    for (visible, inflight, taken), told in cases:
        found = evaluate(expression, {"visible": [visible], "inflight": [inflight], "taken": [taken]})[-1]
        if (found is not None and found >= alarm["Threshold"]) != told:
            yield f"{visible} waiting, {inflight} held, {taken} taken: {found}"
    if alarm["EvaluationPeriods"] != 15 or any(
        query["MetricStat"]["Period"] != 60 for query in alarm["Metrics"] if "MetricStat" in query
    ):
        yield "a first worker needs some minutes; more than a quarter of an hour is too long"
    if alarm["ComparisonOperator"] != "GreaterThanOrEqualToThreshold":
        yield "one task would not be enough"


@rule
def flower_is_not_public(template: Template) -> Iterator[str]:
    plain, balanced = Stack(template), variants(template)[3]
    for stack in (plain, balanced):
        for name, group in stack.resources("AWS::EC2::SecurityGroup").items():
            for entry in group["Properties"].get("SecurityGroupIngress", []):
                if entry.get("SourceSecurityGroupId") != "sg-1":
                    yield f"{name} lets {entry} in"
        (container,) = stack.properties("FlowerTask")["ContainerDefinitions"]
        secrets = {secret["Name"]: secret["ValueFrom"] for secret in container.get("Secrets", [])}
        if secrets != {"FLOWER_BASIC_AUTH": "FlowerSecret"}:
            yield "Flower has no password"
    groups = [
        stack.properties("FlowerService")["NetworkConfiguration"]["AwsvpcConfiguration"]["SecurityGroups"]
        for stack in (plain, balanced)
    ]
    if groups != [["SecurityGroup"], ["FlowerSecurityGroup"]]:
        yield f"Flower is reached through {groups}"
    if "FlowerPortForward" not in template["Outputs"]:
        yield "nobody is told how to reach Flower"
    if "FlowerBehindItsBalancer" not in template.get("Rules", {}):
        yield "half a load balancer is not refused"

"""Alarms that say what to do, and Flower out of the public's reach."""

from __future__ import annotations

import re
from collections.abc import Iterator

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

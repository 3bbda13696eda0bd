"""Every metric and expression that scaling, alarms and the dashboard read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from benchmarks.metric_math import ExpressionError, evaluate, names
from tests.stack.rules.base import Template, rule, variants
from tests.stack.template import Stack

#: Metrics that AWS publishes, and the dimensions that they are published under. Sources:
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
#: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/available-metrics.html
_SQS_METRICS = {
    "ApproximateAgeOfOldestMessage",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesVisible",
    "NumberOfEmptyReceives",
    "NumberOfMessagesDeleted",
    "NumberOfMessagesReceived",
    "NumberOfMessagesSent",
}
_ECS_METRICS = {"CPUUtilization", "MemoryUtilization"}


@rule
def minimum_is_below_maximum(template: Template) -> Iterator[str]:
    for stack in variants(template):
        for name, target in stack.resources("AWS::ApplicationAutoScaling::ScalableTarget").items():
            low, high = (int(target["Properties"][bound]) for bound in ("MinCapacity", "MaxCapacity"))
            if low > high:
                yield f"{name}: {low} to {high}"
            service = target["Properties"]["ResourceId"]
            if service not in _scalable(stack):
                yield f"{name} scales {service}"


def _scalable(stack: Stack) -> set[str]:
    """Services whose names and cluster are as in their own resources; a name is unique in its cluster only."""
    prefix = "photos-" if stack.parameters["ExistingCluster"] else ""
    cluster = stack.parameters["ExistingCluster"] or "photos"
    return {f"service/{cluster}/{prefix}{name}" for name in ("worker", "bridge")}


@rule
def queries_name_metrics_that_exist(template: Template) -> Iterator[str]:
    for stack in variants(template):
        queues = {queue["Properties"]["QueueName"] for queue in stack.resources("AWS::SQS::Queue").values()}
        services = {service["Properties"]["ServiceName"] for service in stack.resources("AWS::ECS::Service").values()}
        own = {
            transformation["MetricName"]
            for metric_filter in stack.resources("AWS::Logs::MetricFilter").values()
            for transformation in metric_filter["Properties"]["MetricTransformations"]
        }
        for where, metric in _metrics(stack):
            dimensions = {entry["Name"]: entry["Value"] for entry in metric.get("Dimensions", [])}
            match metric["Namespace"]:
                case "AWS/SQS":
                    known = metric["MetricName"] in _SQS_METRICS and set(dimensions) == {"QueueName"}
                    known = known and dimensions["QueueName"] in queues
                case "AWS/ECS":
                    known = metric["MetricName"] in _ECS_METRICS and set(dimensions) == {"ClusterName", "ServiceName"}
                    cluster = stack.parameters["ExistingCluster"] or "photos"
                    known = known and dimensions["ClusterName"] == cluster and dimensions["ServiceName"] in services
                case "photos":
                    known = metric["MetricName"] in own and not dimensions
                case _:
                    known = False
            if not known:
                yield f"{where}: nobody publishes {metric}"


def _metrics(stack: Stack) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every metric that a scaling policy, an alarm or the dashboard reads."""
    for name, queries in queries_of(stack):
        yield from ((name, query["MetricStat"]["Metric"]) for query in queries if "MetricStat" in query)
    for name, alarm in stack.resources("AWS::CloudWatch::Alarm").items():
        if "MetricName" in alarm["Properties"]:
            yield name, alarm["Properties"]
    for name, dashboard in stack.resources("AWS::CloudWatch::Dashboard").items():
        for widget in json.loads(dashboard["Properties"]["DashboardBody"])["widgets"]:
            yield from ((name, metric) for metric in _drawn(widget["properties"]["metrics"]))


def _drawn(rows: list[list[Any]]) -> Iterator[dict[str, Any]]:
    """A widget's metrics, with its shorthand ("." and "..." repeat the row above) written out."""
    above: list[str] = []
    for row in rows:
        words = [word for word in row if isinstance(word, str)]
        if words[0] == "...":
            words = above[: len(above) - (len(words) - 1)] + words[1:]
        words = [above[place] if word == "." else word for place, word in enumerate(words)]
        above = words
        pairs = zip(words[2::2], words[3::2], strict=True)
        dimensions = [{"Name": name, "Value": value} for name, value in pairs]
        yield {"Namespace": words[0], "MetricName": words[1], "Dimensions": dimensions}


def queries_of(stack: Stack) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Every set of queries that an expression is computed from."""
    for name, policy in stack.resources("AWS::ApplicationAutoScaling::ScalingPolicy").items():
        tracking = policy["Properties"].get("TargetTrackingScalingPolicyConfiguration")
        if tracking is not None:
            yield name, tracking.get("CustomizedMetricSpecification", {}).get("Metrics", [])
    for name, alarm in stack.resources("AWS::CloudWatch::Alarm").items():
        if "Metrics" in alarm["Properties"]:
            yield name, alarm["Properties"]["Metrics"]


@rule
def expressions_can_be_computed(template: Template) -> Iterator[str]:
    for stack in variants(template):
        for name, policy in stack.resources("AWS::ApplicationAutoScaling::ScalingPolicy").items():
            tracking = policy["Properties"].get("TargetTrackingScalingPolicyConfiguration", {})
            specification = tracking.get("CustomizedMetricSpecification", {})
            if {"MetricName", "Namespace", "Statistic"} & set(specification):
                yield f"{name}: a metric of its own beside Metrics"
        for name, queries in queries_of(stack):
            if [query.get("ReturnData", True) for query in queries].count(True) != 1:
                yield f"{name}: exactly one query must return data"
            measured = {query["Id"] for query in queries if "MetricStat" in query}
            expressions = [query["Expression"] for query in queries if "Expression" in query]
            try:
                used = set().union(*(names(expression) for expression in expressions))
                for expression in expressions:
                    evaluate(expression, {metric: [1.0] for metric in measured})
            except ExpressionError as exc:
                yield f"{name}: {exc}"
                continue
            if used != measured:
                yield f"{name}: measured but not used, or the reverse: {sorted(used ^ measured)}"

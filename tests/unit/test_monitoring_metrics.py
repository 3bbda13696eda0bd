"""Embedded metrics: what CloudWatch reads out of a log line."""

from __future__ import annotations

import io
import json
from typing import Any

from pipeline.core.task_result import FACTS
from pipeline.sqs.monitoring.metrics import MAX_VALUES, EmbeddedMetrics


def lines(metrics: EmbeddedMetrics) -> list[dict[str, Any]]:
    assert isinstance(metrics.out, io.StringIO)
    return [json.loads(line) for line in metrics.out.getvalue().splitlines()]


def make() -> EmbeddedMetrics:
    return EmbeddedMetrics("Pipeline", FACTS.numbers, out=io.StringIO())


def done(**values: float) -> dict[str, Any]:
    return {"type": "task-succeeded", "name": "tasks.resize", "outcome": "done", **values}


def test_a_line_has_its_metrics_as_the_specification_says() -> None:
    metrics = make()
    metrics.add(done(runtime=0.5, bytes_in=100, bytes_out=10, pixels_in=12))
    metrics.add(done(runtime=0.25, bytes_in=200, bytes_out=20, pixels_in=24))
    metrics.flush(now=True)
    (line,) = lines(metrics)
    assert isinstance(line.pop("_aws")["Timestamp"], int)
    assert line == {
        "Task": "tasks.resize",
        "Outcome": "done",
        "Tasks": 2,
        "RunTime": [0.5, 0.25],
        "BytesIn": [100, 200],
        "BytesOut": [10, 20],
        "PixelsIn": [12, 24],
    }


def test_every_metric_and_dimension_that_a_directive_names_is_a_field_of_the_line() -> None:
    metrics = make()
    metrics.add(done(runtime=0.5, bytes_in=1))
    metrics.add({"type": "task-failed", "name": "tasks.resize", "outcome": "failed", "reason": "truncated"})
    metrics.flush(now=True)
    for line in lines(metrics):
        for directive in line["_aws"]["CloudWatchMetrics"]:
            assert directive["Namespace"] == "Pipeline"
            assert directive["Metrics"]
            for metric in directive["Metrics"]:
                assert metric["Name"] in line
            for dimensions in directive["Dimensions"]:
                assert all(isinstance(line[dimension], str) for dimension in dimensions)


def test_outcomes_and_reasons_are_counted_apart() -> None:
    metrics = make()
    for reason in ("truncated", "truncated", "too-large"):
        metrics.add({"type": "task-failed", "name": "tasks.resize", "outcome": "failed", "reason": reason})
    metrics.add(done())
    metrics.flush(now=True)
    counts = {(line["Outcome"], line.get("Reason")): line["Tasks"] for line in lines(metrics)}
    assert counts == {("failed", "truncated"): 2, ("failed", "too-large"): 1, ("done", None): 1}


def test_no_array_is_longer_than_cloudwatch_takes_and_none_is_lost() -> None:
    metrics = make()
    for number in range(2 * MAX_VALUES + 1):
        metrics.add(done(runtime=number))
    metrics.flush(now=True)
    arrays = [line["RunTime"] for line in lines(metrics)]
    assert [len(array) for array in arrays] == [MAX_VALUES, MAX_VALUES, 1]
    assert [value for array in arrays for value in array] == list(range(2 * MAX_VALUES + 1))
    assert sum(line["Tasks"] for line in lines(metrics)) == 2 * MAX_VALUES + 1


def test_lines_are_written_once_an_interval_only() -> None:
    metrics = make()
    metrics.add(done())
    metrics.flush()
    assert lines(metrics) == []
    metrics.flush(now=True)
    metrics.flush(now=True)
    assert len(lines(metrics)) == 1

"""Metrics of the tasks in CloudWatch's embedded metric format: JSON lines that CloudWatch Logs reads.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

from pipeline.sqs.installation import Number

#: Counted for every task whose event has its run time.
RUN_TIME = Number("RunTime", "Seconds", "", "")
#: The specification's limit of values in one array.
MAX_VALUES = 100


@dataclass(slots=True)
class EmbeddedMetrics:
    """Gathers the ends of tasks and writes a line for each (task, outcome, reason), at most once an interval.

    ``out``: the stream that the container's log driver reads; None: the process's real standard output, which Celery
    does not redirect.
    """

    namespace: str
    numbers: Mapping[str, Number] = field(default_factory=dict)  # in addition to the run time, by the event's field
    interval_s: float = 15
    out: TextIO | None = None
    _ends: dict[tuple[str, str, str], list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    _written: float = field(default_factory=time.monotonic)

    def add(self, event: dict[str, Any]) -> None:
        """Counts a shaped event that ends a task."""
        self._ends[str(event.get("name")), event["outcome"], event.get("reason", "")].append(
            {name: event[name] for name in self._values() if event.get(name) is not None}
        )

    def _values(self) -> dict[str, Number]:
        return {"runtime": RUN_TIME, **self.numbers}

    def flush(self, *, now: bool = False) -> None:
        if self._ends and (now or time.monotonic() - self._written >= self.interval_s):
            out = sys.__stdout__ if self.out is None else self.out
            if out is not None:
                # One write for all lines, so that two processes can't mix theirs.
                out.write("".join(json.dumps(line) + "\n" for line in self._lines()))
                out.flush()
            self._ends.clear()
            self._written = time.monotonic()

    def _lines(self) -> Iterator[dict[str, Any]]:
        for (task, outcome, reason), ends in self._ends.items():
            for start in range(0, len(ends), MAX_VALUES):
                yield self._line(task, outcome, reason, ends[start : start + MAX_VALUES])

    def _line(self, task: str, outcome: str, reason: str, ends: list[dict[str, Any]]) -> dict[str, Any]:
        counted = [["Task", "Outcome"], *([["Task", "Outcome", "Reason"]] if reason else [])]
        directives: list[dict[str, Any]] = [
            {"Namespace": self.namespace, "Dimensions": counted, "Metrics": [{"Name": "Tasks", "Unit": "Count"}]}
        ]
        columns = {number: [end[name] for end in ends if name in end] for name, number in self._values().items()}
        measured = {(number.metric, number.unit): values for number, values in columns.items() if values}
        if measured:
            directives.append(
                {
                    "Namespace": self.namespace,
                    "Dimensions": [["Task"]],
                    "Metrics": [{"Name": name, "Unit": unit} for name, unit in measured],
                }
            )
        return {
            "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": directives},
            "Task": task,
            "Outcome": outcome,
            **({"Reason": reason} if reason else {}),
            "Tasks": len(ends),
            **{name: values for (name, _), values in measured.items()},
        }

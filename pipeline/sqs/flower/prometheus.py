"""Metrics of the tasks at Flower's ``/metrics``, next to Flower's own."""

from __future__ import annotations

from typing import Any

from flower.events import PrometheusMetrics
from prometheus_client import Counter, Histogram

from pipeline.sqs.installation import Installation
from pipeline.sqs.monitoring.task_result import OUTCOMES

#: Buckets in seconds, from a small thumbnail to the soft time limit.
BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)


def metrics_class(installed: Installation) -> type[PrometheusMetrics]:
    """Returns the class that counts workers' events. Flower creates one instance when it starts."""
    prefix = installed.metric_prefix

    class TaskMetrics(PrometheusMetrics):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self._tasks = Counter(f"{prefix}_tasks", "Ends of tasks", ["task", "outcome", "reason"])
            self._seconds = Histogram(f"{prefix}_task_seconds", "Run time of done tasks", ["task"], buckets=BUCKETS)
            self._numbers = {
                field: Counter(f"{prefix}_{number.counter}", number.help, ["task"])
                for field, number in installed.results.numbers.items()
            }

        def observe_task(self, worker: str, event: dict[str, Any], task: Any) -> None:
            super().observe_task(worker, event, task)
            if event["type"] not in OUTCOMES:
                return
            name = event.get("name") or task.name or ""
            self._tasks.labels(name, event.get("outcome", OUTCOMES[event["type"]]), event.get("reason", "")).inc()
            if event.get("runtime") is not None:
                self._seconds.labels(name).observe(event["runtime"])
            for field, counter in self._numbers.items():
                counter.labels(name).inc(event.get(field, 0))

    return TaskMetrics

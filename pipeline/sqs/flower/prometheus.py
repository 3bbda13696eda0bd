"""Metrics of the pipeline at Flower's ``/metrics``, next to Flower's own."""

from __future__ import annotations

from typing import Any

from flower.events import PrometheusMetrics
from prometheus_client import Counter, Histogram

from pipeline.sqs.monitoring.task_result import OUTCOMES

#: Seconds; from a small thumbnail to the soft time limit.
BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)


class PipelineMetrics(PrometheusMetrics):
    """Counted from the events that workers send, so each Flower counts all that it has seen since it started."""

    def __init__(self) -> None:
        super().__init__()
        self._tasks = Counter("pipeline_tasks", "Ends of tasks", ["task", "outcome", "reason"])
        self._seconds = Histogram("pipeline_task_seconds", "Run time of done tasks", ["task"], buckets=BUCKETS)
        self._numbers = {
            "bytes_in": Counter("pipeline_read_bytes", "Bytes of the images that were read", ["task"]),
            "bytes_out": Counter("pipeline_written_bytes", "Bytes of the renditions that were made", ["task"]),
            "pixels_in": Counter("pipeline_read_pixels", "Pixels of the images that were read", ["task"]),
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

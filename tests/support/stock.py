"""Celery on SQS as it comes, for comparison: kombu's own transport, Celery's own consumer and shutdown."""

from __future__ import annotations

from typing import Any


def make_stock(app: Any) -> Any:
    app.conf.update(
        broker_transport=None,
        worker_consumer="celery.worker.consumer:Consumer",
        task_publish_retry=True,
        broker_transport_options={
            name: value
            for name, value in app.conf.broker_transport_options.items()
            if name in ("queue_name_prefix", "wait_time_seconds", "polling_interval")
        },
    )
    app.steps["worker"].clear()
    app.steps["consumer"].clear()
    return app

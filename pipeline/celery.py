"""The Celery app and its safe defaults."""

from __future__ import annotations

import gc
import logging
import os
from pathlib import Path
from typing import Any

from celery import Celery, signals
from kombu import Queue

from pipeline.aws.queues import TASKS_QUEUE
from pipeline.core import log
from pipeline.core.routes import Routes
from pipeline.core.settings import Settings, renamed_in_use
from pipeline.sqs.monitoring.names import topics

#: What the broker layer adds to a worker and to its consumer; loaded by workers only.
WORKER_STEPS = (
    "pipeline.sqs.worker.startup:Proofs",
    "pipeline.sqs.worker.startup:RouteCheck",
    "pipeline.sqs.worker.heartbeat:HeartbeatStep",
    "pipeline.sqs.worker.scale_in_protection:ScaleInProtectionStep",
    "pipeline.sqs.worker.shutdown:GracefulShutdown",
)
CONSUMER_STEPS = ("pipeline.sqs.worker.startup:DeadLetterCheck",)


def celery_config(settings: Settings) -> dict[str, Any]:
    return {
        "broker_url": "sqs://",
        "broker_transport": "pipeline.sqs.transport.transport:Transport",
        "broker_transport_options": {
            "queue_name_prefix": settings.queue_prefix,
            "wait_time_seconds": settings.poll_wait_s,
            "polling_interval": 0,  # the long poll is the wait
            "body_encoding": "utf-8",  # as it is, not base64
            "sqs_base64_encoding": False,
            "predefined_exchanges": topics(settings),
            "control_queue_ttl_s": settings.control_queue_ttl_s,
            "visibility_timeout_s": settings.message_visibility_timeout_s,
            "stalled_after_s": settings.hard_time_limit_s + settings.message_visibility_timeout_s,
            "prefetch_s": settings.prefetch_s,
        },
        "broker_connection_retry_on_startup": True,
        "imports": ("tasks.renditions", "pipeline.sqs.monitoring.commands"),
        **_result_backend(settings.result_backend),
        "task_queues": (Queue(TASKS_QUEUE),),
        "task_default_queue": TASKS_QUEUE,
        "task_create_missing_queues": False,
        "task_publish_retry": False,  # the transport's client tries again by itself
        # JSON only, on the wire and in results.
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        # A message is acknowledged when its work is safe, and comes back when a process is lost.
        "task_acks_late": True,
        "task_acks_on_failure": False,  # pipeline.sqs.settled says what a failure needs to be acknowledged
        "task_acks_on_timeout": False,
        "task_reject_on_worker_lost": True,
        "worker_consumer": "pipeline.sqs.worker.consumer:Consumer",
        "worker_prefetch_multiplier": 1,  # the transport prefetches on top of it
        "worker_lost_wait": 2.0,  # seconds for a result that a lost process may still have sent
        "task_soft_time_limit": settings.soft_time_limit_s,
        "task_time_limit": settings.hard_time_limit_s,
        "task_store_errors_even_if_ignored": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        # Monitoring.
        "worker_enable_remote_control": settings.topic_arn_prefix is not None,
        "worker_pool_restarts": True,
        "worker_send_task_events": settings.events == "all",
    }


def _result_backend(url: str | None) -> dict[str, Any]:
    """Celery's own backends by URL; its S3 backend, which has no URL form, as ``s3://bucket/prefix``."""
    if url is None or not url.startswith("s3://"):
        return {"result_backend": url}
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return {"result_backend": "s3", "s3_bucket": bucket, "s3_base_path": prefix}


class PipelineApp(Celery):
    """A Celery app that knows the pipeline's settings; tasks read them as ``self.app.settings``."""

    settings: Settings
    _routes: Routes | None = None

    @property
    def routes(self) -> Routes:
        """What is processed by which tasks; loaded when first asked for. Raises ``ConfigError``."""
        if self._routes is None or self._routes.settings is not self.settings:
            self._routes = Routes.load(self.settings)
        return self._routes

    def send_task(self, name: str, *args: Any, **options: Any) -> Any:
        """Without declaring the queue first: a queue is found or it is an error, and asking costs a request."""
        options.setdefault("declare", [])
        return super().send_task(name, *args, **options)

    def producer_or_acquire(self, producer: Any = None) -> Any:
        """Inside ``batched(app)`` everything goes through the batch's producer."""
        from pipeline.sqs.transport.publishing import active_producer

        return super().producer_or_acquire(active_producer(self) if producer is None else producer)


def make_app(settings: Settings | None = None) -> PipelineApp:
    """A configured app. Reads the environment when no settings are given; raises ``ConfigError``."""
    app = PipelineApp(
        "pipeline", events="pipeline.sqs.monitoring.events:Events", control="pipeline.sqs.monitoring.control:Control"
    )
    app.settings = Settings.from_env() if settings is None else settings
    app.conf.update(celery_config(app.settings))
    app.steps["worker"].update(WORKER_STEPS)
    app.steps["consumer"].update(CONSUMER_STEPS)
    return app


app = make_app()

# What `celery -A pipeline flower` reads, wherever it is started: without it, Flower would listen on all addresses.
os.environ.setdefault("FLOWER_CONF", str(Path(__file__).with_name("sqs") / "flower" / "flowerconfig.py"))


@signals.setup_logging.connect  # a receiver here keeps Celery from configuring logging itself
def _setup_logging(loglevel: int | None = None, **_: object) -> None:
    log.setup(logging.INFO if loglevel is None else loglevel)
    for sentence in renamed_in_use():
        logging.getLogger(__name__).warning("%s", sentence, extra={"action": "setting_renamed"})


@signals.worker_init.connect  # the tasks are loaded, and the pool's processes are not forked yet
def _keep_what_is_loaded(**_: object) -> None:
    """The collector never looks at it again: neither before each fork, as Celery asks for, nor in the processes.

    What it does not touch, the processes share.
    """
    gc.freeze()
    gc.enable()  # `pipeline.worker` starts without


@signals.worker_ready.connect
def _say_what_is_off(**_: object) -> None:
    if app.settings.topic_arn_prefix is None:
        logging.getLogger(__name__).warning(
            "events and remote control are off: TOPIC_ARN_PREFIX is not set", extra={"action": "monitoring-off"}
        )

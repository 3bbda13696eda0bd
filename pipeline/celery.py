"""The Celery app and its safe defaults.

Importing it changes nothing of the program that does: neither its current app nor its logging, signals, environment
or garbage collector. What has effects belongs to Celery's commands, where they run for this app (``run_as_command``).
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import click
from celery import Celery
from celery.app.backends import by_url
from celery.exceptions import ImproperlyConfigured
from celery.loaders.app import AppLoader
from kombu import Queue
from kombu.utils.imports import symbol_by_name

from pipeline.core.errors import ConfigError
from pipeline.core.queue_names import TASKS_QUEUE
from pipeline.core.routes import Routes
from pipeline.core.settings import Settings
from pipeline.s3 import content
from pipeline.sqs.monitoring.names import topics

#: What the broker layer adds to a worker and to its consumer; loaded by workers only.
WORKER_STEPS = (
    "pipeline.sqs.worker.startup:Proofs",
    "pipeline.sqs.worker.own_process:NoBanner",
    "pipeline.sqs.worker.command:PrintedStep",
    "pipeline.sqs.worker.own_process:CollectorStep",
    "pipeline.sqs.worker.own_process:MonitoringNotice",
    "pipeline.sqs.worker.startup:RouteCheck",
    "pipeline.sqs.worker.heartbeat:HeartbeatStep",
    "pipeline.sqs.worker.scale_in_protection:ScaleInProtectionStep",
    "pipeline.sqs.worker.outage:GateStep",
    "pipeline.sqs.worker.shutdown:GracefulShutdown",
)
CONSUMER_STEPS = ("pipeline.sqs.worker.startup:DeadLetterCheck", "pipeline.sqs.worker.outage:GateOfChannel")

#: What Flower reads as its configuration: without it, it would listen on all addresses.
FLOWER_CONF = Path(__file__).with_name("sqs") / "flower" / "flowerconfig.py"


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
            "go_on_in_place": settings.go_on_in_place,
            "max_delay_s": settings.max_delay_days * 86400,
        },
        "broker_connection_retry_on_startup": True,
        "imports": ("tasks.renditions", "tasks.routing", "pipeline.sqs.monitoring.commands"),
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
    if url is None:
        return {"result_backend": None}
    if not url.startswith("s3://"):
        _check_backend(url)
        return {"result_backend": url}
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return {"result_backend": "s3", "s3_bucket": bucket, "s3_base_path": prefix}


def _check_backend(url: str) -> None:
    """Raises ``ConfigError`` for what Celery has no backend for; else Celery says so where a task is enqueued."""
    try:
        by_url(url, AppLoader(None))
    except (ImproperlyConfigured, ImportError) as exc:
        raise ConfigError(
            f"RESULT_BACKEND={url}: Celery has no such result backend ({exc}): s3://bucket/prefix is one, others are "
            "in Celery's documentation"
        ) from exc


class PipelineApp(Celery):
    """A Celery app that knows the pipeline's settings; tasks read them as ``self.app.settings``."""

    _routes: Routes | None = None

    @cached_property
    def settings(self) -> Settings:
        """Read from the environment when first asked for. Raises ``ConfigError``."""
        return Settings.from_env()

    @cached_property
    def Worker(self) -> Any:  # noqa: N802 - Celery's name for it
        return self.subclass_with_self("pipeline.sqs.worker.command:Worker")

    def on_configure(self) -> None:
        """Celery's: when something of ``conf`` is first asked for. Raises ``ConfigError``."""
        self.add_defaults(celery_config(self.settings))

    @property
    def routes(self) -> Routes:
        """What is processed by which tasks; loaded when first asked for. Raises ``ConfigError``."""
        if self._routes is None or self._routes.settings is not self.settings:
            self._routes = Routes.load(self.settings, content.look)
        return self._routes

    def task(self, *args: Any, **options: Any) -> Any:
        """A task of this app, and not of every other that there is in the process."""
        return super().task(*args, **{"shared": False} | options)

    def send_task(self, name: str, *args: Any, **options: Any) -> Any:
        """Without declaring the queue first: a queue is found or it is an error, and asking costs a request."""
        options.setdefault("declare", [])
        return super().send_task(name, *args, **options)

    def producer_or_acquire(self, producer: Any = None) -> Any:
        """Inside ``batched(app)`` everything goes through the batch's producer."""
        from pipeline.sqs.transport.publishing import active_producer

        return super().producer_or_acquire(active_producer(self) if producer is None else producer)

    def run_as_command(self) -> None:
        """This process is the app's own: ``celery -A pipeline …`` or ``python -m pipeline.worker``."""
        self.set_current()
        self.set_default()
        self._fixups = [symbol_by_name(fixup)(self) for fixup in self.builtin_fixups]


def make_app(settings: Settings | None = None) -> PipelineApp:
    """A configured app. Reads the environment when no settings are given; raises ``ConfigError``."""
    made = _unconfigured()
    made.settings = Settings.from_env() if settings is None else settings
    return made


def _unconfigured() -> PipelineApp:
    made = PipelineApp(
        "pipeline",
        set_as_current=False,
        fixups=[],  # Django's put the current folder on the path, and look at every worker in the process
        events="pipeline.sqs.monitoring.events:Events",
        control="pipeline.sqs.monitoring.control:Control",
        log="pipeline.sqs.worker.own_process:OwnLogging",
    )
    made.steps["worker"].update(WORKER_STEPS)
    made.steps["consumer"].update(CONSUMER_STEPS)
    # An option that nobody gives, on each of Celery's commands where they run for this app: it is how an app is told
    # that one does, and which, before it begins.
    made.user_options["preload"].add(
        click.Option(
            ["--run-as-command"], hidden=True, is_eager=True, expose_value=False, is_flag=True, callback=_begin
        )
    )
    return made


def _begin(context: click.Context, _option: click.Parameter, _given: bool) -> None:
    """One of Celery's commands is about to run. A wrong setting is one line, and the status 2."""
    made = context.obj.app
    try:
        made.run_as_command()
        made.conf.broker_url  # noqa: B018 - reads the settings
    except ConfigError as exc:
        click.echo(f"Error: {exc}", err=True)
        context.exit(2)
    if context.command.name == "flower":
        os.environ.setdefault("FLOWER_CONF", str(FLOWER_CONF))


app = _unconfigured()

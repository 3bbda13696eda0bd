"""The Celery app and its safe defaults.

Importing it changes nothing of the program that does: neither its current app nor its logging, signals, environment
or garbage collector. What has effects belongs to Celery's commands, where they run for this app (``run_as_command``).
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from celery import Celery
from celery.app.backends import by_url
from celery.exceptions import ImproperlyConfigured
from celery.loaders.app import AppLoader
from kombu import Queue
from kombu.utils.imports import symbol_by_name

from pipeline.core.errors import ConfigError
from pipeline.core.queue_names import EVENTS_QUEUE, TASKS_QUEUE
from pipeline.core.routes import Routes
from pipeline.core.settings import Settings
from pipeline.core.task_result import FACTS
from pipeline.s3 import content
from pipeline.s3.shortcut import PATIENCE_S, Shortcut, problem
from pipeline.sqs.installation import OtherQueue
from pipeline.sqs.installing import install

#: What workers of the pipeline have beside the broker layer's.
WORKER_STEPS = (
    "pipeline.worker_process:NoBanner",
    "pipeline.worker_command:PrintedStep",
    "pipeline.worker_process:CollectorStep",
    "pipeline.route_check:RouteCheck",
)
#: Queues of the stack, and of ``python -m pipeline local``, whose messages are no tasks.
OTHER_QUEUES = {
    EVENTS_QUEUE: OtherQueue("it has the events of S3, which the bridge reads", "the bridge"),
    "results": OtherQueue("it has the events of the output bucket"),
}


def celery_config(settings: Settings) -> dict[str, Any]:
    """Beside what the broker layer sets."""
    return {
        "imports": ("tasks.renditions", "tasks.routing"),
        **_result_backend(settings.result_backend),
        "task_queues": (Queue(TASKS_QUEUE),),
        "task_default_queue": TASKS_QUEUE,
        # JSON only, on the wire and in results.
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "task_soft_time_limit": settings.soft_time_limit_s,
        "task_time_limit": settings.hard_time_limit_s,
        "task_store_errors_even_if_ignored": True,
        "worker_hijack_root_logger": False,
        "worker_lost_wait": 2.0,  # seconds for a result that a lost process may still have sent
        "worker_pool_restarts": True,
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
    def shortcut(self) -> Shortcut | None:
        """What reads and writes plain objects in boto3's place, where S3_CLIENT=auto finds that it can."""
        if self.settings.s3_client == "boto3" or problem() is not None:
            return None
        between_limits_s = self.settings.hard_time_limit_s - self.settings.soft_time_limit_s
        return Shortcut(min(PATIENCE_S, between_limits_s / 2))

    @cached_property
    def Worker(self) -> Any:  # noqa: N802 - Celery's name for it
        return self.subclass_with_self("pipeline.worker_command:Worker")

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
        log="pipeline.worker_process:OwnLogging",
    )
    install(
        made,
        lambda: made.settings,
        results=FACTS,
        other_queues=OTHER_QUEUES,
        dead_letters_hint="python -m pipeline deadletters",
        metric_prefix="pipeline",
        flower_pages="pipeline.operations.flower.pages:pages",  # which import from layers above: by name
        begin=PipelineApp.run_as_command,
    )
    made.steps["worker"].update(WORKER_STEPS)
    return made


app = _unconfigured()

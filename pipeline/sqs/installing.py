"""``install(app, …)``: puts a Celery app on this broker layer, the pipeline's own app like any other.

It changes only that app: other apps in the process, and the process's logging, signals and environment, stay as they
are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
from celery._state import get_current_task
from celery.exceptions import QueueNotFound

from pipeline.aws.plain_errors import ConfigError, PlainError
from pipeline.sqs import forking
from pipeline.sqs.installation import Installation, OtherQueue, ResultFacts
from pipeline.sqs.monitoring.names import topics
from pipeline.sqs.settings import BrokerSettings

#: Steps added to a worker and to its consumer; only workers load them.
WORKER_STEPS = (
    "pipeline.sqs.worker.startup:Proofs",
    "pipeline.sqs.worker.startup:PoolCheck",
    "pipeline.sqs.worker.startup:MonitoringNotice",
    "pipeline.sqs.worker.heartbeat:HeartbeatStep",
    "pipeline.sqs.worker.scale_in_protection:ScaleInProtectionStep",
    "pipeline.sqs.worker.outage:GateStep",
    "pipeline.sqs.worker.shutdown:GracefulShutdown",
)
NO_FACTS = ResultFacts()
NONE: Mapping[str, OtherQueue] = MappingProxyType({})
CONSUMER_STEPS = ("pipeline.sqs.worker.startup:DeadLetterCheck", "pipeline.sqs.worker.outage:GateOfChannel")

#: Flower's configuration file: without it, Flower would listen on all addresses.
FLOWER_CONF = Path(__file__).with_name("flower") / "flowerconfig.py"


class UnknownQueue(ConfigError, QueueNotFound):
    """A task was sent to a queue that its app does not know. Celery handles it as its own ``QueueNotFound``."""


def install(
    app: Any,
    settings: Callable[[], BrokerSettings] | None = None,
    *,
    results: ResultFacts = NO_FACTS,
    other_queues: Mapping[str, OtherQueue] = NONE,
    dead_letters_hint: str = "your own tools",
    metric_prefix: str = "celery_sqs",
    flower_pages: str | None = None,
    begin: Callable[[Any], None] = lambda _app: None,
    **values: Any,
) -> None:
    """Makes ``app`` reliable on SQS. Call it before the app publishes anything and before a worker of it starts.

    The queues are the app's ``task_queues``. They must exist in SQS, each with a dead-letter queue.

    - ``values``: the fields of ``BrokerSettings``: ``queue_prefix``, ``topic_arn_prefix``…;
    - ``settings``: instead of ``values``, a function that returns the settings; called each time they are needed;
    - ``results``: what events and metrics report of the tasks' results;
    - ``other_queues``: queues with this prefix that are not for tasks;
    - ``dead_letters_hint``: how to read dead letters, for error messages;
    - ``metric_prefix``: begins the names of Flower's metrics;
    - ``flower_pages``: pages of the app's own in Flower: ``"module:function"``, a function that returns
      ``pipeline.sqs.flower.pages.FlowerPages``;
    - ``begin``: called with the app before one of Celery's commands runs for it.

    Raises ``ConfigError`` if a value is out of bounds, or the app is installed already.
    """
    if isinstance(getattr(app, "sqs", None), Installation):
        raise ConfigError(f"app {app.main}: install() was called for it before")
    if settings is None:
        made = BrokerSettings.made(**values)
        settings = lambda: made  # noqa: E731
    elif values:
        raise ConfigError(f"install() takes either settings or values, and was given {', '.join(sorted(values))} too")
    app.sqs = Installation(settings, results, other_queues, dead_letters_hint, metric_prefix, flower_pages)
    _configure(app)
    app.events_cls = "pipeline.sqs.monitoring.events:Events"
    app.control_cls = "pipeline.sqs.monitoring.control:Control"
    for made_before in ("events", "control"):
        vars(app).pop(made_before, None)
    app.steps["worker"].update(WORKER_STEPS)
    app.steps["consumer"].update(CONSUMER_STEPS)
    app.send_task = _send_task(app)
    app.producer_or_acquire = _producer_or_acquire(app)
    forking.forget_in_children(app)
    # Hidden options on Celery's commands, for their callbacks: nobody passes them. The first callback runs before the
    # command's own options are read and tells the app which command runs; the second runs after them.
    app.user_options["preload"].add(_hidden("--run-as-command", lambda context: _begin(context, begin), is_eager=True))
    app.user_options["worker"].add(_hidden("--check-options", _check_options, is_eager=False))


def broker_config(settings: BrokerSettings) -> dict[str, Any]:
    """The configuration that this layer depends on. It overrides the app's own."""
    return {
        "broker_url": "sqs://",
        "broker_transport": "pipeline.sqs.transport.transport:Transport",
        "broker_connection_retry_on_startup": True,
        "event_serializer": "json",
        "task_create_missing_queues": False,
        "task_publish_retry": False,  # the transport's client tries again by itself
        # A message is acknowledged when its work is safe, and delivered again when a process is lost.
        "task_acks_late": True,
        "task_acks_on_failure": False,  # pipeline.sqs.settled decides which failures are acknowledged
        "task_acks_on_timeout": False,
        "task_reject_on_worker_lost": True,
        "worker_consumer": "pipeline.sqs.worker.consumer:Consumer",
        "worker_prefetch_multiplier": 1,  # the transport prefetches on top of it
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_enable_remote_control": settings.topic_arn_prefix is not None,
        "worker_send_task_events": settings.events == "all",
    }


def transport_options(settings: BrokerSettings, time_limit_s: float | None) -> dict[str, Any]:
    """kombu's transport options. ``time_limit_s``: a task's hard time limit; None: no limit."""
    options = {
        "queue_name_prefix": settings.queue_prefix,
        "wait_time_seconds": settings.poll_wait_s,
        "polling_interval": 0,  # the long poll is the wait
        "body_encoding": "utf-8",  # as it is, not base64
        "sqs_base64_encoding": False,
        "predefined_exchanges": topics(settings),
        "control_queue_ttl_s": settings.control_queue_ttl_s,
        "visibility_timeout_s": settings.message_visibility_timeout_s,
        "prefetch_s": settings.prefetch_s,
        "go_on_in_place": settings.go_on_in_place,
        "max_delay_s": settings.max_delay_days * 86400,
    }
    if time_limit_s is not None:
        options["stalled_after_s"] = time_limit_s + settings.message_visibility_timeout_s
    return options


def _configure(app: Any) -> None:
    def configure(source: Any, **_: Any) -> None:
        settings = app.sqs.settings
        own = source.get("broker_transport_options") or {}
        source.update(
            broker_config(settings),
            broker_transport_options={**own, **transport_options(settings, source.get("task_time_limit"))},
        )

    if app.configured:
        configure(app.conf)
    else:
        app.on_after_configure.connect(lambda sender=None, source=None, **_: configure(source), weak=False)


def _send_task(app: Any) -> Callable[..., Any]:
    send = app.send_task

    def send_task(name: str, *args: Any, **options: Any) -> Any:
        """Celery's, but does not declare the queue first, which would cost a request: a missing queue is an error."""
        forking.load(app)
        if all(queue.exchange is None or queue.exchange.type == "direct" for queue in app.amqp.queues.values()):
            options.setdefault("declare", [])
        try:
            return send(name, *args, **_shown_as_before(args, options))
        except QueueNotFound as exc:
            known = ", ".join(sorted(app.amqp.queues))
            raise UnknownQueue(
                f"{name}: queue {options.get('queue')!r} is none of this app's ({known}): correct it, or add it to "
                "task_queues"
            ) from exc

    return send_task


def _shown_as_before(args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """The options to send with. On a retry they keep the text that represents the task's arguments in logs and events.

    Celery drops that text on a retry, and would show the arguments themselves.
    """
    task = get_current_task()
    request = None if task is None else task.request
    if request is None or request.id is None or request.id != options.get("task_id") or len(args) < 2:
        return options
    kept = dict(options)
    if list(args[0] or ()) == list(request.args or ()) and (shown := request.get("argsrepr")):
        kept.setdefault("argsrepr", shown)
    if dict(args[1] or {}) == dict(request.kwargs or {}) and (shown := request.get("kwargsrepr")):
        kept.setdefault("kwargsrepr", shown)
    return kept


def _producer_or_acquire(app: Any) -> Callable[..., Any]:
    acquire = app.producer_or_acquire

    def producer_or_acquire(producer: Any = None) -> Any:
        """Celery's; inside ``batched(app)`` it returns the batch's producer."""
        from pipeline.sqs.transport.publishing import active_producer

        return acquire(active_producer(app) if producer is None else producer)

    return producer_or_acquire


def _hidden(name: str, call: Callable[[click.Context], None], *, is_eager: bool) -> click.Option:
    """An option whose callback always runs. A ``ConfigError`` is shown as one line, with exit status 2."""

    def run(context: click.Context, _option: click.Parameter, _given: Any) -> None:
        try:
            call(context)
        except PlainError as exc:
            click.echo(f"Error: {exc}", err=True)
            context.exit(2)

    return click.Option([name], hidden=True, is_eager=is_eager, expose_value=False, is_flag=True, callback=run)


def _begin(context: click.Context, begin: Callable[[Any], None]) -> None:
    """Called before one of Celery's commands runs. Raises ``ConfigError`` if a setting is wrong."""
    app = context.obj.app
    app.set_current()
    begin(app)
    app.conf.broker_url  # noqa: B018 - reads the settings
    if context.command.name == "flower":
        os.environ.setdefault("FLOWER_CONF", str(FLOWER_CONF))


def _check_options(context: click.Context) -> None:
    """Checks a worker's options. Raises ``ConfigError`` for an unsupported pool, and for wrong queues of ``-Q``."""
    from pipeline.sqs.worker.pools import check_pool
    from pipeline.sqs.worker.task_queues import check_chosen_queues

    if isinstance(context.params.get("pool"), type):
        check_pool(context.params["pool"])
    if context.params.get("queues"):
        check_chosen_queues(context.obj.app, context.params["queues"])

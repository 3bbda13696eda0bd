"""Sends Celery's events in batches: at most one SNS publish a second per worker, never in the worker's event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery.app import events
from celery.events import event as celery_event
from celery.events.dispatcher import EventDispatcher
from kombu import Producer
from kombu.serialization import dumps

from pipeline.sqs.monitoring.heartbeats import Heartbeats
from pipeline.sqs.monitoring.metrics import EmbeddedMetrics
from pipeline.sqs.monitoring.outbox import Event, Outbox
from pipeline.sqs.monitoring.task_result import OUTCOMES, shape

#: Seconds that a stopping worker spends on sending its last events.
CLOSE_S = 5
#: Tasks whose names are remembered until they end.
MAX_NAMES = 10_000


class Dispatcher(EventDispatcher):
    """Celery's dispatcher, but ``send`` only puts the event into an outbox.

    Every end of a task passes through here, so it also counts the embedded metrics, even if events are not published.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        settings = self.app.sqs.settings
        self._published = settings.events != "off" and settings.topic_arn_prefix is not None
        self._heartbeats = Heartbeats(settings.heartbeat_s, settings.events_interval_s)
        namespace = settings.metrics_namespace
        self._metrics = None if namespace is None else EmbeddedMetrics(namespace, self.app.sqs.results.numbers)
        self._names: dict[str, str] = {}  # only a task's first event has its name
        self._outbox: Outbox | None = None
        self.unsent: list[Event] = []
        super().__init__(*args, **kwargs)

    def send(
        self,
        type: str,
        blind: bool = False,
        utcoffset: object = None,
        retry: bool = False,
        retry_policy: object = None,
        Event: Callable[..., Event] = celery_event.Event,  # noqa: N803
        **fields: Any,
    ) -> None:
        """Accepts an event, which is published within EVENTS_INTERVAL_S. Neither blocks nor raises."""
        if not self.enabled or self._closed:
            return
        if type == "task-received":
            self._remember(fields["uuid"], fields["name"])
        elif type in OUTCOMES:
            known = self._names.pop(fields.get("uuid", ""), None)
            if known is not None:
                fields["name"] = known
        if not self._wanted(type):
            return
        if type.startswith("worker-"):
            self._send_worker_event(self._prepare_event(type, fields, blind=blind, Event=Event))
        else:
            self._box().put(self._prepare_event(type, fields, blind=blind, Event=Event))

    def _send_worker_event(self, event: Event) -> None:
        # Celery sets 2 s, or 5 s when asked; consumers use it to decide when a worker is overdue.
        event["freq"] = self._heartbeats.freq_s(event)
        # The heartbeats that a starting consumer requests have no ``active``.
        periodic = event["type"] == "worker-heartbeat" and "active" in event
        if periodic and not self._heartbeats.is_due(event):
            return
        self._box().put(event, hurry=not periodic)

    def flush(self, errors: bool = True, groups: bool = True) -> None:
        """Nothing to do: the outbox flushes itself."""

    def extend_buffer(self, other: EventDispatcher) -> None:
        """Accepts the unsent events of a dispatcher that closed when its connection was lost."""
        unsent: list[Event] = getattr(other, "unsent", [])
        for event in unsent:
            self._box().put(event)

    def close(self) -> None:
        """Sends what is left, for at most ``CLOSE_S`` seconds."""
        outbox, self._outbox = self._outbox, None
        if outbox is not None:
            self.unsent = outbox.close(CLOSE_S)
        super().close()

    def _wanted(self, type: str) -> bool:
        return self._is_published(type) or (self._metrics is not None and type in OUTCOMES)

    def _is_published(self, type: str) -> bool:
        # The groups change by remote control: enable_events, disable_events.
        return self._published and (not self.groups or celery_event.group_from(type) in self.groups)

    def _remember(self, task_id: str, name: str) -> None:
        if len(self._names) >= MAX_NAMES:
            del self._names[next(iter(self._names))]
        self._names[task_id] = name

    def _box(self) -> Outbox:
        if self._outbox is None:
            self._outbox = Outbox(
                self._open,
                self._prepared,
                interval_s=self.app.sqs.settings.events_interval_s,
                idle=None if self._metrics is None else self._write_metrics,
            )
        return self._outbox

    # --- the outbox's thread runs the following methods ---

    def _prepared(self, event: Event) -> Event | None:
        if "outcome" not in event:  # otherwise it was shaped before a connection was lost
            event = shape(event, self.app.sqs.results)
            if self._metrics is not None and "outcome" in event:
                self._metrics.add(event)
        return event if self._is_published(event["type"]) else None

    @contextmanager
    def _open(self) -> Iterator[Callable[[list[Event]], None]]:
        # A connection of its own: Celery closes the dispatcher's before the last events are sent.
        with self.app.connection_for_write() as connection:
            producer = Producer(connection, exchange=self.exchange, auto_declare=False)

            def deliver(batch: list[Event]) -> None:
                # First in the batch: after worker-offline, a heartbeat would make the worker look alive again.
                passenger = self._heartbeats.passenger(batch)
                content_type, content_encoding, body = dumps(
                    batch if passenger is None else [passenger, *batch], serializer=self.serializer
                )
                producer.publish(
                    body,
                    content_type=content_type,
                    content_encoding=content_encoding,
                    exchange=self.exchange.name,
                    routing_key="task.multi",
                    declare=[self.exchange],
                    headers=dict(self.headers),
                    delivery_mode=self.delivery_mode,
                    compression="zlib",  # ten times fewer bytes to sign and to escape; one billed part, not several
                )

            yield deliver

    def _write_metrics(self, closing: bool) -> None:
        if self._metrics is not None:
            self._metrics.flush(now=closing)


class Events(events.Events):
    dispatcher_cls = "pipeline.sqs.monitoring.events:Dispatcher"

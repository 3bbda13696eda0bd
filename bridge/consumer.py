"""The bridge's loop: receive ten messages, decide, publish, settle."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from bridge.bounded import BoundedCalls
from bridge.disposition import Disposition, EventOutcome, dispose
from bridge.events_queue import EventsQueue
from pipeline.aws.backoff import Backoff
from pipeline.aws.errors import describe_error
from pipeline.core.errors import TransientError
from pipeline.core.routes import Routes
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.enqueue import Assignment, NotEnqueued
from pipeline.s3 import content
from pipeline.sqs.health import Heartbeat

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient
    from types_boto3_sqs.type_defs import MessageTypeDef

logger = logging.getLogger(__name__)

#: Seconds between polls while SQS fails, and between retries while publishing fails.
OUTAGE_BACKOFF = Backoff(first_s=1, most_s=30)
#: Seconds until SQS delivers a message with a problem of its own again, by its number of receives.
MESSAGE_BACKOFF = Backoff(first_s=10, most_s=900)
#: What publishing raises when the service fails, as opposed to a bad message.
_OUTAGES = (TransientError, ClientError, BotoCoreError, OSError)


@dataclass(slots=True)
class EventMessage:
    """A received message and its dispositions, one for each object."""

    message: MessageTypeDef
    receives: int
    dispositions: list[Disposition]

    @property
    def decisive(self) -> Disposition:
        """The disposition with the strongest outcome."""
        return max(self.dispositions, key=lambda each: each.outcome.strength)

    @property
    def is_pending(self) -> bool:
        return any(each.assignment is not None for each in self.dispositions)

    def published(self, unsent: Mapping[Source, str]) -> None:
        """Marks everything as published except ``unsent``."""
        self.dispositions = [
            each if each.source in unsent else replace(each, assignment=None) for each in self.dispositions
        ]

    def give_up(self, unsent: Mapping[Source, str]) -> None:
        """Leaves unpublished tasks to the message's next delivery."""
        self.dispositions = [
            each
            if each.assignment is None
            else Disposition(EventOutcome.RETRY, f"could not publish: {unsent[each.assignment.source]}", each.source)
            for each in self.dispositions
        ]


class Bridge:
    """Moves events from the events queue to the tasks queue, until ``stop``.

    ``publish`` sends the tasks for the given assignments. If it raises ``NotEnqueued``, it has sent all but those that
    the error names; if it raises anything else, it has sent none. While the service fails, the bridge keeps its
    messages and receives no more, so an outage uses up no receives. ``routes`` decide which objects are processed;
    ``bounded`` calls their rules for the content.
    Raises ``ConfigError`` when a queue does not exist, ``TransientError`` when it can't be looked up.
    """

    def __init__(
        self,
        settings: Settings,
        sqs: SQSClient,
        publish: Callable[[Sequence[Assignment]], None],
        heartbeat: Heartbeat | None = None,
        routes: Routes | None = None,
        pause: Callable[[float], object] | None = None,
        bounded: BoundedCalls | None = None,
    ) -> None:
        self._settings = settings
        self._bounded = BoundedCalls() if bounded is None else bounded
        self._publish = publish
        self._heartbeat = heartbeat
        self._routes = Routes.load(settings, content.look) if routes is None else routes
        self._stopping = threading.Event()
        self._pause = self._stopping.wait if pause is None else pause
        self._failures = 0  # consecutive ones, of SQS or of publishing
        self._unpublished: list[EventMessage] = []  # received, but not published because the service fails
        self._hidden_at = 0.0  # when they were hidden last
        self._queue = EventsQueue(settings, sqs)

    def stop(self) -> None:
        """Ends the loop after the current batch; safe in a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Polls until ``stop``; backs off during outages."""
        logger.info("bridge: polling %s", self._queue.url, extra={"action": "start"})
        if not self._settings.input_buckets:
            logger.warning(
                "bridge: INPUT_BUCKET is not set, so events of any bucket but OUTPUT_BUCKET are taken",
                extra={"action": "any_bucket"},
            )
        while not self._stopping.is_set():
            problem = None
            try:
                self.step()
            except (ClientError, BotoCoreError) as exc:
                problem = f"SQS fails: {describe_error(exc)}"
            if self._unpublished:
                problem = (
                    f"nothing can be published, so {len(self._unpublished)} messages are kept and no more are received"
                )
            self._back_off(problem)
            if self._heartbeat is not None:
                self._heartbeat.touch()
        if self._heartbeat is not None:
            self._heartbeat.remove()
        logger.info("bridge: stopped", extra={"action": "stop"})

    def _back_off(self, problem: str | None) -> None:
        if problem is None:
            if self._failures:
                logger.info(
                    "bridge: working again after %d failures", self._failures, extra={"action": "sqs_recovered"}
                )
            self._failures = 0
            return
        if self._failures == 0:
            logger.warning("bridge: backing off: %s", problem, extra={"action": "sqs_unavailable"})
        self._failures += 1
        self._pause(OUTAGE_BACKOFF.pause_s(self._failures))

    def step(self) -> list[EventOutcome]:
        """Receives and handles one batch. While publishing fails, it retries the messages that it kept instead.

        Returns the outcomes of the messages.
        """
        events = self._hide_unpublished() if self._unpublished else self._receive()
        unsent, is_outage = self._send([each.assignment for event in events for each in event.dispositions])
        for event in events:
            event.published(unsent)
        self._unpublished = [event for event in events if is_outage and event.is_pending]
        ended = [event for event in events if not (is_outage and event.is_pending)]
        for event in ended:
            event.give_up(unsent)
        self._settle(ended)
        return [EventOutcome.RETRY if event.is_pending else event.decisive.outcome for event in events]

    def _receive(self) -> list[EventMessage]:
        received = self._queue.receive()
        self._hidden_at = monotonic()
        return [
            EventMessage(message, receives, dispose(message.get("Body", ""), self._routes, receives, self._bounded))
            for message, receives in received
        ]

    def _hide_unpublished(self) -> list[EventMessage]:
        """Keeps the unpublished messages hidden from other bridges."""
        if monotonic() - self._hidden_at > self._settings.message_visibility_timeout_s / 2:
            self._hidden_at = monotonic()
            self._queue.hide(
                [(event.message, self._settings.message_visibility_timeout_s) for event in self._unpublished]
            )
        return self._unpublished

    def _send(self, assignments: Sequence[Assignment | None]) -> tuple[dict[Source, str], bool]:
        """Publishes them; returns what was not sent, each with its reason, and whether the service failed."""
        due = [each for each in assignments if each is not None]
        if not due:
            return {}, False
        try:
            self._publish(due)
        except NotEnqueued as exc:
            return dict.fromkeys(exc.sources, str(exc)), exc.is_outage
        except Exception as exc:  # whatever it is, the messages must stay
            return dict.fromkeys((each.source for each in due), f"{exc!r}"), isinstance(exc, _OUTAGES)
        return {}, False

    def _settle(self, events: Sequence[EventMessage]) -> None:
        """Dead-letters, deletes or releases the messages."""
        for event in events:
            for each in event.dispositions:
                self._log(event, each)
        released = [
            (event.message, MESSAGE_BACKOFF.pause_s(event.receives))
            for event in events
            if event.decisive.outcome is EventOutcome.RETRY
        ]
        done = [
            event.message
            for event in events
            if event.decisive.effect.delete
            and (not event.decisive.effect.dead_letter or self._queue.dead_letter(event.message, event.decisive.told))
        ]
        self._queue.hide(released)
        self._queue.delete(done)

    def _log(self, event: EventMessage, disposition: Disposition) -> None:
        extra = {"action": disposition.outcome.value, "message_id": event.message.get("MessageId")}
        if disposition.source is not None:
            extra["key"] = disposition.source.key
        level = disposition.effect.level if disposition.level is None else disposition.level
        logger.log(level, "%s: %s", disposition.outcome.value, disposition.told, extra=extra)

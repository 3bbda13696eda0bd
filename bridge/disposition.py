"""Decides what happens to an event: text in, a disposition for each object out. Sends and deletes nothing."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum

from bridge.bounded import BoundedCalls, RuleHangs, RulesWait
from pipeline.core.errors import MessageError, PermanentError
from pipeline.core.routes import Route, Routes
from pipeline.core.s3_event import EventKind, ObjectEvent, parse
from pipeline.core.source import Source
from pipeline.enqueue import Assignment, Purpose

#: At this receive of a message the bridge hands the object to a worker, which finds the route. Below the queue's
#: maxReceiveCount, so that an object whose route can't be found gets a failure record and not a dead letter.
ASK_A_WORKER_AT = 3


class EventOutcome(Enum):
    """The outcome of an object's event, the strongest last: it decides for a message with several objects."""

    SKIPPED = "skipped"  # valid, and there is nothing to do
    DISPATCHED = "dispatched"  # the tasks are published
    REJECTED = "rejected"  # not a valid event for us: a retry would not help, and deleting it would lose it
    RETRY = "retry"  # not published, or the route is not known yet: SQS delivers the message again

    @property
    def strength(self) -> int:
        return list(EventOutcome).index(self)


@dataclass(frozen=True, slots=True)
class MessageEffect:
    """What happens to the SQS message, and the level at which it is logged."""

    dead_letter: bool  # whether to copy it to the dead-letter queue first, with the reason
    delete: bool
    level: int


EFFECTS = {
    EventOutcome.SKIPPED: MessageEffect(dead_letter=False, delete=True, level=logging.INFO),
    EventOutcome.DISPATCHED: MessageEffect(dead_letter=False, delete=True, level=logging.DEBUG),  # the worker logs more
    EventOutcome.REJECTED: MessageEffect(dead_letter=True, delete=True, level=logging.ERROR),
    EventOutcome.RETRY: MessageEffect(dead_letter=False, delete=False, level=logging.WARNING),
}


@dataclass(frozen=True, slots=True)
class Disposition:
    """The outcome for one object, and the reason. ``assignment``: what must be published first."""

    outcome: EventOutcome
    reason: str
    source: Source | None = None  # None: the message names no object
    assignment: Assignment | None = None
    level: int | None = None  # of its log line; None: the outcome's level

    @property
    def effect(self) -> MessageEffect:
        return EFFECTS[self.outcome]

    @property
    def told(self) -> str:
        return self.reason if self.source is None else f"{self.source.uri}: {self.reason}"


def dispose(text: str, routes: Routes, receives: int, bounded: BoundedCalls) -> list[Disposition]:
    """The dispositions of a message, one for each object that it names; at least one. Raises nothing.

    ``receives``: how often the message has been received, including this time. ``bounded`` calls rules for the content.
    """
    try:
        notification = parse(text)
    except MessageError as exc:
        return [Disposition(EventOutcome.REJECTED, str(exc))]
    if notification.is_test:
        return [Disposition(EventOutcome.SKIPPED, "S3's test event: the bucket's notification is set up")]
    if not notification.events:
        return [Disposition(EventOutcome.SKIPPED, "an event without records")]
    return [_dispose(event, routes, receives, bounded) for event in notification.events]


def _dispose(event: ObjectEvent, routes: Routes, receives: int, bounded: BoundedCalls) -> Disposition:
    source, settings = event.source, routes.settings
    if routes.is_output(source.bucket, source.key):
        return Disposition(EventOutcome.SKIPPED, "it was written by the pipeline", source)
    # Anyone who may send to the events queue can forge an event: only objects of the input buckets are accepted.
    forged = settings.foreign_reason(source.bucket)
    if forged is not None:
        return Disposition(EventOutcome.REJECTED, forged, source)
    if event.kind is EventKind.CREATED:
        return _created(source, routes, receives, bounded)
    if event.kind is EventKind.OTHER or not settings.delete_renditions:
        return Disposition(EventOutcome.SKIPPED, f"{event.name} needs no work", source)
    skipped = routes.skip_reason(source, is_gone=True)
    if skipped is not None:
        return Disposition(EventOutcome.SKIPPED, skipped, source)
    return Disposition(EventOutcome.DISPATCHED, "removed", source, Assignment(source, Purpose.RECONCILE))


def _created(source: Source, routes: Routes, receives: int, bounded: BoundedCalls) -> Disposition:
    def find() -> tuple[Route | None, str | None]:
        route = routes.match(source)
        return route, routes.skip_reason(source) if route is None else None

    try:
        has_rules = any(route.content is not None for route in routes.match_key(source.key))
        route, skipped = bounded(find, source.uri) if has_rules else find()
        if route is None:
            return Disposition(EventOutcome.SKIPPED, str(skipped), source)
    except Exception as exc:  # whatever a rule for the content raises
        return _undecided(source, exc, receives)
    return Disposition(EventOutcome.DISPATCHED, f"route {route.name}", source, Assignment(source, route=route.name))


def _undecided(source: Source, exc: Exception, receives: int) -> Disposition:
    """Only this object is delayed. A worker has more time to find the route, and may write a failure record."""
    reason = f"its route can't be found: {exc if str(exc) else repr(exc)}"
    if isinstance(exc, PermanentError | RuleHangs | RulesWait) or receives >= ASK_A_WORKER_AT:
        assignment = Assignment(source, Purpose.FIND_ROUTE)
        return Disposition(EventOutcome.DISPATCHED, f"a worker is asked: {reason}", source, assignment, logging.INFO)
    return Disposition(EventOutcome.RETRY, reason, source)

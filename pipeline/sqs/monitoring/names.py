"""Names of the temporary queues, which a process creates and removes.

SQS limits a name to 80 characters, and refuses a deleted queue's name for 60 s. So each name is short and new:

====================================  ==========================================================
``<prefix><20 hex digits>-pidbox``     a worker's remote control; fresh at every start
``<prefix><20 hex>-reply-pidbox``      replies to one thread of one requester
``<prefix>celeryev-<20 hex>``          a consumer of events, such as Flower
====================================  ==========================================================

``<prefix>*-pidbox`` and ``<prefix>celeryev-*`` are the patterns of the IAM policies.
"""

from __future__ import annotations

import re
import secrets
from enum import Enum
from uuid import UUID

from kombu.common import oid_from

from pipeline.sqs.settings import BrokerSettings

#: Celery's exchanges, and the topic (without the prefix) that carries each.
EVENT_EXCHANGE = "celeryev"
CONTROL_EXCHANGE = "celery.pidbox"
TOPICS = {EVENT_EXCHANGE: "celeryev", CONTROL_EXCHANGE: "pidbox"}
REPLY_EXCHANGE = f"reply.{CONTROL_EXCHANGE}"

#: Long enough to be unique, short enough for a prefix of 40 characters.
_ID_DIGITS = 20


def topics(settings: BrokerSettings) -> dict[str, dict[str, str]]:
    """kombu's ``predefined_exchanges``: ``{exchange: {"arn": …}}``; empty if no topics are set."""
    if settings.topic_arn_prefix is None:
        return {}
    prefix = settings.topic_arn_prefix + settings.queue_prefix
    return {exchange: {"arn": prefix + topic} for exchange, topic in TOPICS.items()}


class Kind(Enum):
    """The purpose of a process's queue; the ``value`` is that of its ``purpose`` tag."""

    CONTROL = "control"
    REPLY = "reply"
    EVENTS = "events"

    @property
    def exchange(self) -> str | None:
        """The fanout exchange that a queue of this kind is subscribed to; None: messages are sent to it directly."""
        return {Kind.CONTROL: CONTROL_EXCHANGE, Kind.EVENTS: EVENT_EXCHANGE}.get(self)


_ID = rf"[0-9a-f]{{{_ID_DIGITS}}}"
_PATTERNS = {
    Kind.CONTROL: re.compile(rf"{_ID}-pidbox"),
    Kind.REPLY: re.compile(rf"{_ID}-reply-pidbox"),
    Kind.EVENTS: re.compile(rf"celeryev-{_ID}"),
}
#: Celery's name of a queue of events: too long for SQS after a long prefix.
_CELERY_EVENTS = re.compile(r"celeryev\.([0-9a-f-]{36})")


def kind_of(name: str, prefix: str = "") -> Kind | None:
    """The kind of queue that a name belongs to, or None for any other name. Only exact names match."""
    if not name.startswith(prefix):
        return None
    bare = shortened(name.removeprefix(prefix))
    return next((kind for kind, pattern in _PATTERNS.items() if pattern.fullmatch(bare)), None)


def shortened(name: str) -> str:
    """Shortens the id in Celery's name of an event queue; returns any other name unchanged."""
    found = _CELERY_EVENTS.fullmatch(name)
    return name if found is None else f"celeryev-{found[1].replace('-', '')[:_ID_DIGITS]}"


def control_queue() -> str:
    return f"{secrets.token_hex(_ID_DIGITS // 2)}-pidbox"


def reply_queue(reply_id: str) -> str:
    return f"{reply_id}-reply-pidbox"


def reply_id(owner: object) -> str:
    """The same id for every call of one thread, so that a thread needs only one queue for all its replies."""
    return UUID(oid_from(owner)).hex[:_ID_DIGITS]

"""Reads a dead letter: its task, objects and reason. The message may be anything."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import MessageError
from pipeline.core.queue_names import EVENTS_QUEUE
from pipeline.core.s3_event import parse
from pipeline.core.source import Source

if TYPE_CHECKING:
    from types_boto3_sqs.type_defs import MessageTypeDef

#: The reason of a message that SQS moved: no process recorded more.
GIVEN_UP = "maxReceiveCount reached: the worker was lost on every delivery, or could not settle the message"
#: The parts of a reason that differ between messages: URIs, quoted text, ids, numbers.
_VARYING = [
    (re.compile(r"s3://\S+?(?=[:;,]?(\s|$))"), "<object>"),
    (re.compile(r"'[^']*'|\"[^\"]*\""), "'…'"),
    (re.compile(r"\b[0-9a-f]{8,}(-[0-9a-f]{4,}){0,4}\b"), "…"),
    (re.compile(r"(?<![A-Z])\d+"), "N"),  # but S3 is a name
]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message of a dead-letter queue."""

    queue: str  # "events" or "tasks": where it came from
    message_id: str
    handle: str  # of this receive
    body: str
    attributes: Mapping[str, Any]  # message attributes, as SQS gives them
    sent: datetime  # to the dead-letter queue, or where SQS moved it, to the first queue
    receives: int
    by_sqs: bool = False  # SQS itself moved it, after too many receives

    @classmethod
    def of(cls, queue: str, message: MessageTypeDef) -> DeadLetter:
        system: Mapping[str, str] = message.get("Attributes", {})  # type: ignore[assignment]
        return cls(
            queue=queue,
            message_id=message["MessageId"],
            handle=message["ReceiptHandle"],
            body=message["Body"],
            attributes=message.get("MessageAttributes", {}),
            sent=datetime.fromtimestamp(int(system.get("SentTimestamp", "0")) / 1000, UTC),
            receives=int(system.get("ApproximateReceiveCount", "1")),
            by_sqs="DeadLetterQueueSourceArn" in system,
        )

    @property
    def reason(self) -> str:
        # After a redrive by SQS, a message still has the reason of the time before.
        text: str = self.attributes.get("reason", {}).get("StringValue", "")
        return text if text and not self.by_sqs else GIVEN_UP

    @property
    def kind_of_reason(self) -> str:
        """The reason without its varying parts, for grouping."""
        kind = self.reason
        for pattern, stand_in in _VARYING:
            kind = pattern.sub(stand_in, kind)
        return kind

    @property
    def task(self) -> str:
        """A task's name; ``event`` for an S3 event; ``?`` for anything else."""
        headers = _object(_envelope(self.body).get("headers"))
        if isinstance(headers.get("task"), str):
            return str(headers["task"])
        return "event" if self.queue == EVENTS_QUEUE else "?"

    @property
    def task_id(self) -> str:
        return str(_object(_envelope(self.body).get("headers")).get("id", ""))

    def sources(self) -> list[Source]:
        """The objects that it names, if it can be parsed."""
        envelope = _envelope(self.body)
        if "headers" not in envelope:
            try:
                return [event.source for event in parse(self.body).events]
            except MessageError:
                return []
        argument = _first_argument(envelope)
        try:
            return [
                Source.parse(argument["source"] if isinstance(argument, dict) and "source" in argument else argument)
            ]
        except MessageError:
            return []

    @property
    def example(self) -> str:
        named = self.sources()
        return named[0].uri if named else f"message {self.message_id}"

    def to_json(self) -> dict[str, Any]:
        """Everything that is known of it, and enough to send it again by hand."""
        return {
            "queue": self.queue,
            "message_id": self.message_id,
            "sent": self.sent.isoformat(timespec="seconds"),
            "receives": self.receives,
            "task": self.task,
            "task_id": self.task_id,
            "objects": [source.uri for source in self.sources()],
            "reason": self.reason,
            "attributes": {name: value.get("StringValue") for name, value in self.attributes.items()},
            "body": self.body,
        }

    def readable_body(self) -> Any:
        """The body, parsed if it is JSON, with a task's arguments decoded."""
        try:
            body = json.loads(self.body)
        except ValueError:
            return self.body
        if isinstance(body, dict) and "headers" in body:
            return body | {"body": _inner(body)}
        return body


def _envelope(body: str) -> dict[str, Any]:
    try:
        return _object(json.loads(body))
    except (ValueError, RecursionError):
        return {}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _inner(envelope: Mapping[str, Any]) -> Any:
    """A Celery message's own body: ``[args, kwargs, embed]``."""
    body = envelope.get("body")
    try:
        if _object(envelope.get("properties")).get("body_encoding") == "base64":
            body = base64.b64decode(str(body)).decode()
        return json.loads(str(body))
    except (ValueError, UnicodeDecodeError, RecursionError):
        return body


def _first_argument(envelope: Mapping[str, Any]) -> Any:
    inner = _inner(envelope)
    if isinstance(inner, list) and inner and isinstance(inner[0], list) and inner[0]:
        return inner[0][0]
    return None

"""What SQS does with messages, in memory: visibility, delays, redrive. No HTTP and no clock of its own."""

from __future__ import annotations

import hashlib
import heapq
import json
import re
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

ACCOUNT = "123456789012"
REGION = "eu-central-1"
MAX_RECEIVE = 10
MAX_VISIBILITY_S = 12 * 3600
MAX_DELAY_S = 900
MAX_BYTES = 1_048_576
#: For so long after its deletion a name can't be used again.
BARRED_S = 60


class SqsError(Exception):
    """An error reply: ``code`` as in the JSON protocol, HTTP 400."""

    def __init__(self, code: str, text: str = "") -> None:
        super().__init__(text or code)
        self.code = code


@dataclass(eq=False)
class Message:
    body: str
    attributes: dict[str, Any]
    sent_at: float
    message_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    receives: int = 0
    handle: str = ""  # of the last receive; only this one still deletes
    first_received_at: float = 0.0
    hidden_until: float = 0.0
    in_flight: bool = False
    deleted: bool = False


@dataclass
class Queue:
    name: str
    attributes: dict[str, str]
    ready: deque[Message] = field(default_factory=deque)
    hidden: list[tuple[float, int, Message]] = field(default_factory=list)  # heap: in flight or delayed
    handles: dict[str, Message] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    _sequence: int = 0

    @property
    def arn(self) -> str:
        return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{self.name}"

    @property
    def visibility_s(self) -> float:
        return float(self.attributes.get("VisibilityTimeout", "30"))

    def redrive(self) -> tuple[str, int] | None:
        """Name of the dead-letter queue, and how often a message is received before it goes there."""
        text = self.attributes.get("RedrivePolicy")
        if not text:
            return None
        policy = json.loads(text)
        return policy["deadLetterTargetArn"].split(":")[-1], int(policy["maxReceiveCount"])

    def hide(self, message: Message, until: float) -> None:
        message.hidden_until = until
        self._sequence += 1
        heapq.heappush(self.hidden, (until, self._sequence, message))

    def advance(self, now: float) -> None:
        """Makes visible what is due. A heap entry whose message was hidden anew or deleted is stale."""
        while self.hidden and self.hidden[0][0] <= now:
            until, _, message = heapq.heappop(self.hidden)
            if not message.deleted and message.hidden_until == until:
                message.in_flight = False
                message.hidden_until = 0.0
                self.ready.append(message)

    def next_due(self) -> float | None:
        return self.hidden[0][0] if self.hidden else None

    def counts(self) -> dict[str, int]:
        live = [m for until, _, m in self.hidden if not m.deleted and m.hidden_until == until]
        flying = sum(m.in_flight for m in live)
        return {
            "ApproximateNumberOfMessages": len(self.ready),
            "ApproximateNumberOfMessagesNotVisible": flying,
            "ApproximateNumberOfMessagesDelayed": len(live) - flying,
        }


class Sqs:
    """All queues. Every method takes the time (seconds, any origin) as ``now``."""

    def __init__(self) -> None:
        self.queues: dict[str, Queue] = {}
        self.deleted: dict[str, float] = {}

    def find(self, url_or_name: str) -> Queue:
        name = url_or_name.rsplit("/", 1)[-1]
        if name not in self.queues:
            raise SqsError("QueueDoesNotExist", f"no queue {name}")
        return self.queues[name]

    def create(self, name: str, attributes: dict[str, str], tags: dict[str, str], now: float) -> Queue:
        if not re.fullmatch(r"[\w-]{1,80}", name):
            raise SqsError("InvalidParameterValue", f"{name} is not a name of 1 to 80 letters, digits, _ and -")
        if now - self.deleted.get(name, -BARRED_S) < BARRED_S:
            raise SqsError("QueueDeletedRecently", f"{name} was deleted less than {BARRED_S} s ago")
        return self.queues.setdefault(name, Queue(name, dict(attributes), tags=dict(tags)))

    def remove(self, queue: Queue, now: float) -> None:
        del self.queues[queue.name]
        self.deleted[queue.name] = now

    def send(self, queue: Queue, entry: dict[str, Any], now: float) -> dict[str, Any]:
        body = entry["MessageBody"]
        delay_s = float(entry.get("DelaySeconds", queue.attributes.get("DelaySeconds", 0)))
        if not 0 <= delay_s <= MAX_DELAY_S:
            raise SqsError("InvalidParameterValue", f"DelaySeconds {delay_s}")
        if not body or len(body.encode()) > MAX_BYTES:
            raise SqsError("InvalidParameterValue", "size of MessageBody")
        message = Message(body, entry.get("MessageAttributes", {}), now)
        if delay_s:
            queue.hide(message, now + delay_s)
        else:
            queue.ready.append(message)
        return {"MessageId": message.message_id, "MD5OfMessageBody": _md5(body)}

    def receive(self, queue: Queue, limit: int, visibility_s: float | None, now: float) -> list[Message]:
        queue.advance(now)
        hide_s = queue.visibility_s if visibility_s is None else visibility_s
        redrive = queue.redrive()
        found: list[Message] = []
        while queue.ready and len(found) < limit:
            message = queue.ready.popleft()
            if message.deleted:
                continue
            if redrive is not None and message.receives >= redrive[1]:
                queue.handles.pop(message.handle, None)
                message.receives, message.handle = 0, ""
                self.find(redrive[0]).ready.append(message)
                continue
            queue.handles.pop(message.handle, None)
            message.receives += 1
            message.first_received_at = message.first_received_at or now
            message.handle = uuid.uuid4().hex
            message.in_flight = True
            queue.handles[message.handle] = message
            queue.hide(message, now + hide_s)
            found.append(message)
        return found

    def delete(self, queue: Queue, handle: str) -> None:
        """As in SQS, deleting by a handle that a later receive replaced succeeds and does nothing."""
        if not handle or len(handle) != 32:
            raise SqsError("ReceiptHandleIsInvalid")
        message = queue.handles.pop(handle, None)
        if message is not None:
            message.deleted = True
            if not message.in_flight and message in queue.ready:
                queue.ready.remove(message)

    def change_visibility(self, queue: Queue, handle: str, timeout_s: float, now: float) -> None:
        queue.advance(now)
        message = queue.handles.get(handle)
        if message is None or not message.in_flight:
            raise SqsError("InvalidParameterValue", "message is not available for visibility timeout change")
        if now + timeout_s > message.first_received_at + MAX_VISIBILITY_S:
            raise SqsError("InvalidParameterValue", "total visibility is beyond the limit of 43200 seconds")
        queue.hide(message, now + timeout_s)
        queue.advance(now)

    def purge(self, queue: Queue) -> None:
        queue.ready.clear()
        queue.hidden.clear()
        queue.handles.clear()


def wire(message: Message, wanted: Iterable[str]) -> dict[str, Any]:
    """A message as ReceiveMessage returns it; ``wanted`` are the names of message attributes."""
    found = {
        "MessageId": message.message_id,
        "ReceiptHandle": message.handle,
        "Body": message.body,
        "MD5OfBody": _md5(message.body),
        "Attributes": {
            "ApproximateReceiveCount": str(message.receives),
            "SentTimestamp": str(int(message.sent_at * 1000)),
        },
    }
    names = set(wanted)
    chosen = {k: v for k, v in message.attributes.items() if "All" in names or ".*" in names or k in names}
    if chosen:
        found["MessageAttributes"] = chosen
    return found


def batch(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The entries of a batch call, after the checks that fail the whole call."""
    if not entries:
        raise SqsError("EmptyBatchRequest")
    if len(entries) > MAX_RECEIVE:
        raise SqsError("TooManyEntriesInBatchRequest")
    if len({entry["Id"] for entry in entries}) != len(entries):
        raise SqsError("BatchEntryIdsNotDistinct")
    if sum(len(entry.get("MessageBody", "").encode()) for entry in entries) > MAX_BYTES:
        raise SqsError("BatchRequestTooLong")
    yield from entries


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

"""The messages that this process has received and not settled yet."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, eq=False)
class Held:
    """One received message, until it is deleted, given back, or moved. Times are ``time.monotonic()``."""

    url: str
    message: dict[str, Any]  # as ReceiveMessage returned it
    received_at: float
    hidden_until: float
    reason: str = field(default="", compare=False)  # why it is rejected

    @property
    def handle(self) -> str:
        """The receipt handle, which kombu uses as the delivery tag."""
        handle: str = self.message["ReceiptHandle"]
        return handle

    @property
    def message_id(self) -> str:
        return str(self.message.get("MessageId", "?"))

    @property
    def queue(self) -> str:
        """The queue's name in SQS."""
        return self.url.rsplit("/", 1)[-1]

    def to_send(self) -> dict[str, Any]:
        """The message as ``SendMessage`` takes it: its text, and what its sender gave it beside that."""
        sent: dict[str, Any] = {"MessageBody": self.message["Body"]}
        attributes = {name: _as_given(value) for name, value in self.message.get("MessageAttributes", {}).items()}
        if attributes:
            sent["MessageAttributes"] = attributes
        if (group := self.message.get("Attributes", {}).get("MessageGroupId")) is not None:
            sent["MessageGroupId"] = group
        return sent

    @property
    def receives(self) -> int:
        """How often SQS has delivered the message, this time included."""
        return int(self.message.get("Attributes", {}).get("ApproximateReceiveCount", 1))


def _as_given(attribute: Mapping[str, Any]) -> dict[str, Any]:
    """Of a message attribute that was received: kombu's client leaves bytes as base64."""
    value = attribute.get("BinaryValue")
    if not isinstance(value, str):
        return dict(attribute)
    return {**attribute, "BinaryValue": base64.b64decode(value)}


class HeldMessages:
    """By receipt handle. Safe to be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._messages: dict[str, Held] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, held: Held) -> None:
        with self._lock:
            self._messages[held.handle] = held

    def find(self, handle: str) -> Held | None:
        return self._messages.get(handle)

    def take(self, handle: str) -> Held | None:
        """Removes and returns it; None when it is settled already."""
        with self._lock:
            return self._messages.pop(handle, None)

    def select(self, wanted: Callable[[Held], bool]) -> list[Held]:
        with self._lock:
            return [held for held in self._messages.values() if wanted(held)]

"""The messages in flight: received by this process, and not settled yet."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, eq=False)
class InFlightMessage:
    """A received message, until it is deleted, released, or moved. Times are ``time.monotonic()``."""

    url: str
    message: dict[str, Any]  # as ReceiveMessage returned it
    received_at: float = 0.0
    hidden_until: float = 0.0
    is_successor: bool = False  # the text is the next task's, while SQS has the text of the previous one

    def go_on(self, body: str) -> None:
        """From now on this is the next task's message. ``body``: as for SendMessage. The receipt handle stays."""
        self.is_successor = True
        self.message = {**self.message, "Body": body, "MessageAttributes": {}}

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

    @property
    def receives(self) -> int:
        """How often SQS has delivered the message, this time included."""
        return receives(self.message)

    def to_send(self) -> dict[str, Any]:
        """The message's parameters for ``SendMessage``: its text, and its sender's attributes."""
        sent: dict[str, Any] = {"MessageBody": self.message["Body"]}
        attributes = {name: _as_given(value) for name, value in self.message.get("MessageAttributes", {}).items()}
        if attributes:
            sent["MessageAttributes"] = attributes
        if (group := self.message.get("Attributes", {}).get("MessageGroupId")) is not None:
            sent["MessageGroupId"] = group
        return sent


def receives(message: Mapping[str, Any]) -> int:
    """How often SQS has delivered a message that ReceiveMessage returned."""
    return int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1))


def _as_given(attribute: Mapping[str, Any]) -> dict[str, Any]:
    """A received message attribute as its sender set it: kombu's asynchronous client returns bytes as Base64."""
    value = attribute.get("BinaryValue")
    if not isinstance(value, str):
        return dict(attribute)
    return {**attribute, "BinaryValue": base64.b64decode(value)}


class InFlightMessages:
    """The messages in flight, by receipt handle. Thread-safe: each method accesses the dictionary once, atomically.

    So there is no lock that an exception in between could leave locked.
    """

    def __init__(self) -> None:
        self._messages: dict[str, InFlightMessage] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, messages: Iterable[InFlightMessage]) -> None:
        self._messages.update({message.handle: message for message in messages})

    def find(self, handle: str) -> InFlightMessage | None:
        return self._messages.get(handle)

    def take(self, message: InFlightMessage) -> bool:
        """Removes the message; returns False if that was done before: a message is settled once."""
        return self._messages.pop(message.handle, None) is not None

    def select(self, wanted: Callable[[InFlightMessage], bool] = lambda _: True) -> list[InFlightMessage]:
        return [message for message in list(self._messages.values()) if wanted(message)]

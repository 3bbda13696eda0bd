"""The messages in flight: received by this process, and not settled yet."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, eq=False)
class InFlightMessage:
    """One received message, until it is deleted, released, or moved. Times are ``time.monotonic()``."""

    url: str
    message: dict[str, Any]  # as ReceiveMessage returned it
    received_at: float = 0.0
    hidden_until: float = 0.0
    is_successor: bool = False  # the text is of the next task of a chain, and SQS has that of the one before

    def go_on(self, body: str) -> None:
        """From now on this is the next task's message, as SendMessage would have taken it; its handle stays."""
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
        """The message as ``SendMessage`` takes it: its text, and what its sender gave it beside that."""
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
    """Of a message attribute that was received: what kombu's asynchronous client receives has bytes as base64."""
    value = attribute.get("BinaryValue")
    if not isinstance(value, str):
        return dict(attribute)
    return {**attribute, "BinaryValue": base64.b64decode(value)}


class InFlightMessages:
    """By receipt handle. Safe to be used from several threads: each method touches the dictionary once, atomically.

    So there is no lock that whatever is raised in between could leave closed.
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
        """Removes it; False when somebody has done so before: a message is settled once."""
        return self._messages.pop(message.handle, None) is not None

    def select(self, wanted: Callable[[InFlightMessage], bool] = lambda _: True) -> list[InFlightMessage]:
        return [message for message in list(self._messages.values()) if wanted(message)]

"""How many messages a worker holds, and when it asks for more."""

from __future__ import annotations

from typing import Any

from kombu.transport import SQS


class QoS(SQS.QoS):
    """kombu's, which also tells the channel when a message is done and there may be room for another."""

    def ack(self, delivery_tag: str) -> None:
        super().ack(delivery_tag)
        self.channel.poll_again()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        super().reject(delivery_tag, requeue=requeue)
        self.channel.poll_again()


class Prefetch(SQS.Channel):
    QoS: Any = QoS

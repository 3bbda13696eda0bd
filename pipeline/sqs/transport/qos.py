"""kombu's record of delivered messages. ``PrefetchController`` and the gate decide how many there may be."""

from __future__ import annotations

from typing import Any

from kombu.transport import SQS

from pipeline.sqs.outage.gate import Gate
from pipeline.sqs.transport.parts import Parts
from pipeline.sqs.transport.receiver import Received


class QoS(SQS.QoS):
    def append(self, message: Any, delivery_tag: str) -> None:
        super().append(message, delivery_tag)
        info = message.delivery_info
        if "sqs_message" in info:
            self.channel.delivery.take_in(Received(info["sqs_queue"], [info["sqs_message"]]))

    def can_consume(self) -> bool:
        return self.can_consume_max_estimate() != 0

    def can_consume_max_estimate(self) -> int | None:
        """None: as many as a receive brings (no prefetch count was set)."""
        if not self.prefetch_count:
            return None
        parts: Parts = self.channel.parts
        gate: Gate = self.channel.gate
        return gate.room(parts.prefetch.capacity(len(parts.in_flight), self.prefetch_count))

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Called when the channel closes or is collected as garbage."""
        self._on_collect.cancel()
        self.channel.let_go()

"""Tells a task when its message was delivered before: ``self.request.delivery_info["redelivered"]``.

kombu's SQS transport never sets it, though SQS counts deliveries. A task that is told can look at what an earlier
try has left before it does its work again.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import SQS


class Redelivered(SQS.Channel):
    def _message_to_python(self, message: Any, queue_name: str, q_url: str) -> Any:
        payload = super()._message_to_python(message, queue_name, q_url)
        receives = int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1))
        if receives > 1 and "properties" in payload:
            payload["properties"].setdefault("delivery_info", {})["redelivered"] = True
        return payload

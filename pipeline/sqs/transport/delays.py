"""Delays wait in SQS, not in a worker's memory: ``countdown`` and ``eta`` become ``DelaySeconds``.

Celery puts an ETA into the message's headers and lets the worker that receives it keep it until then:
hidden from all others, and lost to them while that worker lives. SQS delays a message by 15 minutes at
most; one that arrives before its time is deferred with what is left.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

#: SQS's limit for DelaySeconds.
MAX_DELAY_S = 900
#: Longest that a message may be away from its ETA, unless the transport options say otherwise.
DEFAULT_MAX_DELAY_S = 7 * 86400
#: What arrives earlier than this before its time is due: SQS counts whole seconds, and clocks differ.
DUE_WITHIN_S = 1.0


def remaining_s(message: dict[str, Any], now: datetime | None = None) -> float:
    """Seconds until a message's ETA; 0 when it has none that is still to come, or none that can be read."""
    eta = (message.get("headers") or {}).get("eta")
    if not isinstance(eta, str):
        return 0.0
    try:
        due = datetime.fromisoformat(eta)
    except ValueError:
        return 0.0  # Celery rejects the message with the reason
    if due.tzinfo is None:
        due = due.replace(tzinfo=UTC)  # Celery's own, with enable_utc
    return max(0.0, (due - (datetime.now(UTC) if now is None else now)).total_seconds())


def delay_s(left_s: float) -> int:
    """What SQS is told: whole seconds, not too early, and at most its limit."""
    return min(MAX_DELAY_S, math.ceil(left_s))

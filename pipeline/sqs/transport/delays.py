"""Delays wait in SQS, not in a worker's memory: ``countdown`` and ``eta`` become ``DelaySeconds``.

Celery puts an ETA into the message's headers, and the worker that receives the message keeps it until then, hidden from
all other workers. SQS delays a message by 15 minutes at most, so one that arrives early is deferred by the rest.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

#: SQS's limit for DelaySeconds, in seconds.
MAX_DELAY_S = 900
#: Default of the transport option: maximum seconds until a message's ETA.
DEFAULT_MAX_DELAY_S = 7 * 86400
#: A message that is due within this many seconds counts as due: SQS counts whole seconds, and clocks differ.
DUE_WITHIN_S = 1.0


def remaining_s(message: dict[str, Any], now: datetime | None = None) -> float:
    """Seconds until a message's ETA; 0 if it has no ETA, or one that is past or can't be parsed."""
    eta = (message.get("headers") or {}).get("eta")
    if not isinstance(eta, str):
        return 0.0
    try:
        due = datetime.fromisoformat(eta)
    except ValueError:
        return 0.0  # Celery rejects the message with the reason
    if due.tzinfo is None:
        due = due.replace(tzinfo=UTC)  # Celery's own format, with enable_utc
    return max(0.0, (due - (datetime.now(UTC) if now is None else now)).total_seconds())


def delay_s(left_s: float) -> int:
    """The DelaySeconds for ``left_s``: rounded up to whole seconds, and at most SQS's limit."""
    return min(MAX_DELAY_S, math.ceil(left_s))

"""Delays wait in SQS, not in a worker's memory: ``countdown`` and ``eta`` become ``DelaySeconds``.

Celery puts an ETA into the message's headers and lets the worker that receives it keep it until then:
hidden from all others, and lost to them while that worker lives. SQS delays a message by 15 minutes at
most; one that arrives before its time is sent again with what is left, then deleted.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from operator import attrgetter
from typing import Any

from kombu.transport import SQS

from pipeline.aws import clients
from pipeline.sqs.transport.batcher import Batcher, Failure
from pipeline.sqs.transport.inflight import Held

#: SQS's limit for DelaySeconds.
MAX_DELAY_S = 900
#: What arrives earlier than this before its time is due: SQS counts whole seconds, and clocks differ.
DUE_WITHIN_S = 1.0

logger = logging.getLogger(__name__)


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


@dataclass(frozen=True, slots=True)
class Postponement:
    held: Held
    left_s: float


class Delays(SQS.Channel):
    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        left_s = remaining_s(message)
        if left_s:
            message["properties"].setdefault("delay_seconds", delay_s(left_s))
        super()._put(queue, message, **kwargs)

    def _deliver_one(self, queue: str, url: str, message: dict[str, Any], consumer: Callable[[Any], Any]) -> None:
        payload = self._message_to_python(message, queue, url)
        left_s = remaining_s(payload)
        if left_s > DUE_WITHIN_S:
            self.postponements.put(Postponement(Held(url, message, 0.0, 0.0), left_s))
            return
        if payload.get("headers"):
            payload["headers"]["eta"] = None  # due: Celery need not time it
        consumer(payload)

    @cached_property
    def postponements(self) -> Batcher[Postponement]:
        sqs = clients.sqs(long_poll=False)

        def send(batch: Sequence[Postponement]) -> list[Failure[Postponement]]:
            failures = []
            for item in batch:  # one by one: a quarter of an hour's step is rare enough
                try:
                    sqs.send_message(QueueUrl=item.held.url, DelaySeconds=delay_s(item.left_s), **item.held.to_send())
                except Exception as exc:
                    failures.append(Failure(item, f"{type(exc).__name__}: {exc}"))
                else:
                    self.deletes.put(item.held)
            return failures

        return Batcher("sqs-delays", send=send, give_up=_log_kept, key=attrgetter("held.url"))


def _log_kept(failure: Failure[Postponement]) -> None:
    held = failure.item.held
    logger.warning(
        "Message %s of %s could not be delayed further (%s): SQS will deliver it again",
        held.message_id,
        held.queue,
        failure.reason,
        extra={"action": "not-delayed", "message_id": held.message_id, "queue": held.queue},
    )

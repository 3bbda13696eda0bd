"""Celery's request: settles its message by how the task ended. ``pipeline.sqs.settled`` has the table.

It settles the message first. Celery's own code runs after that, finds the message acknowledged, and only sends events.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from celery.app.trace import LOG_REJECTED
from celery.exceptions import InvalidTaskError
from celery.worker import request
from celery.worker.state import task_ready
from kombu.utils.encoding import safe_repr, safe_str

from pipeline.sqs.outage.gate import Gate, GateState
from pipeline.sqs.outage.patience import Patience
from pipeline.sqs.settled import Decision, Effect, Service, on_raise, on_return, raised
from pipeline.sqs.transport.inflight import InFlightMessage
from pipeline.sqs.transport.parts import Parts
from pipeline.sqs.transport.settlement import Settlement
from pipeline.sqs.worker import in_place

#: Raised by Celery's request for a body that does not follow Celery's protocol.
MALFORMED = (AttributeError, IndexError, KeyError, TypeError, ValueError)

logger = logging.getLogger(__name__)
#: Drops Celery's line, with a traceback, about a rejected or deferred task: the worker logs what its message becomes.
logging.getLogger("celery.app.trace").addFilter(lambda record: record.msg != LOG_REJECTED.strip())


class Request(request.Request):
    """Also checks the task's arguments before a process gets them."""

    acknowledged: bool  # Celery's: once true, it can no longer acknowledge or reject

    def __init__(self, message: Any, **options: Any) -> None:
        try:
            super().__init__(message, **options)
        except MALFORMED as exc:
            raise InvalidTaskError(f"malformed task message: {type(exc).__name__}: {exc}") from exc
        if self.task.typing:
            try:
                self.task.__header__(*self.args, **self.kwargs)
            except TypeError as exc:
                raise InvalidTaskError(f"{self.task.name} does not take these arguments: {exc}") from exc

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Celery makes a subclass for each task. Its own ``on_success`` would acknowledge any result, unchecked."""
        super().__init_subclass__(**kwargs)
        cls.on_success = Request.on_success  # type: ignore[method-assign]
        cls.execute_using_pool = Request.execute_using_pool  # type: ignore[method-assign]

    def execute_using_pool(self, pool: Any, **kwargs: Any) -> Any:
        if in_place.is_on(self._app, pool):
            pool = in_place.Pool(pool)
        return super().execute_using_pool(pool, **kwargs)

    # Celery calls these methods when a task ends.

    def on_success(self, failed__retval__runtime: tuple[Any, Any, float], **_kwargs: Any) -> None:
        failed, result, runtime = failed__retval__runtime
        if failed:
            self.on_failure(result, return_ok=True)
        elif isinstance(result, in_place.Successor):
            self._go_on(result, runtime)
        elif self._settle(on_return, result) is Effect.DELETE:
            task_ready(self, successful=True)
            self.send_event("task-succeeded", result=result, runtime=runtime)
        else:
            task_ready(self)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        effect = self._settle(on_raise, exc_info)
        if isinstance(raised(exc_info), MemoryError):
            task_ready(self)  # the pool process ran out of memory; Celery would think the worker did, and stop it
            return
        is_told = send_failed_event and effect in (Effect.DELETE, Effect.DEAD_LETTER)
        super().on_failure(exc_info, send_failed_event=is_told, return_ok=return_ok)

    def on_retry(self, exc_info: Any) -> None:
        """Sends the event with the time of the retry, which Celery's lacks. ``on_failure`` has settled the message."""
        retry: Any = raised(exc_info)
        self.send_event(
            "task-retried",
            exception=safe_repr(retry.exc),
            traceback=safe_str(exc_info.traceback),
            eta=_due(retry.when),
        )

    def on_timeout(self, soft: bool, timeout: float) -> None:
        if not soft:
            self._settle(Decision, Effect.RELEASE, f"it took longer than its hard time limit, {timeout:g} s")
        super().on_timeout(soft, timeout)

    def _go_on(self, successor: in_place.Successor, runtime: float) -> None:
        """The task is done, and its message becomes the next task's. Nothing here deletes it."""
        channel = self.message.channel
        parts: Parts = channel.parts
        message = parts.in_flight.find(self.message.delivery_tag)
        if self.acknowledged or message is None:
            self.acknowledged = True
            task_ready(self)
            return
        self.acknowledged = True
        try:
            channel.gate.worked(self.name)
            task_ready(self, successful=True)
            message.go_on(successor.body)
            self.send_event("task-succeeded", result=successor.shown, runtime=runtime)
            channel.delivery.go_on(self.delivery_info["routing_key"], message)
        except BaseException:
            parts.in_flight.take(message)  # SQS delivers it again after its visibility time-out
            raise

    # What happens to the message then.

    def _settle(self, decide: Callable[..., Decision], *ending: Any) -> Effect | None:
        """Returns what happened to the message; None if it was settled before.

        Afterwards the message is never in flight: if it could not be settled, it is visible again after its time-out.
        """
        parts: Parts = self.message.channel.parts
        message = parts.in_flight.find(self.message.delivery_tag)
        if self.acknowledged or message is None:
            self.acknowledged = True
            return None
        gate: Gate = self.message.channel.gate
        try:
            decision = decide(*ending)
            self._tell_gate(gate, decision, message)
            effect = self._apply(decision, parts.settlement, message)
        finally:
            parts.in_flight.take(message)
            self.acknowledged = True  # Celery's own decision, which comes after this one, has no effect
        if effect is not Effect.DELETE:
            is_one_of_many = decision.service is Service.FAILS and gate.state is not GateState.OPEN
            self._tell(effect, decision.reason, logging.DEBUG if is_one_of_many else logging.WARNING)
        return effect

    def _tell_gate(self, gate: Gate, decision: Decision, message: InFlightMessage) -> None:
        match decision.service:
            case Service.WORKS:
                gate.worked(self.name)
            case Service.FAILS:
                gate.failed(decision.subject or self.root_id or self.id, decision.reason, message.handle)

    def _apply(self, decision: Decision, settlement: Settlement, message: InFlightMessage) -> Effect:
        match decision.effect:
            case Effect.DELETE:
                settlement.ack(message)
            case Effect.DEFER:
                headers = self._after_failure() if decision.service is Service.FAILS else None
                settlement.defer(message, decision.delay_s, was_begun=True, headers=headers)
            case Effect.DEAD_LETTER:
                settlement.dead_letter(
                    message, f"rejected by {self.name}: {decision.reason}", headers=self._patience.forgotten
                )
            case Effect.RELEASE:
                is_outage = decision.service is Service.FAILS
                return settlement.fail(
                    message,
                    f"{self.name}: {decision.reason}",
                    is_outage=is_outage,
                    headers=self._patience.forgotten,
                )
        return decision.effect

    def _after_failure(self) -> dict[str, Any]:
        """The headers of the next try, after a service failed. It costs a try if others have succeeded meanwhile."""
        patience = self._patience
        gate: Gate = self.message.channel.gate
        last = patience.failed_at
        return patience.after(time.time(), costs_a_try=last is not None and gate.has_worked_since(self.name, last))

    @property
    def _patience(self) -> Patience:
        return Patience.of(self.message.headers)

    def _tell(self, effect: Effect, reason: str, level: int) -> None:
        self.send_event("task-rejected", requeue=effect is not Effect.DEAD_LETTER)
        logger.log(
            level,
            "%s[%s] is not settled, so its message is %s: %s",
            self.name,
            self.id,
            effect.value.replace("_", "-"),
            reason,
            extra={"action": effect.value, "task": self.name, "task_id": self.id},
        )


def _due(when: Any) -> str | None:
    """When a retry is due, in ISO 8601, from its seconds or its time; None if it has neither."""
    if isinstance(when, (int, float)):
        when = datetime.now(UTC) + timedelta(seconds=when)
    return when.isoformat(timespec="seconds") if isinstance(when, datetime) else None

"""ECS task scale-in protection: ECS doesn't stop a container while it works.

The worker calls the container agent's endpoint when work begins, when it has been idle for a while, and before a
protection expires. The protection does not prevent Spot interruptions or failed health checks: those end in a graceful
stop. Errors are logged, and cost only the protection.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html
"""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from celery import bootsteps

LOOK_EVERY_S = 1.0
#: Seconds of idleness that keep the protection, so that a slow stream of tasks does not cause a call for each.
LINGER_S = 10.0
RETRY_S = 30.0
TIMEOUT_S = 5.0

logger = logging.getLogger(__name__)


class ScaleInProtection:
    """Decides when to call. ``put(protected)`` calls the endpoint and returns whether that succeeded."""

    def __init__(
        self,
        put: Callable[[bool], bool],
        *,
        expires_min: int,
        linger_s: float = LINGER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._put = put
        self._refresh_s = expires_min * 60 / 3
        self._linger_s = linger_s
        self._clock = clock
        self._protected: bool | None = None  # None: unknown, since the container may have been restarted in its task
        self._called_at = float("-inf")
        self._failed_at = float("-inf")
        self._busy_at = float("-inf")

    def look(self, busy: bool) -> None:
        """Call this about once a second."""
        now = self._clock()
        if busy:
            self._busy_at = now
        wanted = busy or now - self._busy_at < self._linger_s
        refresh = wanted and now - self._called_at >= self._refresh_s
        if (wanted == self._protected and not refresh) or now - self._failed_at < RETRY_S:
            return
        if self._put(wanted):
            self._protected = wanted
            self._called_at = now
            self._failed_at = float("-inf")
        else:
            self._failed_at = now

    def release(self) -> None:
        """Ends the protection when the worker ends, even if there was work a moment ago."""
        if self._protected:
            self._put(False)
            self._protected = False


class AgentEndpoint:
    """``$ECS_AGENT_URI/task-protection/v1/state``."""

    def __init__(self, agent_uri: str, expires_min: int) -> None:
        self._url = f"{agent_uri.rstrip('/')}/task-protection/v1/state"
        self._expires_min = expires_min

    def put(self, protected: bool) -> bool:
        body: dict[str, Any] = {"ProtectionEnabled": protected}
        if protected:
            body["ExpiresInMinutes"] = self._expires_min
        try:
            answer = self._send(body)
        except (OSError, TypeError, ValueError) as exc:
            return self._failed(protected, f"{type(exc).__name__}: {exc}")
        if "protection" not in answer:
            reason = answer.get("failure") or answer.get("error") or answer
            return self._failed(protected, str(reason.get("Reason") or reason.get("Message") or reason))
        logger.info(
            "ECS scale-in protection is %s",
            "on" if protected else "off",
            extra={"action": "scale_in_protected" if protected else "scale_in_unprotected"},
        )
        return True

    def _send(self, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - ECS provides the address
            self._url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="PUT"
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:  # noqa: S310
                text = reply.read()
        except urllib.error.HTTPError as exc:  # the reason is in the body
            text = exc.read()
        answer = json.loads(text)
        if not isinstance(answer, dict):
            raise TypeError(f"not a JSON object: {text[:80]!r}")
        return answer

    def _failed(self, protected: bool, reason: str) -> bool:
        # For example DEPLOYMENT_BLOCKED: a deployment waits for this container already.
        logger.warning(
            "ECS scale-in protection could not be switched %s: %s",
            "on" if protected else "off",
            reason,
            extra={"action": "scale_in_protection_failed"},
        )
        return False


class ScaleInProtectionStep(bootsteps.StartStopStep):
    """Runs in a thread, because a call may take seconds. A worker is busy while it has messages in flight."""

    requires = ("celery.worker.components:Hub", "celery.worker.components:Pool")

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def include_if(self, worker: Any) -> bool:
        return bool(worker.app.sqs.settings.ecs_agent_uri)

    def start(self, worker: Any) -> None:
        settings = worker.app.sqs.settings
        endpoint = AgentEndpoint(settings.ecs_agent_uri, settings.scale_in_protection_min)
        protection = ScaleInProtection(endpoint.put, expires_min=settings.scale_in_protection_min)
        self._thread = threading.Thread(target=self._run, args=(worker, protection), name="ecs-protection", daemon=True)
        self._thread.start()

    def stop(self, worker: Any) -> None:
        self._stopped.set()

    def terminate(self, worker: Any) -> None:
        self.stop(worker)

    def _run(self, worker: Any, protection: ScaleInProtection) -> None:
        while not self._stopped.wait(LOOK_EVERY_S):
            protection.look(_is_busy(worker))
        protection.release()


def _is_busy(worker: Any) -> bool:
    consumer = getattr(getattr(worker, "consumer", None), "task_consumer", None)
    return consumer is not None and len(consumer.channel.parts.in_flight) > 0

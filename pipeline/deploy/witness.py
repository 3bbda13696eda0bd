"""Watches a deployment's containers, to record why they did not start before a rollback removes the evidence."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.aws import clients
from pipeline.deploy import reasons

SERVICES = ("bridge", "worker", "flower")
#: ECS's limit for one DescribeTasks.
_TASKS = 100
#: Log lines of a stopped container.
LOG_LINES = 8
#: Minimum seconds between requests to ECS.
PAUSE_S = 10.0
#: Service events that are not problems.
_FINE = ("has reached a steady state", "has started", "deployment completed", "registered", "has stopped")


@dataclass(frozen=True, slots=True)
class ServiceProblem:
    """A problem of a service, from ECS and the log."""

    service: str
    said: str
    reason: reasons.Reason | None = None
    log: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """The lines to print."""
        if self.reason is None:
            yield f"{self.service}: {self.said}"
        else:
            yield f"{self.service}: {self.reason.plain} ({self.said})"
        yield from (f"    {line}" for line in self.log)
        if self.reason is not None:
            yield f"    What to do: {self.reason.todo}."


@dataclass(slots=True)
class Witness:
    """``look`` returns new problems, and never raises, so that it can't disturb the deployment.

    Events and stopped containers from before it was made are left out.
    """

    stack: str
    cluster: str | None = None  # an existing, shared cluster; None: the stack's own
    clock: Callable[[], float] = time.monotonic
    found: list[ServiceProblem] = field(default_factory=list)
    _since: datetime = field(default_factory=lambda: datetime.now(UTC))
    _seen: set[str] = field(default_factory=set)
    _asked: float | None = None

    @property
    def _where(self) -> str:
        return self.stack if self.cluster is None else self.cluster

    def _services(self) -> dict[str, str]:
        """The services by their names in the cluster; in a shared one those begin with the stack's name."""
        return {name if self.cluster is None else f"{self.stack}-{name}": name for name in SERVICES}

    def look(self) -> list[ServiceProblem]:
        now = self.clock()
        if self._asked is not None and now - self._asked < PAUSE_S:
            return []
        self._asked = now
        try:
            new = [*self._stopped(), *self._events()]
        except (ClientError, BotoCoreError):  # the cluster does not exist, or access is denied
            return []
        # Each replacement of a container fails in the same way.
        told = {(each.service, each.reason or each.said) for each in self.found}
        fresh: list[ServiceProblem] = []
        for each in new:
            if (each.service, each.reason or each.said) not in told:
                told.add((each.service, each.reason or each.said))
                fresh.append(each)
        self.found += fresh
        return fresh

    def _stopped(self) -> Iterator[ServiceProblem]:
        ecs = clients.client("ecs")
        arns = ecs.list_tasks(cluster=self._where, desiredStatus="STOPPED", maxResults=_TASKS)["taskArns"]
        arns = [arn for arn in arns if arn not in self._seen]
        if not arns:
            return
        for task in ecs.describe_tasks(cluster=self._where, tasks=arns)["tasks"]:
            if task.get("lastStatus") != "STOPPED":
                continue  # its reason is complete only after it has stopped
            self._seen.add(task["taskArn"])
            service = self._services().get(task.get("group", "").removeprefix("service:"))
            if service is None or task.get("createdAt", self._since) < self._since or _expected(task):
                continue
            yield self.problem(service, task)

    def problem(self, service: str, task: dict[str, Any]) -> ServiceProblem:
        """Why a container of that service does not run."""
        containers = task.get("containers", [])
        said = [task.get("stoppedReason", "")]
        for container in containers:
            said.append(container.get("reason", ""))
            if container.get("exitCode") is not None:
                said.append(f"exit code {container['exitCode']}")
        log = self._log(service, task["taskArn"])
        text = "; ".join(dict.fromkeys(part for part in said if part))
        # Only the log shows a wrong CPU.
        reason = reasons.find(text)
        if reason is None or "log" in reason.todo:
            reason = reasons.find("\n".join(log)) if "exec format error" in "\n".join(log) else reason
        return ServiceProblem(service, text or "a container stopped", reason, log)

    def _log(self, service: str, task_arn: str) -> tuple[str, ...]:
        """The last lines of a container's log."""
        try:
            answer = clients.client("logs").get_log_events(
                logGroupName=f"/{self.stack}/{service}",
                logStreamName=f"ecs/{service}/{task_arn.rsplit('/', 1)[-1]}",
                limit=LOG_LINES,
                startFromHead=False,
            )
        except (ClientError, BotoCoreError):
            return ()
        return tuple(event["message"].rstrip() for event in answer["events"])

    def _events(self) -> Iterator[ServiceProblem]:
        services = clients.client("ecs").describe_services(cluster=self._where, services=list(self._services()))[
            "services"
        ]
        for service in services:
            for event in reversed(service.get("events", [])):
                if event["id"] in self._seen or event["createdAt"] < self._since:
                    continue
                self._seen.add(event["id"])
                text = event["message"]
                if not any(word in text for word in _FINE):
                    yield ServiceProblem(self._services()[service["serviceName"]], text, reasons.find(text))


def _expected(task: dict[str, Any]) -> bool:
    """Whether an update or scaling stopped it, which is not a problem."""
    if task.get("stopCode") not in ("ServiceSchedulerInitiated", "UserInitiated"):
        return False
    return "health check" not in task.get("stoppedReason", "").lower()

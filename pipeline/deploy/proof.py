"""Proves that a worker can start, if none runs after an update: with MinWorkers=0, ECS starts none without work.

Runs one task of the new definition outside of the service, whose scaling would stop it at once, until its health check
reports progress, and then stops it. It processes or releases any messages that it receives meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError
from rich.console import Console

from pipeline.aws import clients
from pipeline.aws.errors import is_denied, translate_errors
from pipeline.core.errors import PipelineError
from pipeline.deploy import account
from pipeline.deploy.witness import Witness

#: Seconds until a container runs and its first health check has passed (start period 60 s).
PATIENCE_S = 600
POLL_S = 5.0


def prove_worker(stack: str, console: Console, sleep: Callable[[float], None] = time.sleep) -> None:
    """Raises ``PipelineError`` with the reason if a worker does not start; prints a note if it can't be tried."""
    outputs = account.outputs_of(account.describe(stack))
    if not {"ClusterName", "WorkerServiceName"} <= set(outputs):
        return
    cluster = outputs["ClusterName"]
    ecs = clients.client("ecs")
    with translate_errors("looking at the workers"):
        found = ecs.describe_services(cluster=cluster, services=[outputs["WorkerServiceName"]])["services"]
    if not found or found[0]["desiredCount"] > 0:
        return  # the deployment has waited for the running workers
    try:
        with console.status("No worker runs, so one is started to see whether it can ..."):
            task = _run(ecs, cluster, found[0])
            try:
                task = _wait(ecs, cluster, task, sleep)
            finally:
                _stop(ecs, cluster, task)
    except ClientError as exc:
        if not is_denied(exc):
            raise
        console.print(
            "No worker runs, and these credentials may not start one to see whether it can (ecs:RunTask, ecs:StopTask "
            "and iam:PassRole, see cloudformation/deployer-policy.json). The first upload will show it."
        )
        return
    if task.get("healthStatus") == "HEALTHY":
        console.print("A worker was started, became healthy, and was stopped again: none is needed now.")
        return
    problem = Witness(stack, cluster).problem("worker", task)
    lines = "\n".join(problem.lines())
    raise PipelineError(
        f"stack {stack} is deployed, but a worker of it does not start, so uploads would wait:\n{lines}\n"
        "Correct that and deploy again, or deploy the image from before."
    )


def _run(ecs: Any, cluster: str, service: dict[str, Any]) -> dict[str, Any]:
    """On demand, so that Spot's capacity and interruptions don't matter."""
    answer = ecs.run_task(
        cluster=cluster,
        taskDefinition=service["taskDefinition"],
        networkConfiguration=service["networkConfiguration"],
        capacityProviderStrategy=[{"capacityProvider": "FARGATE", "weight": 1}],
        count=1,
        startedBy="pipeline-deploy",
    )
    if not answer["tasks"]:
        reasons = ", ".join(str(failure.get("reason")) for failure in answer.get("failures", []))
        return {"taskArn": "", "lastStatus": "STOPPED", "stoppedReason": reasons or "ECS started none"}
    task: dict[str, Any] = answer["tasks"][0]
    return task


def _wait(ecs: Any, cluster: str, task: dict[str, Any], sleep: Callable[[float], None]) -> dict[str, Any]:
    """Waits until it is healthy or has stopped, or the time is up."""
    deadline = time.monotonic() + PATIENCE_S
    while task["lastStatus"] != "STOPPED" and task.get("healthStatus") not in ("HEALTHY", "UNHEALTHY"):
        if time.monotonic() > deadline:
            return task | {"stoppedReason": f"after {PATIENCE_S} s it is {task['lastStatus']}, and not healthy"}
        sleep(POLL_S)
        found = ecs.describe_tasks(cluster=cluster, tasks=[task["taskArn"]])["tasks"]
        task = found[0] if found else task
    if task.get("healthStatus") == "UNHEALTHY":
        return task | {"stoppedReason": "failed its health check"}
    return task


def _stop(ecs: Any, cluster: str, task: dict[str, Any]) -> None:
    if task["lastStatus"] != "STOPPED":
        ecs.stop_task(cluster=cluster, task=task["taskArn"], reason="pipeline deploy has seen it start")

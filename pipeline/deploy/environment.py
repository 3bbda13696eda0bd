"""The settings of a stack's containers, read from the running task definitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.aws import clients
from pipeline.aws.errors import translate_errors
from pipeline.core.errors import PipelineError
from pipeline.deploy import account

#: The later one wins: commands use the workers' settings; only the bridge has KEY_PREFIX.
ROLES = ("bridge", "worker")
#: Variables that connect the containers to AWS; commands use the caller's own.
_AWS = "AWS_"


def of_stack(stack: str) -> dict[str, str]:
    """The variables of the stack's worker, and those that only its bridge has. Raises ``PipelineError``."""
    found = account.describe(stack)
    if found is None:
        raise PipelineError(f"there is no stack {stack} in this region and account: correct --stack or AWS_REGION")
    outputs = account.outputs_of(found)
    if "ClusterName" not in outputs:
        raise PipelineError(
            f"stack {stack} is {found['StackStatus']} and has no output ClusterName: it is not a complete pipeline"
        )
    names = {role: outputs.get(f"{role.capitalize()}ServiceName", role) for role in ROLES}
    with translate_errors(f"reading the settings of stack {stack} from its task definitions"):
        environs = dict(_environs(outputs["ClusterName"], names))
    missing = [role for role in ROLES if role not in environs]
    if missing:
        raise PipelineError(f"stack {stack} has no service {names[missing[0]]} in cluster {outputs['ClusterName']}")
    merged = {name: value for role in ROLES for name, value in environs[role].items()}
    return {name: value for name, value in merged.items() if not name.startswith(_AWS)}


def worker_vcpus(stack: str) -> float:
    """The vCPUs of the maximum number of workers. Raises ``PipelineError``."""
    values = account.parameters_of(account.describe(stack))
    try:
        return int(values["MaxWorkers"]) * int(values["WorkerCpu"]) / 1024
    except KeyError as exc:
        raise PipelineError(f"stack {stack} has no parameter {exc}: it is not a pipeline; pass --vcpus") from exc


def _environs(cluster: str, names: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    ecs = clients.client("ecs")
    services = ecs.describe_services(cluster=cluster, services=list(names.values()))["services"]
    running = {service["serviceName"]: service["taskDefinition"] for service in services}
    for role, service in names.items():
        if service in running:
            answer: dict[str, Any] = ecs.describe_task_definition(taskDefinition=running[service])
            for container in answer["taskDefinition"]["containerDefinitions"]:
                if container["name"] == role:
                    yield role, {each["name"]: each["value"] for each in container.get("environment", [])}

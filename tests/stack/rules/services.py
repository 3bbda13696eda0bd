"""How containers are deployed, and on what."""

from __future__ import annotations

from collections.abc import Iterator

from tests.stack.rules.base import Template, rule, variants
from tests.stack.template import of_type


@rule
def updates_keep_the_count(template: Template) -> Iterator[str]:
    for name, service in of_type(template, "AWS::ECS::Service").items():
        if "DesiredCount" in service["Properties"]:
            yield f"{name}: its DesiredCount would be set again with each update of the stack"


@rule
def deployments_roll_back(template: Template) -> Iterator[str]:
    for name, service in of_type(template, "AWS::ECS::Service").items():
        breaker = service["Properties"].get("DeploymentConfiguration", {}).get("DeploymentCircuitBreaker")
        if breaker != {"Enable": True, "Rollback": True}:
            yield f"{name}: a bad image would stay"


@rule
def capacity_comes_from_providers_of_the_cluster(template: Template) -> Iterator[str]:
    for stack in variants(template):
        providers = set(stack.properties("Cluster")["CapacityProviders"])
        for name, service in stack.resources("AWS::ECS::Service").items():
            properties = service["Properties"]
            strategy = properties.get("CapacityProviderStrategy", [])
            if "LaunchType" in properties or not strategy:
                yield f"{name}: LaunchType excludes a capacity provider strategy"
            if {entry["CapacityProvider"] for entry in strategy} - providers:
                yield f"{name}: {strategy} names a provider that the cluster doesn't have"
            if not any(int(entry.get("Weight", 0)) > 0 for entry in strategy):
                yield f"{name}: every weight is 0"
            if any(int(entry.get("Base", 0)) and not int(entry.get("Weight", 0)) for entry in strategy):
                yield f"{name}: a provider with weight 0 places no tasks, not even its base"
            spot = [entry["CapacityProvider"] for entry in strategy if "SPOT" in entry["CapacityProvider"]]
            if spot and name != "WorkerService":
                yield f"{name} would be interrupted"

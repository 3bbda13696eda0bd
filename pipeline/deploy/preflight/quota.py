"""Checks that the account's Fargate quota allows the vCPUs of all workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.aws import clients
from pipeline.aws.errors import code, describe_error, is_denied
from pipeline.operations.check_results import CheckResult, ok, unknown, warning

#: Quotas of Fargate: its on-demand and its Spot vCPU resource count.
#: Source: AWS General Reference, "Amazon ECS endpoints and quotas", AWS Fargate service quotas.
ON_DEMAND, SPOT = "L-3032A538", "L-36FBB829"
#: vCPUs of a bridge and Flower, on demand.
_BESIDE_VCPUS = 0.5


def check(values: Mapping[str, str]) -> Iterator[CheckResult]:
    """Compares with the whole quota: other users of the account are unknown."""
    if not {"MaxWorkers", "WorkerCpu", "OnDemandWeight", "SpotWeight"} <= set(values):
        return
    workers = int(values["MaxWorkers"]) * int(values["WorkerCpu"]) / 1024
    weights = {ON_DEMAND: int(values["OnDemandWeight"]), SPOT: int(values["SpotWeight"])}
    total = sum(weights.values()) or 1
    needed = {quota: workers * weight / total for quota, weight in weights.items()}
    needed[ON_DEMAND] += _BESIDE_VCPUS
    try:
        for quota, name in ((ON_DEMAND, "Fargate vCPUs"), (SPOT, "Fargate Spot vCPUs")):
            if needed[quota]:
                yield _compared(name, quota, needed[quota], _value(quota))
    except (ClientError, BotoCoreError) as exc:
        advice = "servicequotas:GetServiceQuota allows that" if isinstance(exc, ClientError) and is_denied(exc) else ""
        yield unknown("Fargate vCPUs", f"the quota could not be read: {describe_error(exc)}", advice)


def _compared(name: str, quota: str, needed: float, allowed: float) -> CheckResult:
    said = f"{needed:g} needed at most, {allowed:g} allowed"
    if needed <= allowed:
        return ok(name, said)
    return warning(
        name,
        said,
        f"more workers than that never start, and their work waits: ask for more in Service Quotas (Fargate, {quota}), "
        "or deploy with a smaller MaxWorkers",
    )


def _value(quota: str) -> float:
    client = clients.client("service-quotas")
    asked: dict[str, Any] = {"ServiceCode": "fargate", "QuotaCode": quota}
    try:
        return float(client.get_service_quota(**asked)["Quota"]["Value"])
    except ClientError as exc:
        if code(exc) != "NoSuchResourceException":  # an account without increases has only AWS's defaults
            raise
    return float(client.get_aws_default_service_quota(**asked)["Quota"]["Value"])

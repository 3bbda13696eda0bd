"""The AWS account: the caller's identity, and what a first deployment needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from pipeline.aws import clients
from pipeline.aws.errors import code, is_denied, translate_errors
from pipeline.core.errors import PipelineError

#: The role with which ECS manages network interfaces and load balancers; an account's first cluster needs it.
ECS_ROLE = "AWSServiceRoleForECS"
ECS_SERVICE = "ecs.amazonaws.com"
#: IAM's answer if somebody else has just created it.
_TAKEN = {"InvalidInput", "EntityAlreadyExists"}


@dataclass(frozen=True, slots=True)
class Account:
    id: str
    region: str
    arn: str  # of the caller

    @property
    def partition(self) -> str:
        """``aws``, ``aws-cn`` …"""
        return self.arn.split(":")[1]


@dataclass(frozen=True, slots=True)
class Network:
    """Where containers run, as parameters of the template."""

    vpc: str
    subnets: tuple[str, ...]
    public_ip: bool

    def parameters(self) -> dict[str, str]:
        return {
            "VpcId": self.vpc,
            "SubnetIds": ",".join(self.subnets),
            "AssignPublicIp": "ENABLED" if self.public_ip else "DISABLED",
        }


def current() -> Account:
    """Raises ``PipelineError`` if credentials or region are missing or invalid."""
    with translate_errors("asking who you are"):
        client = clients.client("sts")
        identity = client.get_caller_identity()
    return Account(id=identity["Account"], region=client.meta.region_name, arn=identity["Arn"])


def ensure_ecs_role() -> bool:
    """Creates ECS's service-linked role if it is missing; True if it did. Raises ``PipelineError``.

    If access to the role is denied, ECS will report a missing role.
    """
    iam = clients.client("iam")
    with translate_errors(f"looking for the role {ECS_ROLE}"):
        try:
            iam.get_role(RoleName=ECS_ROLE)
        except ClientError as exc:
            if code(exc) != "NoSuchEntity":
                if is_denied(exc):
                    return False
                raise
        else:
            return False
    with translate_errors(f"making the role {ECS_ROLE}"):
        try:
            iam.create_service_linked_role(AWSServiceName=ECS_SERVICE)
        except ClientError as exc:
            if code(exc) in _TAKEN:
                return False
            raise
    return True


def default_network() -> Network:
    """The default VPC, whose subnets are public. Raises ``PipelineError`` if there is none."""
    ec2 = clients.client("ec2")
    with translate_errors("looking for the default VPC"):
        found = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
        if not found:
            raise PipelineError(
                "this account has no default VPC: pass --vpc and --subnets, or deploy cloudformation/network.yaml "
                "and pass its stack's name with --network"
            )
        vpc = found[0]["VpcId"]
        filters = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "default-for-az", "Values": ["true"]}]
        subnets = ec2.describe_subnets(Filters=filters)["Subnets"]
    return Network(vpc, tuple(sorted(subnet["SubnetId"] for subnet in subnets)), public_ip=True)


def network_of(stack: str) -> Network:
    """The network of a stack of ``network.yaml``. Raises ``PipelineError``."""
    outputs = outputs_of(describe(stack))
    try:
        subnets = tuple(outputs["SubnetIds"].split(","))
        return Network(outputs["VpcId"], subnets, public_ip=outputs["AssignPublicIp"] == "ENABLED")
    except KeyError as exc:
        raise PipelineError(f"stack {stack} is not a network: it does not exist, or has no output {exc}") from exc


def describe(stack: str) -> dict[str, Any] | None:
    """CloudFormation's description of a stack, by name or id; None if it does not exist."""
    with translate_errors(f"looking at stack {stack}"):
        try:
            found: dict[str, Any] = clients.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
        except ClientError as exc:
            # DescribeStacks has no error of its own for a stack that does not exist.
            if exc.response.get("Error", {}).get("Code") == "ValidationError":
                return None
            raise
    return None if found["StackStatus"] == "DELETE_COMPLETE" else found


def outputs_of(stack: dict[str, Any] | None) -> dict[str, str]:
    return {} if stack is None else {entry["OutputKey"]: entry["OutputValue"] for entry in stack.get("Outputs", [])}


def parameters_of(stack: dict[str, Any] | None) -> dict[str, str]:
    """The parameters' values, by name."""
    entries = [] if stack is None else stack.get("Parameters", [])
    return {entry["ParameterKey"]: entry.get("ParameterValue", "") for entry in entries}

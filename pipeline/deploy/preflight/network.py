"""Checks that containers in these subnets can reach AWS: by an internet gateway, a NAT gateway, or endpoints."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.aws import clients
from pipeline.aws.errors import code, describe_error
from pipeline.operations.check_results import CheckResult, bad, ok, unknown, warning

#: The services that containers call, by the last part of the endpoint's name; S3 may be a gateway or an interface.
NEEDED = ("s3", "sqs", "ecr.api", "ecr.dkr", "logs")
#: Additionally for Flower: events and control, its password, the port-forward, the queues' ages.
WITH_FLOWER = ("sns", "secretsmanager", "ssmmessages", "monitoring")
#: Addresses that a deployment needs in addition to the workers': bridge and Flower, and their replacements.
_SPARE = 4
_EVERYWHERE = ("0.0.0.0/0",)


def check(values: Mapping[str, str]) -> Iterator[CheckResult]:
    subnets = re.findall(r"subnet-\w+", values.get("SubnetIds", ""))
    vpc = values.get("VpcId", "")
    if not (vpc and subnets):
        return
    try:
        yield from _check(vpc, subnets, values)
    except ClientError as exc:
        if code(exc) in ("InvalidSubnetID.NotFound", "InvalidVpcID.NotFound"):
            yield bad("subnets", describe_error(exc), "correct --vpc and --subnets; both are of one region")
        else:
            yield unknown(
                "network",
                describe_error(exc),
                "ec2:DescribeSubnets, DescribeRouteTables, DescribeVpcEndpoints allow it",
            )
    except BotoCoreError as exc:
        yield unknown("network", describe_error(exc))


def _check(vpc: str, subnets: list[str], values: Mapping[str, str]) -> Iterator[CheckResult]:
    ec2 = clients.client("ec2")
    found = ec2.describe_subnets(SubnetIds=subnets)["Subnets"]
    yield from _subnets(vpc, found, int(values.get("MaxWorkers", "0")))
    tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["RouteTables"]
    ways = {subnet: _way(subnet, tables) for subnet in subnets}
    public = values.get("AssignPublicIp") == "ENABLED"
    wrong = {subnet: way for subnet, way in ways.items() if way == ("nat" if public else "internet gateway")}
    if wrong and public:
        yield bad(
            "routes",
            f"{', '.join(wrong)} leave by a NAT gateway, which takes no public addresses",
            "deploy with -p AssignPublicIp=DISABLED",
        )
    elif wrong:
        yield bad(
            "routes",
            f"{', '.join(wrong)} leave by an internet gateway, which needs public addresses",
            "deploy with -p AssignPublicIp=ENABLED, or pass private subnets",
        )
    else:
        yield ok("routes", ", ".join(f"{subnet}: {way or 'no way out'}" for subnet, way in ways.items()))
    closed = [subnet for subnet, way in ways.items() if way is None]
    if closed:
        yield _endpoints(ec2, vpc, closed, values)


def _subnets(vpc: str, found: list[dict[str, Any]], workers: int) -> Iterator[CheckResult]:
    foreign = [subnet["SubnetId"] for subnet in found if subnet["VpcId"] != vpc]
    if foreign:
        yield bad("subnets", f"{', '.join(foreign)} are not in {vpc}", "pass subnets of that VPC, or the VPC of these")
        return
    free = sum(subnet["AvailableIpAddressCount"] for subnet in found)
    zones = {subnet["AvailabilityZone"] for subnet in found}
    said = f"{len(found)} in {len(zones)} zones, {free:,} free addresses"
    if free < workers + _SPARE:
        yield bad(
            "subnets",
            said,
            f"{workers + _SPARE} containers at most take an address each: larger subnets, or fewer MaxWorkers",
        )
    elif len(zones) < 2:
        yield warning("subnets", said, "with two zones or more, the outage of one stops nothing")
    else:
        yield ok("subnets", said)


def _way(subnet: str, tables: list[dict[str, Any]]) -> str | None:
    """The target of the default route, or None. A subnet without a table uses the VPC's main one."""

    def of(table: dict[str, Any], *, main: bool) -> bool:
        entries = table.get("Associations", [])
        return any(entry.get("Main") if main else entry.get("SubnetId") == subnet for entry in entries)

    own = [table for table in tables if of(table, main=False)] or [table for table in tables if of(table, main=True)]
    for route in (route for table in own for route in table.get("Routes", [])):
        if route.get("DestinationCidrBlock") not in _EVERYWHERE or route.get("State") == "blackhole":
            continue
        if route.get("GatewayId", "").startswith("igw-"):
            return "internet gateway"
        if "NatGatewayId" in route:
            return "nat"
        return "another way"  # a transit gateway, an appliance: what is behind it is unknown
    return None


def _endpoints(ec2: Any, vpc: str, subnets: list[str], values: Mapping[str, str]) -> CheckResult:
    pages = ec2.get_paginator("describe_vpc_endpoints").paginate(Filters=[{"Name": "vpc-id", "Values": [vpc]}])
    there = {
        endpoint["ServiceName"].split(".", 3)[-1]
        for endpoint in (each for page in pages for each in page["VpcEndpoints"])
        if endpoint.get("State", "available").lower() == "available"
    }
    needed = NEEDED + (WITH_FLOWER if values.get("Flower", "yes") != "no" else ())
    missing = [name for name in needed if name not in there]
    if missing:
        return bad(
            "endpoints",
            f"{', '.join(subnets)} have no way to the internet, and the VPC no endpoint of {', '.join(missing)}",
            "add them, or a NAT gateway, or use cloudformation/network.yaml (--network)",
        )
    return ok("endpoints", f"{vpc} has all of {', '.join(needed)}")

"""What would make a deployment fail is found before it begins, and each finding says what to do."""

from __future__ import annotations

import io
import json
from contextlib import closing
from typing import Any

import pytest

from pipeline.deploy.account import Account
from pipeline.deploy.preflight import image, network, permissions, quota, values
from pipeline.deploy.wanted import TEMPLATE
from pipeline.operations.check_results import CheckResult, Level, lines, status
from tests.support.answers import Answers, Refused

ECR = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/photos/batch"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Answers:
    return Answers(monkeypatch)


def by_name(found: Any) -> dict[str, CheckResult]:
    return {result.what: result for result in found}


# --- parameters


@pytest.mark.parametrize(
    ("given", "what", "level"),
    [
        ({"Image": "x"}, "image name", Level.BAD),
        ({"Image": "not an image"}, "image name", Level.BAD),
        ({"Image": f"{ECR}"}, "image name", Level.WARNING),
        ({"Image": f"{ECR}:latest"}, "image name", Level.WARNING),
        ({"Image": f"{ECR}:1"}, "image name", Level.OK),
        ({"Image": f"{ECR}@sha256:{'a' * 64}"}, "image name", Level.OK),
        ({"Image": "localhost:5000/batch:1"}, "image name", Level.OK),
        ({"MinWorkers": "3", "MaxWorkers": "2"}, "workers", Level.BAD),
        ({"MinWorkers": "2", "MaxWorkers": "2"}, "workers", Level.OK),
        ({"WorkerCpu": "1024", "WorkerMemory": "600"}, "worker size", Level.BAD),
        ({"WorkerCpu": "1024", "WorkerMemory": "2048"}, "worker size", Level.OK),
        ({"WorkerCpu": "256", "WorkerMemory": "1536"}, "worker size", Level.BAD),
        ({"WorkerCpu": "16384", "WorkerMemory": "32768"}, "worker size", Level.OK),
        ({"WorkerCpu": "16384", "WorkerMemory": "34816"}, "worker size", Level.BAD),
        ({"SoftTimeLimit": "150", "HardTimeLimit": "150"}, "settings", Level.BAD),
        ({"ThumbBox": "2000x2000", "ResizeBox": "1024x768"}, "settings", Level.BAD),
        ({"SoftTimeLimit": "10", "HardTimeLimit": "15"}, "settings", Level.OK),
        ({"Settings": "OUTPUT_PREFIX=a/"}, "settings", Level.BAD),
        ({"OutputPrefix": "a/", "Settings": "QUALITY=80"}, "settings", Level.OK),
        ({"Settings": "RENDITIONS=thumbs=192"}, "settings", Level.BAD),
        ({"Settings": "RENDITIONS=thumbs=9x9,medium=99x99:webp", "OwnFolder": ""}, "settings", Level.BAD),
        ({"Renditions": "thumbs=9x9,medium=99x99:webp", "OwnFolder": ""}, "settings", Level.BAD),
        ({"Renditions": "thumbs=9x9,medium=99x99", "OwnFolder": "", "RenditionArns": ""}, "settings", Level.OK),
        ({"Renditions": "thumbs=192"}, "settings", Level.BAD),
        ({"Settings": "RENDITIONS=thumbs=9x9,own/medium=99x99", "OwnFolder": "own/"}, "settings", Level.OK),
    ],
    ids=str,
)
def test_parameters_that_contradict_each_other(given: dict[str, str], what: str, level: Level) -> None:
    found = by_name(values.check(given))[what]
    assert found.level is level
    assert (found.todo != "") == (level is not Level.OK)


# --- image


def manifest(*platforms: tuple[str, str]) -> dict[str, Any]:
    entries = [{"digest": "d", "platform": {"os": system, "architecture": cpu}} for system, cpu in platforms]
    return {"images": [{"imageManifest": json.dumps({"manifests": entries})}]}


@pytest.mark.parametrize(
    ("answer", "cpu", "level", "words"),
    [
        (manifest(("linux", "amd64"), ("unknown", "unknown")), "X86_64", Level.OK, "for X86_64"),
        (manifest(("linux", "arm64")), "X86_64", Level.BAD, "built for ARM64"),
        (manifest(("linux", "amd64"), ("linux", "arm64")), "ARM64", Level.OK, "for ARM64"),
        ({"images": [], "failures": [{"failureCode": "ImageNotFound"}]}, "X86_64", Level.BAD, "there is no"),
        (
            Refused("RepositoryNotFoundException"),
            "X86_64",
            Level.BAD,
            "no repository photos/batch in account 123456789012",
        ),
        (Refused("AccessDeniedException"), "X86_64", Level.UNKNOWN, "can't be queried"),
    ],
)
def test_the_image_is_there_and_of_the_right_cpu(aws: Answers, answer: Any, cpu: str, level: Level, words: str) -> None:
    aws.on("ecr.BatchGetImage", answer)
    found = image.check(f"{ECR}:7", cpu)
    assert (found.level, words in found.said) == (level, True), found
    (asked,) = aws.made("ecr.BatchGetImage")
    assert asked["registryId"] == "123456789012"
    assert asked["imageIds"] == [{"imageTag": "7"}]


def test_an_image_without_an_index_says_its_cpu_in_its_configuration(
    aws: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"config": {"digest": "sha256:c"}}
    aws.on("ecr.BatchGetImage", {"images": [{"imageManifest": json.dumps(config)}]})
    aws.on("ecr.GetDownloadUrlForLayer", {"downloadUrl": "https://layer"})
    body = json.dumps({"architecture": "arm64", "os": "linux"}).encode()
    monkeypatch.setattr(image.urllib.request, "urlopen", lambda *_, **__: closing(io.BytesIO(body)))
    found = image.check(f"{ECR}@sha256:{'a' * 64}", "X86_64")
    assert (found.level, "-p CpuArchitecture=ARM64" in found.todo) == (Level.BAD, True)
    assert aws.made("ecr.GetDownloadUrlForLayer")[0]["layerDigest"] == "sha256:c"


def test_other_registries_are_not_asked(aws: Answers) -> None:
    assert image.check("ghcr.io/x/y:1", "X86_64").level is Level.UNKNOWN
    assert aws.calls == []


# --- network

GIVEN = {"VpcId": "vpc-1", "SubnetIds": "subnet-1,subnet-2", "AssignPublicIp": "DISABLED", "MaxWorkers": "20"}


def subnet(name: str, zone: str, free: int = 100, vpc: str = "vpc-1") -> dict[str, Any]:
    return {"SubnetId": name, "VpcId": vpc, "AvailabilityZone": zone, "AvailableIpAddressCount": free}


def route(**target: str) -> dict[str, Any]:
    return {"DestinationCidrBlock": "0.0.0.0/0", "State": "active", **target}


IGW, NAT = route(GatewayId="igw-1"), route(NatGatewayId="nat-1")
LOCAL = {"DestinationCidrBlock": "10.0.0.0/16", "GatewayId": "local"}


def set_up(aws: Answers, *routes: dict[str, Any], subnets: list[dict[str, Any]] | None = None) -> None:
    two = [subnet("subnet-1", "a"), subnet("subnet-2", "b")]
    aws.on("ec2.DescribeSubnets", {"Subnets": two if subnets is None else subnets})
    table = {"Routes": [LOCAL, *routes], "Associations": [{"Main": True}]}
    aws.on("ec2.DescribeRouteTables", {"RouteTables": [table]})


@pytest.mark.parametrize(
    ("way", "public", "level", "todo"),
    [
        (IGW, "ENABLED", Level.OK, ""),
        (IGW, "DISABLED", Level.BAD, "AssignPublicIp=ENABLED"),
        (NAT, "DISABLED", Level.OK, ""),
        (NAT, "ENABLED", Level.BAD, "AssignPublicIp=DISABLED"),
        (route(TransitGatewayId="tgw-1"), "DISABLED", Level.OK, ""),
    ],
)
def test_routes_fit_public_addresses(aws: Answers, way: dict[str, Any], public: str, level: Level, todo: str) -> None:
    set_up(aws, way)
    found = by_name(network.check(GIVEN | {"AssignPublicIp": public}))
    assert found["routes"].level is level
    assert todo in found["routes"].todo
    assert "endpoints" not in found


def test_a_subnets_own_table_comes_before_the_main_one(aws: Answers) -> None:
    set_up(aws)
    own = {"Routes": [NAT], "Associations": [{"SubnetId": "subnet-1"}, {"SubnetId": "subnet-2"}]}
    main = {"Routes": [IGW], "Associations": [{"Main": True}]}
    aws.on("ec2.DescribeRouteTables", {"RouteTables": [main, own]})
    assert "subnet-1: nat" in by_name(network.check(GIVEN))["routes"].said


def endpoints(*names: str) -> dict[str, Any]:
    entries = [{"ServiceName": f"com.amazonaws.eu-west-1.{name}", "State": "available"} for name in names]
    return {"VpcEndpoints": entries}


def test_without_a_way_out_every_endpoint_is_needed(aws: Answers) -> None:
    set_up(aws, route(NatGatewayId="nat-gone", State="blackhole"))
    aws.on("ec2.DescribeVpcEndpoints", endpoints("s3", "sqs", "ecr.api", "ecr.dkr"))
    found = by_name(network.check(GIVEN | {"Flower": "no"}))["endpoints"]
    assert (found.level, "no endpoint of logs" in found.said) == (Level.BAD, True)
    aws.on("ec2.DescribeVpcEndpoints", endpoints(*network.NEEDED))
    assert by_name(network.check(GIVEN | {"Flower": "no"}))["endpoints"].level is Level.OK
    assert "monitoring" in by_name(network.check(GIVEN))["endpoints"].said


@pytest.mark.parametrize(
    ("subnets", "level", "words"),
    [
        ([subnet("subnet-1", "a", 10), subnet("subnet-2", "b", 10)], Level.BAD, "20 free"),
        ([subnet("subnet-1", "a"), subnet("subnet-2", "a")], Level.WARNING, "in 1 zones"),
        ([subnet("subnet-1", "a", vpc="vpc-2")], Level.BAD, "not in vpc-1"),
    ],
)
def test_subnets_have_addresses_zones_and_the_vpc(
    aws: Answers, subnets: list[dict[str, Any]], level: Level, words: str
) -> None:
    set_up(aws, NAT, subnets=subnets)
    found = by_name(network.check(GIVEN))["subnets"]
    assert (found.level, words in found.said) == (level, True), found


def test_a_subnet_that_is_not_there_is_told_and_a_denied_question_is_no_fault(aws: Answers) -> None:
    aws.on("ec2.DescribeSubnets", Refused("InvalidSubnetID.NotFound"))
    assert [each.level for each in network.check(GIVEN)] == [Level.BAD]
    aws.on("ec2.DescribeSubnets", Refused("UnauthorizedOperation", 403))
    assert [each.level for each in network.check(GIVEN)] == [Level.UNKNOWN]


# --- quota

SIZE = {"MaxWorkers": "20", "WorkerCpu": "1024", "OnDemandWeight": "1", "SpotWeight": "4"}


def test_quotas_are_compared_by_the_shares_of_spot_and_on_demand(aws: Answers) -> None:
    allowed = {quota.ON_DEMAND: 6.0, quota.SPOT: 12.0}
    aws.on("service-quotas.GetServiceQuota", lambda asked: {"Quota": {"Value": allowed[asked["QuotaCode"]]}})
    found = by_name(quota.check(SIZE))
    assert found["Fargate vCPUs"].said == "4.5 needed at most, 6 allowed"
    assert found["Fargate vCPUs"].level is Level.OK
    assert found["Fargate Spot vCPUs"].said == "16 needed at most, 12 allowed"
    assert found["Fargate Spot vCPUs"].level is Level.WARNING  # it runs, with fewer workers


def test_an_account_that_never_asked_has_the_default_quota(aws: Answers) -> None:
    aws.on("service-quotas.GetServiceQuota", Refused("NoSuchResourceException"))
    aws.on("service-quotas.GetAWSDefaultServiceQuota", {"Quota": {"Value": 6.0}})
    assert {each.level for each in quota.check(SIZE | {"SpotWeight": "0"})} == {Level.WARNING}


def test_a_quota_that_may_not_be_asked_is_not_a_fault(aws: Answers) -> None:
    aws.on("service-quotas.GetServiceQuota", Refused("AccessDeniedException"))
    assert [each.level for each in quota.check(SIZE)] == [Level.UNKNOWN]


# --- permissions

ROLE = "arn:aws:sts::123456789012:assumed-role/ci/session"


def simulated(aws: Answers, *denied: str) -> None:
    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        results = [
            {
                "EvalActionName": action,
                "EvalResourceName": arn,
                # Each action knows one of the resources only.
                "EvalDecision": "implicitDeny" if action in denied or arn != asked["ResourceArns"][-1] else "allowed",
            }
            for action in asked["ActionNames"]
            for arn in asked["ResourceArns"]
        ]
        return {"EvaluationResults": results}

    aws.on("iam.SimulatePrincipalPolicy", answer)
    aws.on("iam.GetRole", Refused("AccessDenied", 403))


def asked_of(arn: str, service_role: str | None = None) -> CheckResult:
    here = Account("123456789012", "eu-west-1", arn)
    return permissions.check(here, "photos", TEMPLATE.parent, service_role=service_role)


def test_all_that_is_called_is_simulated_as_the_sessions_role(aws: Answers) -> None:
    simulated(aws)
    assert asked_of(ROLE).level is Level.OK
    calls = aws.made("iam.SimulatePrincipalPolicy")
    assert {call["PolicySourceArn"] for call in calls} == {"arn:aws:iam::123456789012:role/ci"}
    arns = {arn for call in calls for arn in call["ResourceArns"]}
    assert "arn:aws:sqs:eu-west-1:123456789012:photos-*" in arns
    assert not any("STACK" in arn or "ACCOUNT" in arn for arn in arns)


def test_what_is_denied_is_named_with_the_policy_that_has_it(aws: Answers) -> None:
    simulated(aws, "cloudformation:CreateChangeSet", "sqs:CreateQueue")
    found = asked_of(ROLE)
    assert found.level is Level.WARNING
    assert "cloudformation:CreateChangeSet, sqs:CreateQueue" in found.said
    assert "deployer-policy.json and service-role-policy.json in cloudformation/" in found.todo


def test_with_a_service_role_cloudformations_calls_are_not_the_callers(aws: Answers) -> None:
    simulated(aws, "sqs:CreateQueue")
    assert asked_of(ROLE, "arn:aws:iam::123456789012:role/photos-cloudformation").level is Level.OK
    simulated(aws, "iam:PassRole")
    assert asked_of(ROLE, "arn:aws:iam::123456789012:role/photos-cloudformation").level is Level.WARNING


def test_the_root_user_may_do_all_and_who_may_not_ask_is_not_known(aws: Answers) -> None:
    assert asked_of("arn:aws:iam::123456789012:root").level is Level.OK
    aws.on("iam.SimulatePrincipalPolicy", Refused("AccessDenied", 403))
    assert asked_of("arn:aws:iam::123456789012:user/me").level is Level.UNKNOWN


# --- what is printed


def test_each_verdict_is_a_line_and_what_to_do_another() -> None:
    found = [CheckResult(Level.BAD, "routes", "a\n b", "do it"), CheckResult(Level.OK, "image", "there")]
    assert list(lines(found)) == ["bad      routes: a b", "         → do it", "ok       image: there"]
    assert (status(found), status(found[1:]), status([CheckResult(Level.UNKNOWN, "a", "b")])) == (1, 0, 2)

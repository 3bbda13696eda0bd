"""The policies of the one who deploys, and of the role that CloudFormation works as: what is needed, and no more."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.session import Session

from tests.stack.iam import as_list
from tests.stack.resource_schemas import needed
from tests.stack.template import FOLDER, load

ROOT = Path(__file__).parents[2]
DEPLOYER, SERVICE = (json.loads((FOLDER / f"{name}-policy.json").read_text()) for name in ("deployer", "service-role"))
#: Characters of a managed policy, blanks apart.
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
MAX_CHARS = 6144

#: Verbs beside deploy, doctor and teardown.
OTHER_VERBS = {"environment.py", "live_check.py"}
SERVICES = ("cloudformation", "s3", "sqs", "sts", "iam", "ec2", "ecr", "ecs", "logs", "events", "service-quotas")
#: Where IAM calls an action, or a service, otherwise than the operation.
#: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html
ACTIONS = {
    "s3:HeadBucket": ["s3:ListBucket"],
    "s3:ListObjectVersions": ["s3:ListBucketVersions"],
    "s3:DeleteObjects": ["s3:DeleteObject", "s3:DeleteObjectVersion"],
    "s3:GetBucketNotificationConfiguration": ["s3:GetBucketNotification"],
    "s3:PutBucketNotificationConfiguration": ["s3:PutBucketNotification"],
    "s3:GetBucketEncryption": ["s3:GetEncryptionConfiguration"],
}


def actions(policy: dict[str, Any]) -> set[str]:
    return {action for statement in policy["Statement"] for action in as_list(statement["Action"])}


def called() -> Iterator[str]:
    """Of the sources: every operation of AWS that is named as a method, or for a paginator."""
    operations: dict[str, set[str]] = {}
    for service in SERVICES:
        prefix = "servicequotas" if service == "service-quotas" else service
        for name in Session().get_service_model(service).operation_names:
            operations.setdefault(xform_name(name), set()).add(f"{prefix}:{name}")
    sources = [path for path in (ROOT / "pipeline" / "deploy").rglob("*.py") if path.name not in OTHER_VERBS]
    for path in (*sources, ROOT / "pipeline" / "aws" / "queues.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = ""
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                name = node.func.attr
                if name == "get_paginator" and isinstance(node.args[0], ast.Constant):
                    name = str(node.args[0].value)
            for operation in operations.get(name, ()):
                yield from ACTIONS.get(operation, [operation])


def test_the_deployer_may_do_what_the_verbs_call_and_nothing_else() -> None:
    handed_on = {"iam:PassRole"}  # asked by CloudFormation, for its role
    assert actions(DEPLOYER) - handed_on == set(called())


@pytest.mark.parametrize("template", ["batch.yaml", "alarms.yaml"])
def test_cloudformations_role_may_do_what_aws_says_of_each_resource(template: str) -> None:
    kinds = {resource["Type"] for resource in load(template)["Resources"].values()}
    assert needed(kinds) <= actions(SERVICE)


def test_and_nothing_else() -> None:
    kinds = {
        resource["Type"] for name in ("batch.yaml", "alarms.yaml") for resource in load(name)["Resources"].values()
    }
    assert actions(SERVICE) <= needed(kinds)


@pytest.mark.parametrize("policy", [DEPLOYER, SERVICE], ids=["deployer", "service-role"])
def test_they_fit_in_a_managed_policy_and_name_their_resources(policy: dict[str, Any]) -> None:
    assert len("".join(json.dumps(policy, separators=(",", ":")).split())) <= MAX_CHARS
    for statement in policy["Statement"]:
        wide = statement["Resource"] == "*"
        assert wide == (statement["Sid"] in ("Ask", "NoNarrowerResource")), statement["Sid"]
        assert not any("*" in action for action in as_list(statement["Action"]))
    passed = next(each for each in policy["Statement"] if as_list(each["Action"]) == ["iam:PassRole"])
    assert passed["Condition"]["StringEquals"]["iam:PassedToService"]

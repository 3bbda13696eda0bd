"""A whole deployment on a modelled account: what is done in which order, and what is left when it fails."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline.core.errors import PipelineError
from pipeline.deploy import changes, follow, witness
from pipeline.deploy.deploy_command import deploy
from pipeline.deploy.wanted import Wanted
from tests.support.answers import Answers, Refused
from tests.unit.test_deploy_inputs import QUEUE, Bucket
from tests.unit.test_deploy_witness import stopped

#: A state of one resource, not of the stack.
BRIDGE_FAILED = "the bridge's service failed"
STACK_ID = "arn:aws:cloudformation:eu-west-1:123456789012:stack/photos/1"
PARAMETERS = {
    "Image": None,
    "VpcId": None,
    "SubnetIds": None,
    "AssignPublicIp": "DISABLED",
    "ExistingInputBuckets": "",
    "EventBridgeSwitchedOn": "",
}


class CloudFormation:
    """A stack that goes through ``states`` once its change set is executed, the last one staying."""

    def __init__(self, aws: Answers, *states: str, before: str | None = None) -> None:
        self._aws = aws
        self._states: Iterator[str] = iter(states)
        self._status = before
        self._events: list[dict[str, Any]] = []
        self.parameters: dict[str, str] = {}
        summary = [
            {"ParameterKey": name} | ({} if default is None else {"DefaultValue": default})
            for name, default in PARAMETERS.items()
        ]
        aws.on("sts.GetCallerIdentity", {"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/me"})
        aws.on("cloudformation.GetTemplateSummary", {"Parameters": summary})
        aws.on("cloudformation.CreateChangeSet", {"Id": "change-set", "StackId": STACK_ID})
        change = {"Action": "Add", "LogicalResourceId": "BridgeService", "ResourceType": "AWS::ECS::Service"}
        aws.on(
            "cloudformation.DescribeChangeSet",
            {"Status": "CREATE_COMPLETE", "Changes": [{"Type": "Resource", "ResourceChange": change}]},
        )
        aws.on("cloudformation.ExecuteChangeSet", {})
        aws.on("cloudformation.DeleteChangeSet", {})
        aws.on("cloudformation.DeleteStack", {})
        aws.on("cloudformation.DescribeStacks", self._describe)
        aws.on("cloudformation.ListStackResources", {"StackResourceSummaries": []})
        aws.on("cloudformation.DescribeStackEvents", lambda _: {"StackEvents": self._events})
        role = {"Path": "/", "RoleName": "x", "RoleId": "A" * 16, "Arn": "arn:aws:iam::1:role/xx", "CreateDate": 0}
        aws.on("iam.GetRole", {"Role": role})
        aws.on("ecs.ListTasks", {"taskArns": []})
        aws.on("ecs.DescribeServices", {"services": []})
        aws.on("logs.GetLogEvents", {"events": []})

    def _describe(self, _: object) -> dict[str, Any]:
        if self._aws.made("cloudformation.ExecuteChangeSet"):
            state = next(self._states, self._status)
            assert state is not None
            if state == BRIDGE_FAILED:  # the stack is still what it was
                self._events.insert(0, self._event("BridgeService", "CREATE_FAILED"))
            else:
                self._status = state
                self._events.insert(0, self._event("photos", state))
        if self._status is None and self._aws.made("cloudformation.CreateChangeSet"):
            return {"Stacks": [{"StackName": "photos", "StackStatus": "REVIEW_IN_PROGRESS", "CreationTime": 0}]}
        if self._status is None:
            raise Refused("ValidationError")
        parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in self.parameters.items()]
        found = {"StackName": "photos", "StackId": STACK_ID, "StackStatus": self._status, "CreationTime": 0}
        return {"Stacks": [{**found, "Parameters": parameters, "Outputs": []}]}

    def _event(self, name: str, status: str) -> dict[str, Any]:
        return {
            "StackId": STACK_ID,
            "EventId": str(len(self._events)),
            "StackName": "photos",
            "Timestamp": 0,
            "PhysicalResourceId": STACK_ID if name == "photos" else name,
            "LogicalResourceId": name,
            "ResourceType": "AWS::ECS::Service",
            "ResourceStatus": status,
            "ResourceStatusReason": "did not stabilize",
        }


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Answers:
    for module, name in ((changes, "POLL_S"), (follow, "POLL_S"), (witness, "PAUSE_S")):
        monkeypatch.setattr(module, name, 0)
    return Answers(monkeypatch)


@pytest.fixture
def wanted(tmp_path: Path) -> Wanted:
    template = tmp_path / "batch.yaml"
    template.write_text("{}")
    given = {"Image": "registry/image:1", "VpcId": "vpc-1", "SubnetIds": "subnet-1"}
    return Wanted("photos", given, template, input_buckets=("mine",), yes=True, unchecked=True)


def run(wanted: Wanted) -> str:
    text = io.StringIO()
    try:
        deploy(wanted, Console(file=text, width=300))
    except PipelineError as exc:
        return f"{text.getvalue()}\nError: {exc}"
    return text.getvalue()


def test_a_bucket_is_switched_on_after_the_stack_is_there_and_its_switch_is_recorded_before(
    aws: Answers, wanted: Wanted
) -> None:
    CloudFormation(aws, "CREATE_IN_PROGRESS", "CREATE_COMPLETE")
    bucket = Bucket(aws, QueueConfigurations=[QUEUE])
    text = run(wanted)
    assert (
        text.index("EventBridge will be switched on") < text.index("BridgeService") < text.index("Switched EventBridge")
    )
    assert bucket.notifications == {"QueueConfigurations": [QUEUE], "EventBridgeConfiguration": {}}
    order = [name for name, _ in aws.calls]
    assert order.index("cloudformation.ExecuteChangeSet") < order.index("s3.PutBucketNotificationConfiguration")
    (sent,) = aws.made("cloudformation.CreateChangeSet")
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in sent["Parameters"]}
    assert (parameters["ExistingInputBuckets"], parameters["EventBridgeSwitchedOn"]) == ("mine", "mine")
    assert {"Key": "batch-image-pipeline:stack", "Value": "photos"} in sent["Tags"]


def test_a_first_deployment_that_fails_tells_why_and_has_changed_nothing_of_the_bucket(
    aws: Answers, wanted: Wanted
) -> None:
    CloudFormation(aws, "CREATE_IN_PROGRESS", BRIDGE_FAILED, "ROLLBACK_IN_PROGRESS", "ROLLBACK_COMPLETE")
    bucket = Bucket(aws)
    task = stopped(1, "CannotPullContainerError: registry/image:1: not found")
    # Gone with the rollback: asked later, nobody would know.
    aws.on("ecs.ListTasks", {"taskArns": [task["taskArn"]]}, Refused("ClusterNotFoundException"))
    aws.on("ecs.DescribeTasks", {"tasks": [task]})
    text = run(wanted)
    seen, _, error = text.partition("\nError: ")
    assert "bridge: there is no such image" in seen
    assert "bridge: there is no such image" in error
    assert "ended as ROLLBACK_COMPLETE. The first cause: BridgeService" in error
    assert "nothing of it ever ran: correct the cause, and deploy again, which removes it" in error
    assert bucket.notifications == {}


@pytest.mark.parametrize("status", ["UPDATE_ROLLBACK_FAILED", "UPDATE_FAILED", "UPDATE_IN_PROGRESS", "DELETE_FAILED"])
def test_a_stack_that_cannot_be_changed_is_left_alone(aws: Answers, wanted: Wanted, status: str) -> None:
    CloudFormation(aws, before=status)
    bucket = Bucket(aws)
    assert f"stack photos is {'being changed' if 'PROGRESS' in status else status}" in run(wanted)
    assert not aws.made("cloudformation.CreateChangeSet")
    assert not aws.made("cloudformation.DeleteStack")
    assert bucket.notifications == {}


def test_an_update_after_a_rolled_back_import_is_an_update_and_keeps_what_was_recorded(
    aws: Answers, wanted: Wanted
) -> None:
    stack = CloudFormation(aws, "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE", before="IMPORT_ROLLBACK_COMPLETE")
    stack.parameters = {"ExistingInputBuckets": "mine", "EventBridgeSwitchedOn": "mine"}
    Bucket(aws, EventBridgeConfiguration={})
    run(Wanted("photos", wanted.given, wanted.template, yes=True, unchecked=True))
    (sent,) = aws.made("cloudformation.CreateChangeSet")
    assert sent["ChangeSetType"] == "UPDATE"
    assert sent["ImportExistingResources"] is False
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in sent["Parameters"]}
    assert parameters["EventBridgeSwitchedOn"] == "mine"
    assert not aws.made("s3.PutBucketNotificationConfiguration")


def test_looking_only_switches_nothing_on(aws: Answers, wanted: Wanted) -> None:
    CloudFormation(aws)
    bucket = Bucket(aws)
    text = run(Wanted("photos", wanted.given, wanted.template, input_buckets=("mine",), dry_run=True, unchecked=True))
    assert "Nothing was changed." in text
    assert bucket.notifications == {}
    assert aws.made("cloudformation.DeleteChangeSet")
    assert not aws.made("cloudformation.ExecuteChangeSet")
    assert not aws.made("iam.GetRole")


def test_a_bucket_that_is_not_there_ends_it_before_anything_is_proposed(aws: Answers, wanted: Wanted) -> None:
    CloudFormation(aws)
    Bucket(aws)
    aws.on("s3.HeadBucket", Refused("404", 404))
    assert "Error: bucket mine does not exist" in run(wanted)
    assert not aws.made("cloudformation.CreateChangeSet")

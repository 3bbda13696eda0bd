"""``deploy`` and ``teardown`` against an AWS server process, which takes the whole template."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner
from rich.console import Console

from pipeline.__main__ import cli
from pipeline.aws import clients
from pipeline.aws.errors import translate_errors
from pipeline.core.errors import PipelineError
from pipeline.deploy import account, drain
from pipeline.deploy.follow import Follower, StackEvent
from pipeline.deploy.preflight import permissions, quota
from pipeline.deploy.shown import follow, next_steps
from pipeline.deploy.wanted import TEMPLATE, read_template
from pipeline.local.stack import Emulator
from pipeline.operations.check_results import ok
from tests.stack.iam import Call, Grant, as_list
from tests.stack.test_deployer_policies import ACTIONS, DEPLOYER
from tests.support.account import Run, runner, signed_in

INPUT = "photos-input-123456789012-us-east-1"
OUTPUT = "photos-output-123456789012-us-east-1"
POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "s3.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": "arn:aws:sqs:us-east-1:123456789012:photos-events",
            }
        ],
    }
)


@pytest.fixture
def cloud(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    monkeypatch.setattr(quota, "check", lambda _: ())  # of which the server knows nothing
    monkeypatch.setattr(permissions, "check", lambda *_, **__: ok("permissions", "not asked"))  # nor of this
    with signed_in(emulator, monkeypatch):
        yield emulator


@pytest.fixture
def run(cloud: Emulator, tmp_path: Path) -> Run:
    return runner(tmp_path, ("deploy", "doctor"))


def test_first_deployment_needs_only_an_image(cloud: Emulator) -> None:
    result = CliRunner().invoke(cli, ["deploy", "--stack", "photos", "--image", "registry/image:1", "--yes"])
    assert result.exit_code == 0, result.output
    assert "the default VPC" in result.output
    assert "Made the role AWSServiceRoleForECS" in result.output
    assert "WorkerService" in result.output
    stack = account.describe("photos")
    assert stack is not None
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    parameters = {entry["ParameterKey"]: entry["ParameterValue"] for entry in stack["Parameters"]}
    assert (parameters["Image"], parameters["AssignPublicIp"]) == ("registry/image:1", "ENABLED")
    queues = [url.rsplit("/", 1)[-1] for url in cloud.client("sqs").list_queues()["QueueUrls"]]
    assert sorted(queues) == ["photos-events", "photos-events-dlq", "photos-tasks", "photos-tasks-dlq"]
    assert {bucket["Name"] for bucket in cloud.client("s3").list_buckets()["Buckets"]} == {INPUT, OUTPUT}


def test_update_keeps_what_is_not_given(run: Run) -> None:
    run("deploy", "--image", "registry/image:1", "-p", "MaxWorkers=7", "--yes")
    result = run("deploy", "-p", "MinWorkers=2", "--yes")
    assert result.exit_code == 0, result.output
    assert "Made the role" not in result.output
    stack = account.describe("photos")
    assert stack is not None
    parameters = {entry["ParameterKey"]: entry["ParameterValue"] for entry in stack["Parameters"]}
    assert {name: parameters[name] for name in ("Image", "MaxWorkers", "MinWorkers")} == {
        "Image": "registry/image:1",
        "MaxWorkers": "7",
        "MinWorkers": "2",
    }


def test_dry_run_shows_and_changes_nothing(run: Run, cloud: Emulator) -> None:
    result = run("deploy", "--image", "registry/image:1", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "InputBucket" in result.output
    assert "Nothing was changed." in result.output
    assert account.describe("photos") is None
    assert cloud.client("sqs").list_queues().get("QueueUrls", []) == []
    roles = [role["RoleName"] for role in cloud.client("iam").list_roles()["Roles"]]
    assert roles == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--yes",), "Image must be given"),
        (("--image", "registry/image:1"), "it can't ask for confirmation"),
        (("--yes", "--image", "registry/image:1", "-p", "MaxWorker=3"), "no parameter MaxWorker"),
        (("--image", "registry/image:1", "-p", "MaxWorkers"), "is not NAME=VALUE"),
        (("--image", "registry/image:1", "--vpc", "vpc-1"), "belong together"),
        (("--yes", "--image", "registry/image:1", "--network", "nowhere"), "stack nowhere is not a network"),
        (("--yes", "--image", "registry/image:1", "--stack", "Photos"), "lower-case"),
        (("--yes", "--image", "registry/image:1", "--stack", "p" * 29), "at most 28"),
        (("--image", "x", "--dry-run"), "names no registry"),
        (("--image", "registry/image:1", "-p", "MinWorkers=30", "--dry-run"), "MinWorkers can't be above MaxWorkers"),
        (
            ("--image", "registry/image:1", "-p", "SoftTimeLimit=200", "--dry-run"),
            "must be above SOFT_TIME_LIMIT_S=200",
        ),
        (
            ("--image", "registry/image:1", "-p", "WorkerMemory=600", "--dry-run"),
            "Fargate takes WorkerMemory from 2048",
        ),
        (("--yes", "--image", "registry/image:1", "--template", "/nowhere.yaml"), "/nowhere.yaml: cannot be read"),
    ],
)
def test_mistakes_get_one_plain_sentence(run: Run, arguments: tuple[str, ...], message: str) -> None:
    result = run("deploy", *arguments)
    assert result.exit_code in (1, 2)
    assert message in result.output
    assert "Traceback" not in result.output
    assert account.describe("photos") is None


def test_a_bucket_of_somebody_else_is_neither_taken_over_nor_deleted(run: Run, cloud: Emulator) -> None:
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket=INPUT)
    result = run("deploy", "--image", "registry/image:1", "--yes")
    assert result.exit_code == 1
    assert f"bucket {INPUT} exists, and no stack called photos made it" in result.output
    assert account.describe("photos") is None
    run("deploy", "--image", "registry/image:1", "-p", "InputBucketName=uploads-of-photos", "--yes")
    result = run("teardown", "--yes", "--delete-data")
    assert result.exit_code == 0, result.output
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == [INPUT]


def test_doctor_tells_the_same_and_changes_nothing(run: Run, cloud: Emulator) -> None:
    result = run("doctor", "--image", "registry/image:1")
    assert result.exit_code == 0, result.output
    assert "ok       routes: subnet-" in result.stdout
    assert "nothing is wrong; 1 could not be checked." in result.stdout  # the registry
    result = run("doctor", "--image", "x", "-p", "MinWorkers=30", "--json")
    assert result.exit_code == 1
    wrong = {each["what"] for each in json.loads(result.stdout) if each["level"] == "bad"}
    assert wrong == {"image name", "workers"}
    assert account.describe("photos") is None
    assert run("doctor").exit_code == 2  # no image: the check itself failed


def test_network_stack_gives_the_network(run: Run, cloud: Emulator) -> None:
    body = TEMPLATE.with_name("network.yaml").read_text()
    cloud.client("cloudformation").create_stack(StackName="net", TemplateBody=body)
    offered = account.network_of("net")
    assert (len(offered.subnets), offered.public_ip) == (2, False)
    result = run("deploy", "--image", "registry/image:1", "--network", "net", "--yes")
    assert result.exit_code == 0, result.output
    stack = account.describe("photos")
    assert stack is not None
    parameters = {entry["ParameterKey"]: entry["ParameterValue"] for entry in stack["Parameters"]}
    assert (parameters["VpcId"], parameters["AssignPublicIp"]) == (offered.vpc, "DISABLED")


def test_without_credentials_it_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    clients.forget_clients()
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    result = run("deploy", "--image", "registry/image:1", "--yes")
    assert (result.exit_code, "no AWS credentials" in result.output) == (1, True)


def test_without_a_region_it_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    clients.forget_clients()
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    with pytest.raises(PipelineError, match="no AWS region"), translate_errors("x"):
        clients.client("cloudformation")


# --- teardown


def test_teardown_keeps_the_buckets(run: Run, cloud: Emulator) -> None:
    run("deploy", "--image", "registry/image:1", "--yes")
    cloud.client("s3").put_object(Bucket=INPUT, Key="a.jpg", Body=b"1")
    result = run("teardown", "--yes")
    assert result.exit_code == 0, result.output
    assert f"Kept {INPUT}" in result.output
    assert account.describe("photos") is None
    assert cloud.client("s3").get_object(Bucket=INPUT, Key="a.jpg")["Body"].read() == b"1"
    assert cloud.client("sqs").list_queues().get("QueueUrls", []) == []


def test_teardown_deletes_all_versions_when_told_to(run: Run, cloud: Emulator) -> None:
    run("deploy", "--image", "registry/image:1", "--yes")
    s3 = cloud.client("s3")
    # The server's CloudFormation leaves this out.
    s3.put_bucket_versioning(Bucket=INPUT, VersioningConfiguration={"Status": "Enabled"})
    for body in (b"1", b"2"):
        s3.put_object(Bucket=INPUT, Key="a.jpg", Body=body)
    s3.delete_object(Bucket=INPUT, Key="a.jpg")
    s3.put_object(Bucket=OUTPUT, Key="thumbs/a.jpg", Body=b"3")
    result = run("teardown", "--delete-data", "--yes")
    assert result.exit_code == 0, result.output
    assert f"Removed {INPUT} and 3 versions" in result.output
    assert s3.list_buckets()["Buckets"] == []


def test_teardown_sweeps_only_queues_of_processes_of_this_stack(run: Run, cloud: Emulator) -> None:
    run("deploy", "--image", "registry/image:1", "--yes")
    sqs = cloud.client("sqs")
    left = ["photos-0123456789abcdef0123-pidbox", "photos-celeryev-0123456789abcdef0123"]
    others = ["photos-two-events", "photos-notes", "else-0123456789abcdef0123-pidbox"]
    for name in left + others:
        sqs.create_queue(QueueName=name)
    result = run("teardown", "--yes")
    assert result.exit_code == 0, result.output
    assert sorted(url.rsplit("/", 1)[-1] for url in sqs.list_queues()["QueueUrls"]) == sorted(others)


def test_teardown_does_not_lose_work(run: Run, cloud: Emulator) -> None:
    run("deploy", "--image", "registry/image:1", "--yes")
    sqs = cloud.client("sqs")
    events = sqs.get_queue_url(QueueName="photos-events")["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=events, Attributes={"Policy": POLICY})
    sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName="photos-tasks")["QueueUrl"], MessageBody="work")
    result = run("teardown", "--yes", "--drain", "1")
    assert result.exit_code == 1
    assert "about 1 message left after 1 s" in result.output
    assert "Nothing was deleted, and uploads are taken again. Those since 20" in result.output
    assert account.describe("photos") is not None
    policy = sqs.get_queue_attributes(QueueUrl=events, AttributeNames=["Policy"])["Attributes"]["Policy"]
    assert json.loads(policy) == json.loads(POLICY)  # uploads are taken again
    result = run("teardown", "--yes", "--no-drain")
    assert result.exit_code == 0, result.output


def test_draining_takes_no_more_events(run: Run, cloud: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    run("deploy", "--image", "registry/image:1", "--yes")
    sqs = cloud.client("sqs")
    events = sqs.get_queue_url(QueueName="photos-events")["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=events, Attributes={"Policy": POLICY})
    seen: list[str] = []

    def look(name: str) -> int:
        found = sqs.get_queue_attributes(QueueUrl=events, AttributeNames=["Policy"]).get("Attributes", {})
        seen.append(found.get("Policy", ""))
        return 0

    monkeypatch.setattr(drain, "depth", look)
    result = run("teardown", "--yes")
    assert result.exit_code == 0, result.output
    assert set(seen[2:]) == {""}  # the first two looks are at the dead letters, before


def test_teardown_tells_of_dead_letters(run: Run, cloud: Emulator) -> None:
    run("deploy", "--image", "registry/image:1", "--yes")
    sqs = cloud.client("sqs")
    sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName="photos-tasks-dlq")["QueueUrl"], MessageBody="dead")
    result = run("teardown")
    assert "About 1 dead letter will be lost" in result.output
    assert "it can't ask for confirmation" in result.output
    assert account.describe("photos") is not None


def test_teardown_of_nothing(run: Run) -> None:
    result = run("teardown", "--yes")
    assert (result.exit_code, "there is no stack photos" in result.output) == (1, True)


# --- what the one who deploys must be allowed


def _call(service: str, operation: str, asked: Mapping[str, Any]) -> Iterator[Call]:
    """As IAM sees it."""
    account_id, region = "123456789012", "us-east-1"
    prefix = "servicequotas" if service == "service-quotas" else service
    resource = "*"
    if "StackName" in asked or "ChangeSetName" in asked:
        resource = f"arn:aws:cloudformation:{region}:{account_id}:stack/photos/1"
    elif "Bucket" in asked:
        resource = f"arn:aws:s3:::{asked['Bucket']}"
        if operation == "DeleteObjects":
            resource += "/a.jpg"
    elif "QueueUrl" in asked or "QueueName" in asked:
        name = asked.get("QueueName", asked.get("QueueUrl", "").rsplit("/", 1)[-1])
        resource = f"arn:aws:sqs:{region}:{account_id}:{name}"
    elif service == "ecs":
        resource = f"arn:aws:ecs:{region}:{account_id}:service/photos/worker"
    elif service == "iam" and operation != "SimulatePrincipalPolicy":
        resource = f"arn:aws:iam::{account_id}:role/{account.ECS_ROLE}"
    for action in ACTIONS.get(f"{service}:{operation}", [f"{prefix}:{operation}"]):
        yield Call(action, resource)


def test_what_was_called_is_what_the_deployers_policy_allows(
    run: Run, cloud: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: set[Call] = set()

    def record(params: Mapping[str, Any], model: Any, **_: Any) -> None:
        recorded.update(_call(model.service_model.endpoint_prefix, model.name, params))

    session = boto3.session.Session()
    session.events.register("before-parameter-build", record)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)
    clients.forget_clients()
    for arguments in (
        ("deploy", "--image", "registry/image:1", "--yes"),
        ("deploy", "-p", "MaxWorkers=7", "--yes"),
        ("deploy", "--dry-run"),
        ("teardown", "--yes", "--delete-data"),
    ):
        result = run(*arguments)
        assert result.exit_code == 0, result.output
    text = json.dumps(DEPLOYER)
    for name, value in {"REGION": "us-east-1", "ACCOUNT": "123456789012", "STACK": "photos"}.items():
        text = text.replace(name, value)
    allowed = [
        Grant(statement["Sid"], action, tuple(as_list(statement["Resource"])))
        for statement in json.loads(text)["Statement"]
        for action in as_list(statement["Action"])
    ]
    assert len(recorded) > 20
    denied = [call for call in recorded if not any(grant.allows(call) for grant in allowed)]
    assert not denied


# --- what the server can't show: failures


class _CloudFormation:
    """A CloudFormation whose stack goes through the given states, with the events of each."""

    def __init__(self, *turns: tuple[str, list[tuple[str, str, str]]]) -> None:
        self._turns = list(turns)
        self._events: list[dict[str, Any]] = []

    def describe_stacks(self, StackName: str) -> dict[str, Any]:  # noqa: N803
        status, events = self._turns.pop(0)
        for name, state, reason in events:
            self._events.insert(0, _event(len(self._events), name, state, reason))
        return {"Stacks": [{"StackStatus": status, "StackStatusReason": "because"}]}

    def get_paginator(self, name: str) -> _CloudFormation:
        assert name == "describe_stack_events"
        return self

    def paginate(self, StackName: str) -> list[dict[str, Any]]:  # noqa: N803
        return [{"StackEvents": list(self._events)}]


def _event(number: int, name: str, status: str, reason: str) -> dict[str, Any]:
    return {
        "EventId": str(number),
        "LogicalResourceId": name,
        "PhysicalResourceId": "stack-id" if name == "photos" else name,
        "ResourceType": "AWS::SQS::Queue",
        "ResourceStatus": status,
        "ResourceStatusReason": reason,
    }


def _follower(monkeypatch: pytest.MonkeyPatch, *turns: tuple[str, list[tuple[str, str, str]]]) -> Follower:
    monkeypatch.setattr(clients, "client", lambda _: _CloudFormation(*turns))
    return Follower("stack-id", sleep=lambda _: None)


def test_follower_reports_each_event_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    follower = _follower(
        monkeypatch,
        ("CREATE_IN_PROGRESS", [("photos", "CREATE_IN_PROGRESS", ""), ("A", "CREATE_IN_PROGRESS", "")]),
        ("CREATE_IN_PROGRESS", [("A", "CREATE_COMPLETE", ""), ("B", "CREATE_IN_PROGRESS", "")]),
        ("CREATE_COMPLETE", [("B", "CREATE_COMPLETE", "")]),
    )
    seen: list[StackEvent] = []
    assert follower.until_rest(seen.append) == "CREATE_COMPLETE"
    assert [(event.name, event.finished) for event in seen] == [("A", False), ("A", True), ("B", False), ("B", True)]


def test_a_stack_that_has_not_begun_is_not_taken_for_done(monkeypatch: pytest.MonkeyPatch) -> None:
    follower = _follower(
        monkeypatch,
        ("UPDATE_ROLLBACK_COMPLETE", []),
        ("UPDATE_ROLLBACK_COMPLETE", []),
        ("UPDATE_IN_PROGRESS", [("photos", "UPDATE_IN_PROGRESS", "")]),
        ("UPDATE_COMPLETE", [("photos", "UPDATE_COMPLETE", "")]),
    )
    assert follower.until_rest(lambda _: None) == "UPDATE_COMPLETE"


def test_a_failure_is_told_with_its_first_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    follower = _follower(
        monkeypatch,
        (
            "CREATE_IN_PROGRESS",
            [("photos", "CREATE_IN_PROGRESS", ""), ("A", "CREATE_FAILED", "Resource creation cancelled")],
        ),
        ("ROLLBACK_IN_PROGRESS", [("B", "CREATE_FAILED", "no such image"), ("C", "CREATE_FAILED", "later")]),
        ("ROLLBACK_COMPLETE", []),
    )
    text = io.StringIO()
    with pytest.raises(PipelineError, match=r"ended as ROLLBACK_COMPLETE. The first cause: B .*: no such image"):
        follow(follower, 3, Console(file=text, width=200))
    assert "CREATE_FAILED B (SQS::Queue): no such image" in text.getvalue()


def test_outputs_and_next_steps_are_printed(cloud: Emulator) -> None:
    body = read_template(TEMPLATE)
    parameters = [{"ParameterKey": "Image", "ParameterValue": "i"}]
    parameters += [
        {"ParameterKey": name, "ParameterValue": value}
        for name, value in account.default_network().parameters().items()
    ]
    # Not through a change set: the server computes outputs only here.
    cloud.client("cloudformation").create_stack(StackName="photos", TemplateBody=body, Parameters=parameters)
    text = io.StringIO()
    next_steps("photos", Console(file=text, width=400))
    assert f"aws s3 cp photo.jpg s3://{INPUT}/" in text.getvalue()
    assert "aws ssm start-session --target ecs:photos_${t##*/}_$r" in text.getvalue()


def test_template_is_where_the_verb_looks_for_it() -> None:
    assert Path(__file__).parents[2] / "cloudformation" / "batch.yaml" == TEMPLATE

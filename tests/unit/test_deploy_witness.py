"""Why containers did not start, kept before a rollback removes it."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from pipeline.deploy import reasons
from pipeline.deploy.carrying_out import failure_text, remove_failed
from pipeline.deploy.follow import StackFailed
from pipeline.deploy.wanted import Wanted
from pipeline.deploy.witness import ServiceProblem, Witness
from tests.support.answers import Answers, Refused

CLUSTER = "arn:aws:ecs:eu-west-1:123456789012"
LATER = datetime.now(UTC) + timedelta(days=1)
EARLIER = datetime.now(UTC) - timedelta(days=1)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 60
        return self.now


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Answers:
    answers = Answers(monkeypatch)
    answers.on("ecs.ListTasks", {"taskArns": []})
    answers.on("ecs.DescribeServices", {"services": []})
    answers.on("logs.GetLogEvents", Refused("ResourceNotFoundException"))
    return answers


def witness() -> Witness:
    return Witness("photos", clock=Clock())


def stopped(number: int, reason: str, **more: Any) -> dict[str, Any]:
    return {
        "taskArn": f"{CLUSTER}:task/photos/{number:032x}",
        "group": "service:bridge",
        "lastStatus": "STOPPED",
        "stopCode": "TaskFailedToStart",
        "stoppedReason": reason,
        "createdAt": LATER,
        "containers": [{"name": "bridge"}],
    } | more


def tasks(aws: Answers, *found: dict[str, Any]) -> None:
    aws.on("ecs.ListTasks", {"taskArns": [task["taskArn"] for task in found]})
    aws.on("ecs.DescribeTasks", {"tasks": list(found)})


#: As the Developer Guide shows them, and what is to be understood of each.
SAID = {
    "CannotPullContainerError: pull image manifest has been retried 5 time(s): failed to resolve ref "
    "1.dkr.ecr.eu-west-1.amazonaws.com/b:2: 1.dkr.ecr.eu-west-1.amazonaws.com/b:2: not found": "there is no such image",
    "CannotPullContainerError: image Manifest does not contain descriptor matching platform 'linux/amd64'": "CPU",
    "CannotPullContainerError: ref pull has been retried 1 time(s): failed to copy: httpReadSeeker: failed open: "
    "unexpected status code https://registry-1.docker.io/v2/x: 429 Too Many Requests - toomanyrequests": "downloads",
    "CannotPullContainerError: Error response from daemon: Get https://1.dkr.ecr.eu-west-1.amazonaws.com/v2/: "
    "net/http: request canceled while waiting for connection": "can't reach",
    "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: unable "
    "to retrieve secret from asm: service call has been retried 5 time(s): failed to fetch secret": "Flower's password",
    "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: failed to "
    "create Cloudwatch log stream: ResourceNotFoundException: The specified log group does not exist.": "log can't be",
    "CannotPullContainerError: pull access denied for x, repository does not exist or may require authorization: "
    "server message: insufficient_scope": "does not let this account",
    "Task failed container health checks": "did not get healthy",
    "OutOfMemoryError: Container killed due to memory usage": "more memory",
    "Timeout waiting for network interface provisioning to complete.": "no address",
    "You've reached the limit on the number of vCPUs you can run concurrently": "quota",
    "Capacity is unavailable at this time. Please try again later or in a different availability zone": "no free",
    "Essential container in task exited": "program in the container ended",
}


@pytest.mark.parametrize("said", SAID, ids=lambda said: said[:60])
def test_what_ecs_says_is_put_into_plain_words_with_what_to_do(said: str) -> None:
    reason = reasons.find(said)
    assert reason is not None
    assert SAID[said] in reason.plain
    assert reason.todo


def test_the_reason_is_told_once_though_every_replacement_fails(aws: Answers) -> None:
    here = witness()
    reason = "CannotPullContainerError: b:2: not found"
    tasks(aws, stopped(1, reason))
    (finding,) = here.look()
    assert list(finding.lines()) == [
        f"bridge: there is no such image ({reason})",
        f"    What to do: {finding.reason.todo if finding.reason else ''}.",
    ]
    tasks(aws, stopped(2, reason))
    assert here.look() == []
    assert here.found == [finding]


def test_the_last_lines_of_the_log_of_a_program_that_ended(aws: Answers) -> None:
    aws.on("logs.GetLogEvents", {"events": [{"message": "ROUTES=x: no module\n"}, {"message": "bye"}]})
    tasks(
        aws,
        stopped(
            7,
            "Essential container in task exited",
            stopCode="EssentialContainerExited",
            containers=[{"name": "bridge", "exitCode": 1}],
        ),
    )
    (finding,) = witness().look()
    assert (finding.said, finding.log) == (
        "Essential container in task exited; exit code 1",
        ("ROUTES=x: no module", "bye"),
    )
    (asked,) = aws.made("logs.GetLogEvents")
    assert (asked["logGroupName"], asked["logStreamName"]) == ("/photos/bridge", f"ecs/bridge/{7:032x}")


def test_a_wrong_cpu_shows_in_the_log_alone(aws: Answers) -> None:
    aws.on("logs.GetLogEvents", {"events": [{"message": "exec /usr/local/bin/python: exec format error"}]})
    tasks(aws, stopped(1, "Essential container in task exited", stopCode="EssentialContainerExited"))
    (finding,) = witness().look()
    assert finding.reason is not None
    assert "another kind of CPU" in finding.reason.plain


def test_events_of_a_service_count_unless_all_is_well_or_they_are_old(aws: Answers) -> None:
    def event(number: int, text: str, at: datetime = LATER) -> dict[str, Any]:
        return {"id": str(number), "createdAt": at, "message": text}

    limit = "You've reached the limit on the number of vCPUs you can run concurrently"
    blocked = f"(service worker) was unable to place a task. Reason: {limit}."
    service = {
        "serviceName": "worker",
        "events": [
            event(3, blocked),
            event(2, "(service worker) has started 1 tasks: (task x)."),
            event(1, "(service worker) was unable to place a task: long ago", EARLIER),
        ],
    }
    aws.on("ecs.DescribeServices", {"services": [service]})
    (finding,) = witness().look()
    assert finding.said == blocked
    assert finding.reason is not None
    assert "quota" in finding.reason.plain


@pytest.mark.parametrize(
    "task",
    [
        stopped(1, "Scaling activity initiated by (deployment ecs-svc/1)", stopCode="ServiceSchedulerInitiated"),
        stopped(1, "CannotPullContainerError: not found", createdAt=EARLIER),
        stopped(1, "", lastStatus="STOPPING"),
    ],
    ids=["an update's", "from before", "not yet at its end"],
)
def test_what_is_no_fault_of_this_deployment_is_left_out(aws: Answers, task: dict[str, Any]) -> None:
    tasks(aws, task)
    assert witness().look() == []


def test_a_failed_health_check_is_a_fault_though_the_scheduler_stops_it(aws: Answers) -> None:
    text = "Task failed container health checks"
    tasks(aws, stopped(1, text, stopCode="ServiceSchedulerInitiated"))
    assert [finding.said for finding in witness().look()] == [text]


def test_in_a_cluster_that_is_shared_only_the_stacks_own_services_count(aws: Answers) -> None:
    gone = "CannotPullContainerError: not found"
    tasks(aws, stopped(1, gone, group="service:shop"), stopped(2, gone, group="service:photos-worker"))
    here = Witness("photos", cluster="shared", clock=Clock())
    assert [finding.service for finding in here.look()] == ["worker"]
    assert aws.made("ecs.DescribeServices")[0]["services"] == ["photos-bridge", "photos-worker", "photos-flower"]
    assert aws.made("logs.GetLogEvents")[0]["logGroupName"] == "/photos/worker"


def test_ecs_is_asked_now_and_then_and_its_errors_are_not_the_deployments(aws: Answers) -> None:
    times = iter([0.0, 1.0, 11.0])
    here = Witness("photos", clock=lambda: next(times))
    aws.on("ecs.ListTasks", Refused("ClusterNotFoundException"))
    assert [here.look(), here.look(), here.look()] == [[], [], []]
    assert len(aws.made("ecs.ListTasks")) == 2


def test_a_failed_deployment_ends_with_the_evidence_and_the_way_out() -> None:
    here = Witness("photos")
    here.found.append(ServiceProblem("bridge", "not found", reasons.find("not found")))
    text = failure_text("photos", StackFailed("ROLLBACK_COMPLETE", "the stack ended as ROLLBACK_COMPLETE."), here)
    assert "bridge: there is no such image" in text
    assert "nothing of it ever ran" in text
    assert "deploy again" in text


def test_a_queue_whose_policy_never_holds_is_told_as_that() -> None:
    cause = (
        "the stack ended as ROLLBACK_COMPLETE. The first cause: InputBucket (AWS::S3::Bucket): Unable to validate the "
    )
    text = failure_text(
        "photos", StackFailed("ROLLBACK_COMPLETE", f"{cause}following destination configurations"), Witness("photos")
    )
    assert "S3 could not test the queue, 3 times in a row" in text
    assert "teardown" not in text


@pytest.mark.parametrize(("status", "removed"), [("ROLLBACK_COMPLETE", True), ("UPDATE_ROLLBACK_FAILED", False)])
def test_a_creation_that_was_rolled_back_is_removed_by_the_next_deployment(
    aws: Answers, status: str, removed: bool
) -> None:
    states = [status, "DELETE_IN_PROGRESS", "DELETE_COMPLETE"]

    def described(_: object) -> dict[str, Any]:
        found = states[0] if not aws.made("cloudformation.DeleteStack") else states[-1]
        return {"Stacks": [{"StackName": "photos", "StackId": "id", "StackStatus": found, "CreationTime": 0}]}

    def events(_: object) -> dict[str, Any]:
        event = {
            "StackId": "id",
            "EventId": "1",
            "StackName": "photos",
            "Timestamp": 0,
            "PhysicalResourceId": "id",
            "LogicalResourceId": "photos",
            "ResourceType": "AWS::CloudFormation::Stack",
            "ResourceStatus": "DELETE_COMPLETE",
        }
        return {"StackEvents": [event] if aws.made("cloudformation.DeleteStack") else []}

    aws.on("cloudformation.DescribeStacks", described)
    aws.on("cloudformation.DescribeStackEvents", events)
    aws.on("cloudformation.DeleteStack", {})
    remove_failed(Wanted("photos", {}, yes=True), Console(file=io.StringIO()))
    assert bool(aws.made("cloudformation.DeleteStack")) == removed

"""``--stack``: a verb works with the settings of the stack's workers, and with no others."""

from __future__ import annotations

import os
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pipeline.__main__ import cli
from pipeline.cli.deploying import offer
from pipeline.cli.stack_option import of_stack
from pipeline.cli.verb_errors import Asking, Group
from pipeline.core.settings import Settings
from tests.support.answers import Answers, Refused

CLUSTER = "arn:aws:ecs:eu-west-1:123456789012:cluster/photos"
#: They take no settings, or make or remove the stack itself.
WITHOUT = {"local", "settings", "health"}


def stack(**outputs: str) -> dict[str, Any]:
    entries = [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()]
    return {
        "Stacks": [{"StackName": "photos", "StackStatus": "UPDATE_COMPLETE", "CreationTime": 0, "Outputs": entries}]
    }


def definition(role: str, **environ: str) -> dict[str, Any]:
    variables = [{"name": name, "value": value} for name, value in environ.items()]
    return {"taskDefinition": {"containerDefinitions": [{"name": role, "environment": variables}]}}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Answers:
    answers = Answers(monkeypatch)
    definitions = {
        "worker:7": definition(
            "worker", QUEUE_PREFIX="photos-", RESIZE_BOX="640x480", THUMB_BOX="64x64", AWS_DEFAULT_REGION="eu-west-1"
        ),
        "bridge:3": definition("bridge", QUEUE_PREFIX="photos-", KEY_PREFIX="2026/", THUMB_BOX="1x1"),
    }
    answers.on("cloudformation.DescribeStacks", stack(ClusterName="photos"))
    answers.on(
        "ecs.DescribeServices",
        lambda asked: {
            "services": [
                {"serviceName": name, "taskDefinition": {"w": "worker:7", "b": "bridge:3"}[name.split("-")[-1][0]]}
                for name in asked["services"]
            ]
        },
    )
    answers.on("ecs.DescribeTaskDefinition", lambda asked: definitions[asked["taskDefinition"]])
    return answers


def asked(*arguments: str, command: type[click.Command] = click.Command) -> tuple[Any, dict[str, Any]]:
    seen: dict[str, Any] = {}

    @click.command(cls=command)
    @of_stack
    def look() -> None:
        seen["settings"] = Settings.from_env()
        seen["region"] = os.environ.get("AWS_DEFAULT_REGION")

    group = Group()
    group.add_command(look)
    return CliRunner().invoke(group, ["look", *arguments]), seen


def test_settings_are_the_workers_and_the_bridges_and_nobody_elses(
    aws: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESIZE_BOX", "9x9")
    monkeypatch.setenv("OUTPUT_FORMAT", "webp")  # of this shell; the workers have the default
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    before = dict(os.environ)
    result, seen = asked("--stack", "photos")
    assert result.exit_code == 0, result.output
    settings = seen["settings"]
    assert (settings.resize_box, settings.thumb_box) == ((640, 480), (64, 64))
    assert (settings.queue_prefix, settings.key_prefix) == ("photos-", "2026/")
    assert settings.output_format == Settings().output_format
    assert seen["region"] == "us-east-1"  # where the verb looks is the caller's business
    assert dict(os.environ) == before


def test_without_the_option_nothing_is_asked(aws: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESIZE_BOX", "999x999")
    _, seen = asked()
    assert seen["settings"].resize_box == (999, 999)
    assert aws.calls == []


def test_in_a_shared_cluster_the_services_are_called_as_the_stack_says(aws: Answers) -> None:
    outputs = {"ClusterName": "shared", "WorkerServiceName": "photos-worker", "BridgeServiceName": "photos-bridge"}
    aws.on("cloudformation.DescribeStacks", stack(**outputs))
    result, _ = asked("--stack", "photos")
    assert result.exit_code == 0, result.output
    assert aws.made("ecs.DescribeServices") == [{"cluster": "shared", "services": ["photos-bridge", "photos-worker"]}]


@pytest.mark.parametrize(
    ("operation", "answer", "message"),
    [
        ("cloudformation.DescribeStacks", Refused("ValidationError"), "there is no stack photos"),
        ("cloudformation.DescribeStacks", stack(), "has no output ClusterName"),
        ("ecs.DescribeServices", {"services": []}, "has no service bridge in cluster photos"),
        ("ecs.DescribeTaskDefinition", Refused("AccessDeniedException"), "may not call DescribeTaskDefinition"),
    ],
)
@pytest.mark.parametrize(("kind", "status"), [(click.Command, 1), (Asking, 2)])
def test_what_cannot_be_read_is_one_sentence_and_the_verbs_own_status(
    aws: Answers, operation: str, answer: Any, message: str, kind: type[click.Command], status: int
) -> None:
    aws.on(operation, answer)
    result, seen = asked("--stack", "photos", command=kind)
    assert (result.exit_code, message in result.output, seen) == (status, True, {}), result.output


def verbs(group: click.Group, before: str = "") -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        found |= verbs(command, f"{name} ") if isinstance(command, click.Group) else {before + name: command}
    return found


@pytest.mark.parametrize("name", sorted(set(verbs(cli)) - WITHOUT))
def test_every_verb_takes_a_stack(name: str) -> None:
    assert any("--stack" in parameter.opts for parameter in verbs(cli)[name].params)


def test_hours_are_those_of_the_stack_s_own_workers(aws: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    found = stack(ClusterName="photos")
    found["Stacks"][0]["Parameters"] = [
        {"ParameterKey": key, "ParameterValue": value}
        for key, value in {"MaxWorkers": "50", "WorkerCpu": "512"}.items()
    ]
    aws.on("cloudformation.DescribeStacks", found)
    given: list[float] = []
    monkeypatch.setattr("pipeline.operations.adopt.adopt_command.adopt", lambda _, *, vcpus, **__: given.append(vcpus))
    for options in (["--stack", "photos"], ["--stack", "photos", "--vcpus", "3"], []):
        result = CliRunner().invoke(cli, ["adopt", "s3://uploads", "--dry-run", *options])
        assert result.exit_code == 0, result.output
    assert given == [25, 3, 20]


@pytest.mark.parametrize("agreed", [True, False])
def test_what_was_in_the_buckets_before_is_offered_once_the_stack_is_there(
    aws: Answers, monkeypatch: pytest.MonkeyPatch, agreed: bool
) -> None:
    asked_for: list[str] = []
    adopted: list[str] = []
    found = stack(ClusterName="photos")
    found["Stacks"][0]["Parameters"] = [
        {"ParameterKey": key, "ParameterValue": "1024"} for key in ("MaxWorkers", "WorkerCpu")
    ]
    aws.on("cloudformation.DescribeStacks", found)

    def confirm(question: str, **_: Any) -> bool:
        asked_for.append(question)
        return agreed

    def adopt(target: str, **_: Any) -> int:
        assert Settings.from_env().queue_prefix == "photos-"  # those of the stack
        adopted.append(target)
        return 0

    monkeypatch.setattr("click.confirm", confirm)
    monkeypatch.setattr("pipeline.operations.adopt.adopt_command.adopt", adopt)
    offer(["s3://one/", "s3://two/2026/"], "photos")
    assert asked_for == [
        f"Look at what is in {place}, and what to process it would cost?" for place in ("s3://one/", "s3://two/2026/")
    ]
    assert adopted == (["s3://one/", "s3://two/2026/"] if agreed else [])

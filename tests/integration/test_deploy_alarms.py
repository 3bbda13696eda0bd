"""The alarms' stack beside the pipeline's: made, changed and removed with it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.deploy import account, buckets, shown
from pipeline.deploy.wanted import TEMPLATE
from pipeline.local.stack import Emulator
from tests.support.account import Run, runner, signed_in


@pytest.fixture
def cloud(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with signed_in(emulator, monkeypatch):
        yield emulator


@pytest.fixture
def run(cloud: Emulator, tmp_path: Path) -> Run:
    """With the alarms as they are."""
    shutil.copy(TEMPLATE.with_name("alarms.yaml"), tmp_path)
    return runner(tmp_path, ("deploy",), "--unchecked")


def parameters(stack: str) -> dict[str, str]:
    found = account.describe(stack)
    assert found is not None
    return account.parameters_of(found)


def test_a_deployment_makes_the_alarms_and_each_parameter_finds_its_stack(run: Run, cloud: Emulator) -> None:
    result = run("deploy", "--image", "i", "-p", "AlarmEmail=me@example.com", "-p", "MaxWorkers=7", "--yes")
    assert result.exit_code == 0, result.output
    found = parameters("photos-alarms")
    assert (found["Pipeline"], found["AlarmEmail"], found["MaxWorkers"]) == ("photos", "me@example.com", "7")
    assert parameters("photos")["MaxWorkers"] == "7"
    assert "AlarmEmail" not in parameters("photos")
    (topic,) = cloud.client("sns").list_topics()["Topics"][-1:]
    assert topic["TopicArn"].endswith(":photos-alarms")


def test_alarms_keep_what_is_not_given_and_follow_the_pipeline(run: Run) -> None:
    run("deploy", "--image", "i", "-p", "AlarmEmail=me@example.com", "-p", "MaxTaskAge=900", "--yes")
    result = run("deploy", "-p", "MaxWorkers=9", "-p", "MaxFailures=3", "--yes")
    assert result.exit_code == 0, result.output
    found = parameters("photos-alarms")
    assert [found[name] for name in ("AlarmEmail", "MaxTaskAge", "MaxWorkers", "MaxFailures")] == [
        "me@example.com",
        "900",
        "9",
        "3",
    ]


def test_a_dry_run_makes_no_alarms(run: Run) -> None:
    result = run("deploy", "--image", "i", "-p", "AlarmEmail=me@example.com", "--dry-run")
    assert result.exit_code == 0, result.output
    assert account.describe("photos-alarms") is None


@pytest.mark.parametrize("name", ["AlarmMail", "Pipeline"])
def test_what_no_template_takes_is_refused(run: Run, name: str) -> None:
    result = run("deploy", "--image", "i", "-p", f"{name}=x", "--yes")
    assert (result.exit_code, f"no parameter {name}" in result.output) == (1, True)
    assert account.describe("photos") is None


def test_teardown_removes_the_alarms_too(run: Run) -> None:
    run("deploy", "--image", "i", "--yes")
    assert account.describe("photos-alarms") is not None
    result = run("teardown", "--yes", "--no-drain")
    assert result.exit_code == 0, result.output
    assert account.describe("photos-alarms") is None
    assert account.describe("photos") is None
    assert buckets.exists("photos-input-123456789012-us-east-1")


def test_the_end_of_a_deployment_tells_where_the_dashboard_is(run: Run, cloud: Emulator) -> None:
    run("deploy", "--image", "i", "--yes")
    # Not through a change set: the server computes outputs only here.
    client = cloud.client("cloudformation")
    client.delete_stack(StackName="photos-alarms")
    body = TEMPLATE.with_name("alarms.yaml").read_text()
    values = [{"ParameterKey": "Pipeline", "ParameterValue": "photos"}]
    client.create_stack(StackName="photos-alarms", TemplateBody=body, Parameters=values)
    text = io.StringIO()
    shown.next_steps("photos", Console(file=text, width=400))
    assert "#dashboards:name=photos" in text.getvalue()

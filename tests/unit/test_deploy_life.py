"""A stack's life on a modelled account: deployed, torn down, deployed again; and what comes between."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import click
import pytest
from rich.console import Console

from pipeline.core.errors import PipelineError
from pipeline.deploy import carrying_out, changes, follow, proof, witness
from pipeline.deploy.deploy_command import deploy
from pipeline.deploy.teardown import teardown
from pipeline.deploy.wanted import TEMPLATE, Wanted
from tests.support.answers import Answers, Refused
from tests.support.aws_model import Account, Bucket

INPUT, OUTPUT = (f"photos-{side}-123456789012-eu-west-1" for side in ("input", "output"))
GIVEN = {"Image": "registry/image:1", "VpcId": "vpc-1", "SubnetIds": "subnet-1"}
TOO_EARLY = "Unable to validate the following destination configurations (Service: S3, Status Code: 400)"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Account:
    for module, name in (
        (changes, "POLL_S"),
        (follow, "POLL_S"),
        (witness, "PAUSE_S"),
        (proof, "POLL_S"),
        (carrying_out, "NAME_FREE_S"),
    ):
        monkeypatch.setattr(module, name, 0)
    monkeypatch.setattr(follow, "BEGIN_S", 0)
    return Account(Answers(monkeypatch))


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """Without the alarms beside it."""
    path = tmp_path / "batch.yaml"
    path.write_text(TEMPLATE.read_text())
    return path


def run(template: Path, *, dry_run: bool = False, buckets: tuple[str, ...] = (), **given: str) -> str:
    text = io.StringIO()
    wanted = Wanted(
        "photos", GIVEN | given, template, input_buckets=buckets, yes=not dry_run, dry_run=dry_run, unchecked=True
    )
    try:
        deploy(wanted, Console(file=text, width=300))
    except PipelineError as exc:
        return f"{text.getvalue()}\nError: {exc}"
    return text.getvalue()


def tear_down(*, delete_data: bool = False) -> str:
    text = io.StringIO()
    teardown("photos", delete_data=delete_data, yes=True, drain_s=0, console=Console(file=text, width=300))
    return text.getvalue()


def test_buckets_that_were_kept_are_taken_over_with_all_that_is_in_them(account: Account, template: Path) -> None:
    text = run(template)
    assert "Done." in text
    assert set(account.buckets) == {INPUT, OUTPUT}
    before = account.buckets[INPUT]
    assert f"Kept {INPUT}; a stack of the same name takes it over." in tear_down()
    assert set(account.buckets) == {INPUT, OUTPUT}

    text = run(template)
    assert text.count("was left by an earlier stack of this name; it is taken over as it is") == 2
    assert "Done." in text
    (sent,) = account.aws.made("cloudformation.CreateChangeSet")[1:]
    assert sent["ImportExistingResources"] is True
    assert account.buckets[INPUT] is before
    stack = account.named("photos")
    assert stack is not None
    assert {stack.resources[name] for name in ("InputBucket", "OutputBucket")} == {
        ("AWS::S3::Bucket", INPUT),
        ("AWS::S3::Bucket", OUTPUT),
    }
    assert "Nothing to change" in run(template)


def test_the_workers_may_write_what_the_renditions_need_and_no_more(account: Account, template: Path) -> None:
    def arns(**given: str) -> str:
        assert "Done." in run(template, **given)
        (*_, sent) = account.aws.made("cloudformation.CreateChangeSet")
        return {each["ParameterKey"]: each["ParameterValue"] for each in sent["Parameters"]}["RenditionArns"]

    account.buckets["site"] = Bucket()
    assert arns() == ""
    made = f"arn:aws:s3:::{OUTPUT}"
    five = "thumbs=192x192:cover,medium=640x480:webp,large@2x=2048x1536,sizes/tiny<thumbs=32x32"
    assert arns(Renditions=five) == f"{made}/large@2x/*,{made}/medium/*,{made}/sizes/tiny/*"
    assert arns(MaxWorkers="5") == f"{made}/large@2x/*,{made}/medium/*,{made}/sizes/tiny/*"  # as the stack has them
    assert arns(OwnFolder="sizes/") == f"{made}/large@2x/*,{made}/medium/*"  # that one is granted already
    assert arns(Settings="RENDITIONS=thumbs=9x9,small=99x99") == f"{made}/small/*"  # it wins over the parameter
    below = "arn:aws:s3:::site/previews/medium/*"
    elsewhere = {"Settings": "", "ExistingOutputBucket": "site", "OutputPrefix": "previews/"}
    assert arns(**elsewhere, Renditions="medium=99x99") == below
    assert arns(Renditions="") == ""


def test_an_update_takes_over_what_an_earlier_update_left(account: Account, template: Path) -> None:
    """From the stack's own bucket to one that was there, and back."""
    account.buckets["mine"] = Bucket()
    run(template)
    run(template, buckets=("mine",))
    stack = account.named("photos")
    assert stack is not None
    assert "InputBucket" not in stack.resources
    assert account.buckets["mine"].notifications == {"EventBridgeConfiguration": {}}
    text = run(template, ExistingInputBuckets="")
    assert f"Bucket {INPUT} was left by an earlier stack" in text
    assert "Done." in text
    assert stack.resources["InputBucket"] == ("AWS::S3::Bucket", INPUT)


def test_a_bucket_of_that_name_that_no_stack_made_is_left_alone(account: Account, template: Path) -> None:
    account.buckets[OUTPUT] = Bucket(tags={"team": "web"}, objects=["index.html"])
    text = run(template)
    assert f"bucket {OUTPUT} exists, and no stack called photos made it, so it is left alone" in text
    assert account.stacks == {}


def test_a_name_that_a_stranger_has_taken_is_told_before_anything_is_made(account: Account, template: Path) -> None:
    account.buckets[INPUT] = Bucket(owner="210987654321")
    assert f"the name {INPUT} is taken" in run(template)
    assert account.stacks == {}


def test_teardown_deletes_no_bucket_that_the_stack_did_not_make(
    account: Account, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.buckets |= {"mine": Bucket(objects=["a.jpg"]), "site": Bucket(objects=["index.html"])}
    assert "Done." in run(template, buckets=("mine",), ExistingOutputBucket="site", OutputPrefix="previews/")
    tear_down(delete_data=True)
    assert set(account.buckets) == {"mine", "site"}
    assert account.buckets["mine"].notifications == {}
    assert not account.aws.made("s3.DeleteObjects")


def test_where_s3_comes_before_the_policy_holds_it_is_done_again_without_asking(
    account: Account, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.failures = [TOO_EARLY, TOO_EARLY]
    text = run(template)
    assert text.count("S3 tested the queue before SQS had applied its policy") == 2
    assert "Done." in text
    assert [stack.status for stack in account.stacks.values()] == ["DELETE_COMPLETE"] * 2 + ["CREATE_COMPLETE"]


def test_and_given_up_where_it_never_holds(account: Account, template: Path) -> None:
    account.failures = [TOO_EARLY] * 9
    text = run(template)
    assert "Error: the stack ended as ROLLBACK_COMPLETE" in text
    assert "look at the policy of the events queue" in text
    assert len(account.stacks) == carrying_out.TRIES


def test_an_update_is_tried_again_too_and_deletes_nothing_for_that(account: Account, template: Path) -> None:
    account.buckets["mine"] = Bucket()
    run(template, buckets=("mine",))
    account.failures = [TOO_EARLY]
    text = run(template, ExistingInputBuckets="")
    assert "trying again" in text
    assert "Done." in text
    assert not account.aws.made("cloudformation.DeleteStack")


def test_any_other_failure_is_not_tried_again(account: Account, template: Path) -> None:
    account.failures = ["Access Denied"]
    assert "InputBucket (AWS::S3::Bucket): Access Denied" in run(template)
    assert len(account.stacks) == 1


# --- what nobody plans: two at once, interruptions, throttling, credentials that expire


def test_one_who_says_no_does_not_delete_the_stack_that_another_has_begun(account: Account, template: Path) -> None:
    looked = account.aws.answer("cloudformation.DescribeChangeSet")

    def overtaken(asked: dict[str, Any]) -> Any:
        found = looked(asked)
        stack = account.named("photos")
        assert stack is not None
        stack.event("CREATE_IN_PROGRESS")  # the other one's change set, on the same stack under review
        return found

    account.aws.on("cloudformation.DescribeChangeSet", overtaken)
    assert "Nothing was changed." in run(template, dry_run=True)
    assert account.aws.made("cloudformation.DeleteChangeSet")
    assert not account.aws.made("cloudformation.DeleteStack")


def test_one_who_is_overtaken_is_told_so(account: Account, template: Path) -> None:
    account.aws.on("cloudformation.ExecuteChangeSet", Refused("InvalidChangeSetStatus"))
    assert "somebody else has changed the stack since these changes were shown" in run(template)


def test_two_at_once_do_not_meet_under_one_name(account: Account, template: Path) -> None:
    run(template, dry_run=True)
    run(template, dry_run=True)
    names = [asked["ChangeSetName"] for asked in account.aws.made("cloudformation.CreateChangeSet")]
    assert len(set(names)) == 2
    assert all(re.fullmatch("[a-zA-Z][-a-zA-Z0-9]{0,127}", name) for name in names)


def test_an_interruption_while_the_changes_are_worked_out_leaves_nothing(account: Account, template: Path) -> None:
    looked = account.aws.answer("cloudformation.DescribeChangeSet")
    account.aws.on("cloudformation.DescribeChangeSet", KeyboardInterrupt(), looked)
    with pytest.raises(KeyboardInterrupt):
        run(template)
    assert [stack.status for stack in account.stacks.values()] == ["DELETE_COMPLETE"]
    assert "Done." in run(template)


def test_an_interruption_while_nobody_has_agreed_leaves_nothing(
    account: Account, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: str) -> bool:
        raise click.Abort

    monkeypatch.setattr("click.confirm", interrupted)
    wanted = Wanted("photos", GIVEN, template, unchecked=True)
    with pytest.raises(click.Abort):
        deploy(wanted, Console(file=io.StringIO(), force_terminal=True))
    assert [stack.status for stack in account.stacks.values()] == ["DELETE_COMPLETE"]


@pytest.mark.parametrize("trouble", [KeyboardInterrupt(), Refused("ExpiredToken", 403)], ids=["Ctrl-C", "expired"])
def test_what_is_left_after_an_interruption_is_done_by_the_next_run(
    account: Account, template: Path, trouble: BaseException
) -> None:
    account.buckets["mine"] = Bucket()
    events = account.aws.answer("cloudformation.DescribeStackEvents")
    asked_for = iter([events])

    def away(asked: dict[str, Any]) -> Any:
        answer = next(asked_for, None)
        if answer is None:
            raise trouble
        return answer(asked)

    account.aws.on("cloudformation.DescribeStackEvents", away)
    text = ""
    try:
        text = run(template, buckets=("mine",))
    except KeyboardInterrupt:
        text = "The deployment goes on in AWS"
    assert "The deployment goes on in AWS" in text
    assert account.buckets["mine"].notifications == {}
    account.aws.on("cloudformation.DescribeStackEvents", events)
    text = run(template)  # the stack has its parameters
    assert "Nothing to change" in text
    assert "Switched EventBridge on for mine" in text
    stack = account.named("photos")
    assert stack is not None
    assert stack.parameters["EventBridgeSwitchedOn"] == "mine"  # teardown knows


def test_a_second_run_while_the_first_goes_on_waits_for_it(account: Account, template: Path) -> None:
    run(template)
    stack = account.named("photos")
    assert stack is not None
    stack.event("UPDATE_IN_PROGRESS")
    text = run(template, MaxWorkers="7")
    assert "stack photos is being changed (UPDATE_IN_PROGRESS): wait until that is done, then deploy again" in text


def test_throttled_looks_do_not_end_a_deployment(account: Account, template: Path) -> None:
    stacks = account.aws.answer("cloudformation.DescribeStacks")

    def executed(asked: dict[str, Any]) -> Any:
        if account.aws.made("cloudformation.ExecuteChangeSet") and account.busy:
            account.busy -= 1
            raise Refused("Throttling", 400, "Rate exceeded")
        return stacks(asked)

    account.aws.on("cloudformation.DescribeStacks", executed)
    account.busy = 0

    def begun(asked: dict[str, Any]) -> Any:
        found = execute(asked)
        account.busy = follow.MISSES - 1
        return found

    execute = account.aws.answer("cloudformation.ExecuteChangeSet")
    account.aws.on("cloudformation.ExecuteChangeSet", begun)
    assert "Done." in run(template)


def test_a_teardown_that_was_interrupted_is_gone_on_with(account: Account, template: Path) -> None:
    account.buckets["mine"] = Bucket()
    run(template, buckets=("mine",))
    account.buckets[OUTPUT].objects = ["resized/a.jpg"]
    delete = account.aws.answer("cloudformation.DeleteStack")

    def interrupted(asked: dict[str, Any]) -> Any:
        delete(asked)
        raise KeyboardInterrupt

    account.aws.on("cloudformation.DeleteStack", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tear_down(delete_data=True)
    account.aws.on("cloudformation.DeleteStack", delete)
    assert account.buckets["mine"].notifications == {}  # before the stack, which alone knew of it
    text = tear_down(delete_data=True)
    assert "is gone; this is left of it" in text
    assert f"Removed {OUTPUT} and 1 version of objects in it." in text
    assert set(account.buckets) == {"mine"}
    with pytest.raises(PipelineError, match="there is no stack photos in eu-west-1"):
        tear_down(delete_data=True)


def test_a_bucket_of_another_region_is_refused_with_the_reason(account: Account, template: Path) -> None:
    account.buckets |= {"far": Bucket(region="us-west-2"), "near": Bucket()}
    assert "bucket far is in us-west-2: deploy there, events do not cross regions" in run(template, buckets=("far",))
    text = run(template, buckets=("near",), ExistingOutputBucket="far")
    assert "bucket far is in us-west-2: deploy there, each rendition would cross regions" in text
    assert account.stacks == {}


def test_a_notification_of_the_same_prefix_that_is_there_already_stays(account: Account, template: Path) -> None:
    theirs = {"Id": "x", "LambdaFunctionArn": "arn:aws:lambda:eu-west-1:123456789012:function:f"}
    theirs |= {
        "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "a/"}]}},
    }
    account.buckets["mine"] = Bucket(notifications={"LambdaFunctionConfigurations": [theirs]})
    text = run(template, buckets=("mine",), KeyPrefix="a/")
    assert "its own 1 notifications stay as they are" in text
    assert account.buckets["mine"].notifications == {
        "LambdaFunctionConfigurations": [theirs],
        "EventBridgeConfiguration": {},
    }
    tear_down()
    assert account.buckets["mine"].notifications == {"LambdaFunctionConfigurations": [theirs]}


def test_one_where_eventbridge_is_on_already_keeps_it_after_the_teardown(account: Account, template: Path) -> None:
    account.buckets["mine"] = Bucket(notifications={"EventBridgeConfiguration": {}})
    assert "nothing of it is changed" in run(template, buckets=("mine",))
    tear_down()
    assert account.buckets["mine"].notifications == {"EventBridgeConfiguration": {}}
    assert not account.aws.made("s3.PutBucketNotificationConfiguration")


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (
            {f"t{n}": "x" for n in range(49)},
            "51 tags, two of them the pipeline's own: AWS allows a stack 50; leave out 1",
        ),
        ({"t": "x" * 257}, "its value has at most 256"),
        ({"x" * 129: "v"}, "a tag's name has 1 to 128 characters"),
        ({"aws:x": "v"}, "does not begin with aws:"),
    ],
)
def test_tags_that_aws_would_refuse(account: Account, template: Path, tags: dict[str, str], message: str) -> None:
    wanted = Wanted("photos", GIVEN, template, yes=True, unchecked=True, tags=tags)
    with pytest.raises(PipelineError, match=re.escape(message)):
        deploy(wanted, Console(file=io.StringIO()))
    assert account.stacks == {}


def test_boundary_and_path_reach_every_role(account: Account, template: Path) -> None:
    boundary = "arn:aws:iam::123456789012:policy/bound"
    assert "Done." in run(template, RolePath="/teams/photos/", PermissionsBoundary=boundary)
    stack = account.named("photos")
    assert stack is not None
    roles = stack.template.resources("AWS::IAM::Role")
    assert {role["Properties"]["Path"] for role in roles.values()} == {"/teams/photos/"}
    assert {role["Properties"]["PermissionsBoundary"] for role in roles.values()} == {boundary}


# --- with no worker running, an update shows that one would start


def at_zero(account: Account, *tasks: dict[str, Any]) -> None:
    service = account.service("worker") | {"desiredCount": 0}
    account.aws.on("ecs.DescribeServices", {"services": [service]})
    first, *later = ({"taskArn": "arn:aws:ecs:eu-west-1:123456789012:task/photos/1"} | task for task in tasks)
    account.aws.on("ecs.RunTask", {"tasks": [first]})
    account.aws.on("ecs.DescribeTasks", *({"tasks": [task]} for task in later or [first]))
    account.aws.on("ecs.StopTask", {})
    account.aws.on("logs.GetLogEvents", {"events": [{"message": "ConfigError: QUALITY=900"}]})


def test_an_update_at_zero_workers_starts_one_before_it_is_done(account: Account, template: Path) -> None:
    at_zero(
        account,
        {"lastStatus": "PROVISIONING"},
        {"lastStatus": "PENDING", "healthStatus": "UNKNOWN"},
        {"lastStatus": "RUNNING", "healthStatus": "UNKNOWN"},
        {"lastStatus": "RUNNING", "healthStatus": "HEALTHY"},
    )
    text = run(template)
    assert text.index("A worker was started, became healthy, and was stopped again") < text.index("Done.")
    (asked,) = account.aws.made("ecs.RunTask")
    assert asked["taskDefinition"].endswith("/photos-worker:1")
    assert asked["networkConfiguration"] == {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}
    assert len(account.aws.made("ecs.StopTask")) == 1


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (
            {
                "lastStatus": "STOPPED",
                "stopCode": "EssentialContainerExited",
                "stoppedReason": "Essential container in task exited",
            },
            "the program in the container ended",
        ),
        ({"lastStatus": "RUNNING", "healthStatus": "UNHEALTHY"}, "the container did not get healthy"),
    ],
)
def test_and_one_that_does_not_start_is_no_success(
    account: Account, template: Path, last: dict[str, Any], message: str
) -> None:
    at_zero(account, {"lastStatus": "PROVISIONING"}, last)
    text = run(template)
    assert "Error: stack photos is deployed, but a worker of it does not start, so uploads would wait:" in text
    assert message in text
    assert "ConfigError: QUALITY=900" in text
    assert "Done." not in text
    assert len(account.aws.made("ecs.StopTask")) == (last["lastStatus"] != "STOPPED")


def test_where_no_task_may_be_run_it_says_so_and_goes_on(account: Account, template: Path) -> None:
    at_zero(account, {"lastStatus": "PROVISIONING"})
    account.aws.on("ecs.RunTask", Refused("AccessDeniedException"))
    text = run(template)
    assert "these credentials may not start one to see whether it can (ecs:RunTask" in text
    assert "Done." in text


def test_a_worker_that_is_tried_is_stopped_whatever_happens(account: Account, template: Path) -> None:
    at_zero(account, {"lastStatus": "PROVISIONING"})
    account.aws.on("ecs.DescribeTasks", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(template)
    assert len(account.aws.made("ecs.StopTask")) == 1


def test_nothing_is_tried_where_workers_run(account: Account, template: Path) -> None:
    assert "Done." in run(template)
    assert not account.aws.made("ecs.RunTask")

"""Buckets that people have: EventBridge is switched on and off again, and all else stays as it is."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from pipeline.core.errors import PipelineError
from pipeline.deploy import account, drain, inputs, teardown
from pipeline.deploy.account import Account
from pipeline.deploy.deploy_command import _inputs, _switch
from tests.support.answers import Answers, Refused

HERE = Account(id="123456789012", region="eu-west-1", arn="arn:aws:iam::123456789012:user/me")
QUEUE = {"Id": "theirs", "QueueArn": "arn:aws:sqs:eu-west-1:123456789012:theirs", "Events": ["s3:ObjectCreated:*"]}
TOPIC = {"Id": "t", "TopicArn": "arn:aws:sns:eu-west-1:123456789012:t", "Events": ["s3:ObjectRemoved:*"]}
KEY = "arn:aws:kms:eu-west-1:123456789012:key/1"


class Bucket:
    """As S3 keeps it: a put replaces all."""

    def __init__(self, aws: Answers, **notifications: Any) -> None:
        self.notifications: dict[str, Any] = notifications
        aws.on("s3.HeadBucket", {"BucketRegion": "eu-west-1"})
        aws.on("s3.GetBucketEncryption", Refused("ServerSideEncryptionConfigurationNotFoundError", 404))
        aws.on("s3.GetBucketNotificationConfiguration", lambda _: dict(self.notifications))
        aws.on("s3.PutBucketNotificationConfiguration", self._put)

    def _put(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert asked["SkipDestinationValidation"] is True  # else S3 sends a test message to each of their queues
        self.notifications = asked["NotificationConfiguration"]
        return {}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Answers:
    return Answers(monkeypatch)


def test_switching_on_and_off_again_leaves_the_bucket_as_it_was(aws: Answers) -> None:
    before = {"QueueConfigurations": [QUEUE], "TopicConfigurations": [TOPIC]}
    bucket = Bucket(aws, **before)
    inputs.switch_on("photos")
    assert bucket.notifications == {**before, "EventBridgeConfiguration": {}}
    inputs.switch_off("photos")
    assert bucket.notifications == before


def test_what_was_changed_in_between_is_kept_too(aws: Answers) -> None:
    bucket = Bucket(aws)
    inputs.switch_on("photos")
    bucket.notifications["QueueConfigurations"] = [QUEUE]
    inputs.switch_off("photos")
    assert bucket.notifications == {"QueueConfigurations": [QUEUE]}


def test_a_bucket_that_has_it_on_is_not_written_to(aws: Answers) -> None:
    Bucket(aws, EventBridgeConfiguration={})
    inputs.switch_on("photos")
    assert not aws.made("s3.PutBucketNotificationConfiguration")


def test_what_will_change_is_told_first(aws: Answers) -> None:
    Bucket(aws, QueueConfigurations=[QUEUE])
    found = inputs.look("photos", HERE)
    assert list(inputs.describe(found)) == [
        "Bucket photos: EventBridge will be switched on; nothing else of it is changed; its own 1 notifications stay "
        "as they are."
    ]
    assert aws.made("s3.HeadBucket")[0]["ExpectedBucketOwner"] == HERE.id
    assert not aws.made("s3.PutBucketNotificationConfiguration")


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (Refused("404", 404), "does not exist"),
        (Refused("403", 403), "is not this account's, or these credentials may not list it"),
        ({"BucketRegion": "us-east-1"}, "is in us-east-1: deploy there"),
    ],
)
def test_a_bucket_that_cannot_be_taken_from_is_refused(aws: Answers, head: Any, message: str) -> None:
    Bucket(aws)
    aws.on("s3.HeadBucket", head)
    with pytest.raises(PipelineError, match=message):
        inputs.look("photos", HERE)


def encrypted(key: str) -> dict[str, Any]:
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}}
    return {"ServerSideEncryptionConfiguration": {"Rules": [rule]}}


@pytest.mark.parametrize(("key", "needed"), [(KEY, KEY), ("arn:aws:kms:eu-west-1:1:alias/aws/s3", "")])
def test_what_follows_from_the_buckets_becomes_parameters(aws: Answers, key: str, needed: str) -> None:
    Bucket(aws)
    aws.on("s3.GetBucketEncryption", encrypted(key))
    values = {"ExistingInputBuckets": "one,two", "EventBridgeSwitchedOn": "old"}
    declared = dict.fromkeys(("ExistingInputBuckets", "EventBridgeSwitchedOn", "InputKmsKeyArns"), "")
    _inputs("photos", values, declared, HERE, Console(file=io.StringIO()))
    assert values.get("InputKmsKeyArns", "") == needed
    assert values["EventBridgeSwitchedOn"] == "old,one,two"


def test_an_output_bucket_that_is_there_has_to_be_and_its_key_becomes_a_parameter(aws: Answers) -> None:
    Bucket(aws)
    aws.on("s3.GetBucketEncryption", encrypted(KEY))
    values = {"ExistingOutputBucket": "site"}
    assert _inputs("photos", values, {"OutputKmsKeyArn": ""}, HERE, Console(file=io.StringIO())) == []
    assert values["OutputKmsKeyArn"] == KEY
    aws.on("s3.HeadBucket", Refused("404", 404))
    with pytest.raises(PipelineError, match="bucket site does not exist"):
        _inputs("photos", values, {}, HERE, Console(file=io.StringIO()))


def test_what_was_on_before_is_not_recorded_as_ours(aws: Answers) -> None:
    Bucket(aws, EventBridgeConfiguration={})
    values = {"ExistingInputBuckets": "one"}
    found = _inputs("photos", values, {"EventBridgeSwitchedOn": ""}, HERE, Console(file=io.StringIO()))
    assert values["EventBridgeSwitchedOn"] == ""
    _switch(found, values, "photos", Console(file=io.StringIO()))
    assert not aws.made("s3.PutBucketNotificationConfiguration")


def test_after_switching_on_the_way_to_what_is_there_already_is_shown(aws: Answers) -> None:
    bucket = Bucket(aws)
    text = io.StringIO()
    _switch([inputs.look("mine", HERE)], {"KeyPrefix": "2026/"}, "photos", Console(file=text, width=200))
    assert bucket.notifications == {"EventBridgeConfiguration": {}}
    assert "python -m pipeline adopt s3://mine/2026/ --stack photos" in text.getvalue()


# --- at the end


def rules(aws: Answers, *found: tuple[str, str]) -> None:
    aws.on("events.ListRules", {"Rules": [{"Name": name, "EventPattern": pattern} for name, pattern in found]})


OURS = ("photos-uploads", '{"source":["aws.s3"],"detail":{"bucket":{"name":["mine"]}}}')


@pytest.mark.parametrize(
    ("others", "left_on"),
    [
        ([], False),
        ([("theirs", '{"source":["aws.s3"],"detail":{"bucket":{"name":["other"]}}}')], False),
        ([("theirs", '{"source":["aws.ec2"]}')], False),
        ([("theirs", '{"source":["aws.s3"],"detail":{"bucket":{"name":["mine"]}}}')], True),
        ([("all", '{"source":["aws.s3"]}')], True),
    ],
)
def test_teardown_takes_back_what_deploy_switched_on_unless_others_need_it(
    aws: Answers, others: list[tuple[str, str]], left_on: bool
) -> None:
    bucket = Bucket(aws, EventBridgeConfiguration={}, QueueConfigurations=[QUEUE])
    rules(aws, OURS, *others)
    text = io.StringIO()
    ours = teardown.Belongings("photos", buckets=(), inputs=("mine",), switched_on=("mine",))
    teardown._take_back(ours, Console(file=text, width=200))
    assert ("EventBridgeConfiguration" in bucket.notifications) == left_on
    assert bucket.notifications["QueueConfigurations"] == [QUEUE]
    assert ("Left EventBridge on" in text.getvalue()) == left_on


def test_what_cannot_be_taken_back_is_told_and_the_rest_goes_on(aws: Answers) -> None:
    aws.on("events.ListRules", Refused("AccessDeniedException"))
    text = io.StringIO()
    ours = teardown.Belongings("photos", buckets=(), inputs=(), switched_on=("mine", "too"))
    teardown._take_back(ours, Console(file=text, width=300))
    assert text.getvalue().count("EventBridge is still on for") == 2


def test_what_a_stack_says_of_its_buckets(aws: Answers) -> None:
    aws.on("cloudformation.ListStackResources", {"StackResourceSummaries": []})
    found = {
        "StackId": "id",
        "Outputs": [{"OutputKey": "InputBucketNames", "OutputValue": "one,two"}],
        "Parameters": [{"ParameterKey": "EventBridgeSwitchedOn", "ParameterValue": "two"}],
    }
    assert teardown._belongings("photos", found) == teardown.Belongings("photos", (), ("one", "two"), ("two",))


# --- draining


def test_uploads_that_sent_no_event_while_draining_are_told_with_the_way_to_have_them(aws: Answers) -> None:
    url = "https://sqs.eu-west-1.amazonaws.com/123456789012/photos-events"
    aws.on("sqs.GetQueueUrl", {"QueueUrl": url})
    aws.on("sqs.SetQueueAttributes", {})
    attributes = {"Policy": "{}", "ApproximateNumberOfMessages": "7"}
    aws.on("sqs.GetQueueAttributes", {"Attributes": attributes})
    with pytest.raises(PipelineError) as raised:
        drain.drain("photos-", ("mine", "too"), 0.001, Console(file=io.StringIO()), sleep=lambda _: None)
    assert re.search(r"python -m pipeline backfill s3://mine --newer-than 20\S+\n", str(raised.value))
    assert "s3://too" in str(raised.value)
    assert "Nothing was deleted" in str(raised.value)
    policies = [asked["Attributes"]["Policy"] for asked in aws.made("sqs.SetQueueAttributes")]
    assert policies == ["", "{}"]  # taken away, and given back


# --- the account


@pytest.mark.parametrize(
    ("role", "made"),
    [
        ({}, False),
        (Refused("NoSuchEntity", 404), True),
        (Refused("AccessDenied", 403), False),  # then ECS says so, if it is missing
    ],
)
def test_the_role_of_ecs_is_made_where_it_is_missing_and_asked_for_by_its_name(
    aws: Answers, role: Any, made: bool
) -> None:
    there = {
        "Role": {
            "Path": "/",
            "RoleName": account.ECS_ROLE,
            "RoleId": "A" * 16,
            "Arn": "arn:aws:iam::123456789012:role/x",
            "CreateDate": 0,
        }
    }
    aws.on("iam.GetRole", there if role == {} else role)
    aws.on("iam.CreateServiceLinkedRole", {})
    assert account.ensure_ecs_role() is made
    assert len(aws.made("iam.CreateServiceLinkedRole")) == made
    assert aws.made("iam.GetRole") == [{"RoleName": account.ECS_ROLE}]

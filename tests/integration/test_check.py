"""``check`` on a server that gives what the pipeline relies on, and on the same with one thing of it broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from pipeline.__main__ import cli
from pipeline.aws import clients
from pipeline.core.settings import Settings
from pipeline.operations.check import own
from pipeline.operations.check.check_command import OF_THE_ENDPOINT, tried
from pipeline.operations.check.place import Place
from pipeline.operations.check_results import CheckResult, Level
from tests.support.answers import Answers, Refused

BY_NAME = {guarantee.name: guarantee for guarantee in OF_THE_ENDPOINT}


def left_over() -> list[str]:
    """What a check has made and not removed."""
    buckets = [bucket["Name"] for bucket in clients.s3().list_buckets()["Buckets"]]
    objects = clients.s3().list_objects_v2(Bucket="local-output", Prefix="check/").get("Contents", [])
    queues = clients.sqs().list_queues().get("QueueUrls", [])
    topics = [topic["TopicArn"] for topic in clients.sns().list_topics()["Topics"]]
    names = [*buckets, *(each["Key"] for each in objects), *queues, *topics]
    return [name for name in names if "check" in name]


def test_all_of_it_holds_and_nothing_is_left(stack: Settings) -> None:
    result = CliRunner().invoke(cli, ["check", "--json"])
    results = json.loads(result.stdout)
    assert {each["level"] for each in results} == {"ok"}, result.output
    assert result.exit_code == 0
    assert {each["what"] for each in results} >= {*BY_NAME, "queue local-events", "events of local-input"}
    assert left_over() == []


def test_it_needs_no_pipeline_to_be_there(stack: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INPUT_BUCKET")
    monkeypatch.delenv("OUTPUT_BUCKET")
    place = Place(None, "local-", 5)
    found = tried([BY_NAME["order of listings"], BY_NAME["events of a bucket"]], place)
    assert [each.level for each in found] == [Level.OK, Level.OK], found
    assert list(own.guarantees(Settings.from_env())) == []
    assert left_over() == []


Asked = Callable[[dict[str, Any]], None]


def without(*names: str) -> Asked:
    """An endpoint that does not know a part of the request."""

    def drop(params: dict[str, Any]) -> None:
        for name in names:
            params.pop(name, None)

    return drop


def _backwards(answer: dict[str, Any]) -> None:
    answer.get("Contents", []).reverse()


def _case_blind(answer: dict[str, Any]) -> None:
    answer.get("Contents", []).sort(key=lambda entry: entry["Key"].lower())


def _plus(answer: dict[str, Any]) -> None:
    for message in answer.get("Messages", []):
        message["Body"] = message["Body"].replace("%20", "+").replace("a+b%2Bc", "a+b+c")


def _no_removals(answer: dict[str, Any]) -> None:
    kept = [each for each in answer.get("Messages", []) if "ObjectRemoved" not in each["Body"]]
    if "Messages" in answer:
        answer["Messages"] = kept


def _counts_once(answer: dict[str, Any]) -> None:
    for message in answer.get("Messages", []):
        message["Attributes"]["ApproximateReceiveCount"] = "1"


def _ignored_delay(params: dict[str, Any]) -> None:
    params["DelaySeconds"] = 0


def _ignored_policy(params: dict[str, Any]) -> None:
    params.get("Attributes", {}).pop("RedrivePolicy", None)


#: What an endpoint may do wrong: requests it understands in part, answers that are others.
WRONG: list[tuple[str, str, Asked | None, Asked | None]] = [
    ("conditional first write", "s3.PutObject", without("IfNoneMatch"), None),
    ("conditional replacement", "s3.PutObject", without("IfMatch"), None),
    ("exact read", "s3.GetObject", without("IfMatch"), None),
    ("order of listings", "s3.ListObjectsV2", None, _backwards),
    ("order of listings", "s3.ListObjectsV2", None, _case_blind),
    ("order of listings", "s3.ListObjectsV2", without("StartAfter"), None),
    ("metadata", "s3.PutObject", without("Metadata"), None),
    ("removal of objects", "s3.DeleteObjects", lambda params: params["Delete"]["Objects"].pop(), None),
    ("long poll", "sqs.ReceiveMessage", without("WaitTimeSeconds"), None),
    ("visibility", "sqs.ReceiveMessage", None, _counts_once),
    ("dead letters", "sqs.CreateQueue", _ignored_policy, None),
    ("delay", "sqs.SendMessage", _ignored_delay, None),
    ("topic to queue", "sns.Subscribe", without("Attributes"), None),
    ("events of a bucket", "sqs.ReceiveMessage", None, _no_removals),
    ("events of a bucket", "sqs.ReceiveMessage", None, _plus),
]


@pytest.mark.parametrize(("name", "operation", "asked", "answered"), WRONG, ids=[f"{w[0]}-{w[1]}" for w in WRONG])
def test_what_does_not_hold_is_found_and_its_meaning_told(
    stack: Settings,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    operation: str,
    asked: Asked | None,
    answered: Asked | None,
) -> None:
    session = boto3.session.Session()
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)
    clients.forget_clients()
    if asked is not None:
        session.events.register(f"before-parameter-build.{operation}", lambda params, **_: asked(params))
    if answered is not None:
        session.events.register(f"after-call.{operation}", lambda parsed, **_: answered(parsed))
    (found,) = tried([BY_NAME[name]], Place("local-output", "local-", 2))
    assert found.level is Level.BAD, found
    assert found.todo == BY_NAME[name].means
    assert left_over() == []


def own_results(settings: Settings) -> dict[str, CheckResult]:
    place = Place("local-output", "local-", 1)
    return {guarantee.name: guarantee.tried(place) for guarantee in own.guarantees(settings)}


def test_of_what_is_deployed_each_wrong_thing_is_told(stack: Settings) -> None:
    sqs, s3 = clients.sqs(), clients.client("s3")
    tasks = sqs.get_queue_url(QueueName="local-tasks")["QueueUrl"]
    dead = sqs.get_queue_url(QueueName="local-tasks-dlq")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1})
    sqs.set_queue_attributes(QueueUrl=tasks, Attributes={"RedrivePolicy": policy})
    s3.put_bucket_notification_configuration(Bucket="local-input", NotificationConfiguration={})
    found = own_results(stack)
    assert "maxReceiveCount is 1" in found["queue local-tasks"].said
    assert "do not lead to local-events" in found["events of local-input"].said
    sqs.delete_queue(QueueUrl=tasks)
    assert own_results(stack)["queue local-tasks"].level is Level.BAD


def test_events_by_way_of_event_bridge_are_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    aws = Answers(monkeypatch)
    aws.on("s3.GetBucketNotificationConfiguration", {"EventBridgeConfiguration": {}})
    aws.on("s3.ListObjectsV2", {})
    aws.on("sqs.GetQueueUrl", {"QueueUrl": "https://sqs.test/1/local-events"})
    aws.on("sqs.GetQueueAttributes", {"Attributes": {"QueueArn": "arn:aws:sqs:eu-west-1:1:local-events"}})
    every = own_results(Settings(input_bucket="in,too", output_bucket="out", queue_prefix="local-"))
    assert {"bucket in", "bucket too", "events of too"} <= set(every)
    found = every["events of in"]
    assert (found.level, "needs a rule" in found.said) == (Level.OK, True)


def test_what_may_not_be_tried_is_not_known_and_says_which_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    aws = Answers(monkeypatch)
    aws.on("sqs.CreateQueue", Refused("AccessDenied", 403))
    aws.on("s3.ListObjectVersions", {})
    (found,) = tried([BY_NAME["delay"]], Place("out", "local-", 1))
    assert (found.level, "may not call CreateQueue" in found.said) == (Level.UNKNOWN, True)

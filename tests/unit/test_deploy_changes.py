"""Change sets: what is sent, and what of CloudFormation's answers is refused."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.core.errors import PipelineError
from pipeline.deploy import changes, tags
from pipeline.deploy.buckets import STACK_TAG
from pipeline.deploy.changes import Proposal
from tests.support.answers import Answers

MADE = {"Id": "arn:aws:cloudformation:eu-west-1:123456789012:changeSet/deploy-1/1", "StackId": "stack-id"}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Answers:
    answers = Answers(monkeypatch)
    answers.on("cloudformation.CreateChangeSet", MADE)
    answers.on("cloudformation.DeleteChangeSet", {})
    answers.on("cloudformation.DeleteStack", {})
    review = {"StackName": "photos", "StackStatus": "REVIEW_IN_PROGRESS", "CreationTime": 0}
    answers.on("cloudformation.DescribeStacks", {"Stacks": [review]})
    return answers


def change(action: str, kind: str, name: str, physical: str | None = None) -> dict[str, Any]:
    made = {"Action": action, "LogicalResourceId": name, "ResourceType": kind}
    return {"Type": "Resource", "ResourceChange": made | ({} if physical is None else {"PhysicalResourceId": physical})}


def propose(aws: Answers, *found: dict[str, Any], **given: Any) -> Any:
    aws.on("cloudformation.DescribeChangeSet", {"Status": "CREATE_COMPLETE", "Changes": list(found)})
    proposal = Proposal("photos", "{}", {"Image": "i"}, new=True, **given)
    return changes.propose(proposal, sleep=lambda _: None)


def test_nothing_is_imported_unless_a_kept_bucket_is_there(aws: Answers) -> None:
    propose(aws, change("Add", "AWS::S3::Bucket", "InputBucket"))
    (sent,) = aws.made("cloudformation.CreateChangeSet")
    assert sent["ImportExistingResources"] is False
    assert "RoleARN" not in sent


def test_a_kept_bucket_is_imported(aws: Answers) -> None:
    found = propose(
        aws, change("Import", "AWS::S3::Bucket", "InputBucket", "kept"), take_over=frozenset({"kept"}), tags={"a": "b"}
    )
    (sent,) = aws.made("cloudformation.CreateChangeSet")
    assert sent["ImportExistingResources"] is True
    assert sent["Tags"] == [{"Key": "a", "Value": "b"}]
    assert [each.action for each in found.changes] == ["Import"]


@pytest.mark.parametrize(
    ("kind", "physical"), [("AWS::SQS::Queue", "photos-tasks"), ("AWS::S3::Bucket", "other"), ("AWS::S3::Bucket", None)]
)
def test_whatever_else_would_be_imported_is_refused(aws: Answers, kind: str, physical: str | None) -> None:
    with pytest.raises(PipelineError, match="exists already, and this stack would take it over"):
        propose(aws, change("Import", kind, "Thing", physical), take_over=frozenset({"kept"}))
    assert aws.made("cloudformation.DeleteChangeSet")
    assert aws.made("cloudformation.DeleteStack")


def test_the_service_role_is_told_to_cloudformation(aws: Answers) -> None:
    propose(aws, service_role="arn:aws:iam::123456789012:role/cfn-service-role")
    (sent,) = aws.made("cloudformation.CreateChangeSet")
    assert sent["RoleARN"] == "arn:aws:iam::123456789012:role/cfn-service-role"


def test_a_refused_change_set_is_removed_and_its_reason_told(aws: Answers) -> None:
    aws.on("cloudformation.DescribeChangeSet", {"Status": "FAILED", "StatusReason": "Template error: x"})
    with pytest.raises(PipelineError, match="refuses the changes to stack photos: Template error: x"):
        changes.propose(Proposal("photos", "{}", {}, new=False), sleep=lambda _: None)
    assert aws.made("cloudformation.DeleteChangeSet")
    assert not aws.made("cloudformation.DeleteStack")


def test_tags_are_kept_and_added_and_never_overwritten() -> None:
    before = {"app": "mine", "team": "photos"}
    assert tags.merged(before, {"cost": "42"}, "s") == {"app": "mine", "team": "photos", "cost": "42", STACK_TAG: "s"}
    assert tags.merged(before, {"team": "photos"}, "s")["team"] == "photos"
    with pytest.raises(PipelineError, match="has the tag team=photos already"):
        tags.merged(before, {"team": "other"}, "s")

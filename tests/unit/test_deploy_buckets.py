"""Names as literals, and nobody else's bucket: taken over, emptied and deleted is only what the stack made."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from pipeline.core.errors import PipelineError
from pipeline.deploy import bucket_names, buckets
from pipeline.deploy.buckets import STACK_TAG, Owner
from tests.stack.template import FOLDER, Stack, load, of_type
from tests.stack.template import _Loader as Loader
from tests.support.answers import Answers, Refused

TEMPLATE = (FOLDER / "batch.yaml").read_text()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Answers:
    return Answers(monkeypatch)


def render(text: str, **values: str) -> bucket_names.Rendered:
    return bucket_names.rendered(text, values, stack="photos", account="123456789012", region="us-east-1")


@pytest.mark.parametrize("values", [{}, {"InputBucketName": "mine", "OutputBucketName": "mine-too"}], ids=str)
@pytest.mark.parametrize("form", ["yaml", "json"])
def test_every_kept_bucket_has_a_literal_name_and_the_one_it_would_have(form: str, values: dict[str, str]) -> None:
    """Mutation: without the rendering each is a function, which CloudFormation takes over by no means."""
    text = TEMPLATE if form == "yaml" else json.dumps(load(), default=str)
    rendered = render(text, **values)
    template: dict[str, Any] = yaml.load(rendered.text, Loader=Loader)  # noqa: S506 - a SafeLoader
    kept = of_type(template, "AWS::S3::Bucket")
    assert kept
    for name, bucket in kept.items():
        literal = bucket["Properties"]["BucketName"]
        assert isinstance(literal, str)
        assert literal == Stack(load(), dict(values)).properties(name)["BucketName"]
        assert literal in rendered.buckets.values()
    for bucket in kept.values():
        bucket["Properties"].pop("BucketName")
    was = load()
    for name in kept:
        was["Resources"][name]["Properties"].pop("BucketName")
    assert template == was  # nothing else


def test_bucket_names_by_their_parameter() -> None:
    assert dict(render(TEMPLATE, InputBucketName="mine").buckets) == {
        "InputBucketName": "mine",
        "OutputBucketName": "photos-output-123456789012-us-east-1",
    }


def tagged(**tags: str) -> dict[str, Any]:
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}


@pytest.mark.parametrize(
    ("head", "tags", "owner"),
    [
        (Refused("404", 404), {}, Owner.NOBODY),
        (Refused("403", 403), {}, Owner.FOREIGN),
        (Refused("301", 301), {}, Owner.FOREIGN),
        ({}, Refused("NoSuchTagSet", 404), Owner.OTHER),
        ({}, Refused("AccessDenied", 403), Owner.FOREIGN),
        ({}, tagged(owner="somebody"), Owner.OTHER),
        ({}, tagged(**{STACK_TAG: "other"}), Owner.OTHER),
        ({}, tagged(**{STACK_TAG: "photos"}), Owner.STACK),
        ({}, tagged(**{"aws:cloudformation:stack-name": "photos"}), Owner.STACK),
    ],
)
def test_whose_a_bucket_is(aws: Answers, head: Any, tags: Any, owner: Owner) -> None:
    aws.on("s3.HeadBucket", head)
    aws.on("s3.GetBucketTagging", tags)
    assert buckets.owner("b", "photos") is owner


def test_a_bucket_that_cannot_be_looked_at_is_not_taken_for_free(aws: Answers) -> None:
    aws.on("s3.HeadBucket", Refused("500", 500))
    with pytest.raises(PipelineError, match="looking at bucket b"):
        buckets.owner("b", "photos")


@pytest.mark.parametrize(
    ("head", "tags", "message"),
    [
        ({}, tagged(owner="somebody"), "no stack called photos made it, so it is left alone.*-p InputBucketName="),
        (Refused("403", 403), {}, "the name b is taken.*s3:GetBucketTagging.*-p InputBucketName="),
    ],
)
def test_a_bucket_of_somebody_else_is_refused_before_anything_is_made(
    aws: Answers, head: Any, tags: Any, message: str
) -> None:
    aws.on("s3.HeadBucket", head)
    aws.on("s3.GetBucketTagging", tags)
    with pytest.raises(PipelineError, match=message):
        buckets.to_take_over({"InputBucketName": "b"}, "photos")


def test_only_kept_buckets_are_taken_over(aws: Answers) -> None:
    aws.on("s3.HeadBucket", lambda asked: {} if asked["Bucket"] == "kept" else _raise(Refused("404", 404)))
    aws.on("s3.GetBucketTagging", tagged(**{STACK_TAG: "photos"}))
    assert buckets.to_take_over({"InputBucketName": "kept", "OutputBucketName": "new"}, "photos") == {"kept"}


def _raise(exc: Exception) -> Any:
    raise exc


def test_buckets_of_a_stack_are_its_resources_and_no_others(aws: Answers) -> None:
    def resource(kind: str, name: str, status: str = "CREATE_COMPLETE") -> dict[str, Any]:
        return {
            "LogicalResourceId": name,
            "PhysicalResourceId": name,
            "ResourceType": kind,
            "ResourceStatus": status,
            "LastUpdatedTimestamp": 0,
        }

    aws.on(
        "cloudformation.ListStackResources",
        {
            "StackResourceSummaries": [
                resource("AWS::S3::Bucket", "made"),
                resource("AWS::SQS::Queue", "queue"),
                resource("AWS::S3::Bucket", "removed-already", "DELETE_COMPLETE"),
            ]
        },
    )
    assert buckets.made_by("stack-id") == ("made",)

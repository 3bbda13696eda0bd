"""Whose a bucket is. Buckets that a stack did not make are never taken over, emptied or deleted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from botocore.exceptions import ClientError

from pipeline.aws import clients
from pipeline.aws.errors import code, is_denied, status, translate_errors
from pipeline.core.errors import PipelineError

#: Set on all that a stack consists of; buckets that it leaves keep it.
STACK_TAG = "batch-image-pipeline:stack"
#: Set by CloudFormation itself, and kept likewise.
_CLOUDFORMATION_TAG = "aws:cloudformation:stack-name"


class Owner(Enum):
    NOBODY = "does not exist"
    STACK = "was made by a stack of this name"
    OTHER = "exists, and was not made by a stack of this name"
    FOREIGN = "is not this account's, or may not be looked at"


def exists(bucket: str) -> bool:
    """Raises ``PipelineError`` where that can't be told."""
    with translate_errors(f"looking at bucket {bucket}"):
        try:
            clients.s3().head_bucket(Bucket=bucket)
        except ClientError as exc:
            if status(exc) == 404:
                return False
            raise
    return True


def owner(bucket: str, stack: str) -> Owner:
    """Raises ``PipelineError``."""
    s3 = clients.s3()
    with translate_errors(f"looking at bucket {bucket}"):
        try:
            s3.head_bucket(Bucket=bucket)
            found = s3.get_bucket_tagging(Bucket=bucket)["TagSet"]
        except ClientError as exc:
            if status(exc) == 404 and code(exc) != "NoSuchTagSet":
                return Owner.NOBODY
            if code(exc) == "NoSuchTagSet":
                return Owner.OTHER
            # A bucket of another region answers 301; its name is taken all the same.
            if is_denied(exc) or status(exc) == 301:
                return Owner.FOREIGN
            raise
    tags = {entry["Key"]: entry["Value"] for entry in found}
    return Owner.STACK if stack in (tags.get(STACK_TAG), tags.get(_CLOUDFORMATION_TAG)) else Owner.OTHER


def to_take_over(buckets: Mapping[str, str], stack: str) -> frozenset[str]:
    """Of the buckets that a new stack would make, those that an earlier one of its name has left.

    ``buckets``: names by the parameter that gives each. Raises ``PipelineError`` for one that is somebody else's.
    """
    kept = set()
    for parameter, bucket in buckets.items():
        match owner(bucket, stack):
            case Owner.STACK:
                kept.add(bucket)
            case Owner.OTHER:
                raise PipelineError(
                    f"bucket {bucket} exists, and no stack called {stack} made it, so it is left alone: "
                    f"give the stack another name (--stack) or the bucket one (-p {parameter}=…)"
                )
            case Owner.FOREIGN:
                raise PipelineError(
                    f"the name {bucket} is taken: that bucket is not this account's in this region, or these "
                    f"credentials may not read its tags (s3:GetBucketTagging). Give another with -p {parameter}=…"
                )
            case Owner.NOBODY:
                pass
    return frozenset(kept)


def safe(template: str) -> str:
    """A template with which a creation that fails leaves the buckets that it takes over: none counts as made by it.

    Source: CloudFormation User Guide, "DeletionPolicy attribute" (RetainExceptOnCreate).
    """
    return template.replace("RetainExceptOnCreate", "Retain")


def made_by(stack_id: str) -> tuple[str, ...]:
    """The buckets among a stack's own resources. Raises ``PipelineError``."""
    with translate_errors("listing what the stack is made of"):
        pages = clients.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack_id)
        return tuple(
            resource["PhysicalResourceId"]
            for resource in (entry for page in pages for entry in page["StackResourceSummaries"])
            if resource["ResourceType"] == "AWS::S3::Bucket"
            and resource.get("PhysicalResourceId")
            and resource["ResourceStatus"] != "DELETE_COMPLETE"
        )


def empty(buckets: Iterable[str]) -> dict[str, int]:
    """Removes every version of every object, then each bucket; how many there were. Raises ``PipelineError``."""
    return {bucket: _delete(bucket) for bucket in buckets if exists(bucket)}


#: DeleteObjects takes this many at once.
_BATCH = 1000


def _delete(bucket: str) -> int:
    s3 = clients.client("s3")
    count = 0
    with translate_errors(f"emptying bucket {bucket}"):
        pages = s3.get_paginator("list_object_versions")
        for page in pages.paginate(Bucket=bucket, PaginationConfig={"PageSize": _BATCH}):
            found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            if not found:
                continue
            objects = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in found]
            answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
            for error in answer.get("Errors", []):
                raise PipelineError(f"s3://{bucket}/{error.get('Key')}: could not be deleted: {error.get('Code')}")
            count += len(found)
        s3.delete_bucket(Bucket=bucket)
    return count

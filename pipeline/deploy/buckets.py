"""The owner of a bucket. Buckets that a stack did not create are never imported, emptied or deleted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from botocore.exceptions import ClientError

from pipeline.aws import clients
from pipeline.aws.errors import code, is_denied, status, translate_errors
from pipeline.core.errors import PipelineError

#: Set on all resources of a stack; buckets that outlive it keep the tag.
STACK_TAG = "batch-image-pipeline:stack"
#: Set by CloudFormation, and kept in the same way.
_CLOUDFORMATION_TAG = "aws:cloudformation:stack-name"


class Owner(Enum):
    NOBODY = "does not exist"
    STACK = "was made by a stack of this name"
    OTHER = "exists, and was not made by a stack of this name"
    FOREIGN = "is not this account's, or may not be looked at"


def exists(bucket: str) -> bool:
    """Raises ``PipelineError`` if it can't be determined."""
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
            # A bucket of another region answers 301, but its name is taken, too.
            if is_denied(exc) or status(exc) == 301:
                return Owner.FOREIGN
            raise
    tags = {entry["Key"]: entry["Value"] for entry in found}
    return Owner.STACK if stack in (tags.get(STACK_TAG), tags.get(_CLOUDFORMATION_TAG)) else Owner.OTHER


def to_take_over(buckets: Mapping[str, str], stack: str) -> frozenset[str]:
    """The buckets of a new stack that an earlier stack of the same name has left.

    ``buckets``: names by the parameter that gives each. Raises ``PipelineError`` for a bucket of another owner.
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
    """Changes a template so that a failed creation keeps the buckets that it imports.

    Source: CloudFormation User Guide, "DeletionPolicy attribute" (RetainExceptOnCreate).
    """
    return template.replace("RetainExceptOnCreate", "Retain")


def made_by(stack_id: str) -> tuple[str, ...]:
    """The buckets that a stack created. Raises ``PipelineError``."""
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
    """Deletes every version of every object, then each bucket; returns the numbers. Raises ``PipelineError``."""
    return {bucket: _delete(bucket) for bucket in buckets if exists(bucket)}


#: S3's limit for one DeleteObjects.
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

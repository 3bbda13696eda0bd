"""Buckets of other accounts: prints what their owner has to set, and changes nothing of them.

Sources: Amazon S3 User Guide, "Bucket owner granting cross-account bucket permissions" (both sides must allow); AWS KMS
Developer Guide, "Allowing users in other accounts to use a KMS key"; Amazon EventBridge User Guide, "Sending and
receiving events between AWS accounts" (a rule there, whose target is the event bus here).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from pipeline.aws import clients
from pipeline.aws.errors import is_denied, status, translate_errors
from pipeline.core.errors import PipelineError
from pipeline.deploy import written
from pipeline.deploy.account import Account

#: The owner of a bucket to which access is denied.
UNKNOWN = "unknown"
#: Folders below OutputPrefix that workers write, in addition to OwnFolder and those of other renditions.
FOLDERS = ("resized/", "thumbs/", "failed/")


def owner(bucket: str, here: Account, accounts: Sequence[str]) -> str | None:
    """The account of ``accounts`` that owns a bucket; None: this account, or no such bucket; ``UNKNOWN``: no access.

    Requests name the expected owner, so that a stranger's bucket of that name is not mistaken for theirs.
    """
    s3 = clients.client("s3")
    with translate_errors(f"looking at bucket {bucket}"):
        for account in (here.id, *accounts):
            try:
                region = s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=account).get("BucketRegion")
            except ClientError as exc:
                if not is_denied(exc):
                    if status(exc) == 404:
                        return None  # ``inputs.look`` reports it
                    raise
            else:
                if account == here.id:
                    return None
                if region not in (None, here.region):
                    raise PipelineError(f"bucket {bucket} of account {account} is in {region}: deploy there")
                return account
    return UNKNOWN


def closed(bucket: str, wanted: Policies) -> PipelineError:
    """The error for a bucket to which access is denied. Its owner must be known: anybody may own a bucket's name."""
    return PipelineError(
        f"access to bucket {bucket} is denied, so its owner is not known. The owner has to set this first; "
        f"then deploy again:\n{wanted.text()}"
    )


class Policies:
    """What the owner of a bucket has to allow this stack. ``values``: the template's parameters."""

    def __init__(self, bucket: str, stack: str, here: Account, values: Mapping[str, str], *, is_input: bool) -> None:
        self._bucket, self._stack, self._here, self._is_input = bucket, stack, here, is_input
        self._values = values
        self._partition = here.partition

    def text(self) -> str:
        """Everything, as lines for the owner."""
        lines = [f"Add this to the policy of bucket {self._bucket}:", _json(self.of_bucket())]
        lines += ["If it is encrypted with a KMS key, add this to the key's policy:", _json(self.of_key())]
        parameter = "InputKmsKeyArns" if self._is_input else "OutputKmsKeyArn"
        lines += [f"(and its ARN here: -p {parameter}=arn:…)"]
        return "\n".join([*lines, *(self._events() if self._is_input else ())])

    def of_bucket(self) -> list[dict[str, Any]]:
        """Statements. They name this account and a condition, since a policy can name a role only once that exists."""
        arn = f"arn:{self._partition}:s3:::{self._bucket}"
        prefix = self._values.get("OutputPrefix", "")
        if self._is_input:
            actions, resources = ["s3:GetObject"], [f"{arn}/*"]
        else:
            actions = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
            own = self._values.get("OwnFolder", "")
            more = [*written.other_folders(self._values), *([own] if own else [])]
            resources = [f"{arn}/{prefix}{folder}*" for folder in (*FOLDERS, *more)]
        look = {"Effect": "Allow", "Principal": self._account(), "Action": ["s3:ListBucket"], "Resource": [arn]}
        return [self._allow("Objects", actions, resources), {"Sid": f"{_sid(self._stack)}Look", **look}]

    def of_key(self) -> list[dict[str, Any]]:
        """Statements; in a key's policy the resource is the key itself."""
        actions = ["kms:Decrypt"] if self._is_input else ["kms:Decrypt", "kms:GenerateDataKey"]
        return [self._allow("Key", actions, ["*"])]

    def _allow(self, what: str, actions: list[str], resources: list[str]) -> dict[str, Any]:
        path = self._values.get("RolePath", "") or "/"
        roles = [f"arn:{self._partition}:iam::{self._here.id}:role{path}{self._stack}-*Role-*"]
        return {
            "Sid": f"{_sid(self._stack)}{what}",
            "Effect": "Allow",
            "Principal": self._account(),
            "Action": actions,
            "Resource": resources,
            "Condition": {"ArnLike": {"aws:PrincipalArn": roles}},
        }

    def _account(self) -> dict[str, str]:
        return {"AWS": f"arn:{self._partition}:iam::{self._here.id}:root"}

    def _events(self) -> Iterator[str]:
        pattern: dict[str, Any] = {"source": ["aws.s3"], "detail-type": ["Object Created", "Object Deleted"]}
        pattern["detail"] = {"bucket": {"name": [self._bucket]}}
        bus = f"arn:{self._partition}:events:{self._here.region}:{self._here.id}:event-bus/default"
        yield "In its account: EventBridge on for the bucket (its properties, Event notifications), and a rule:"
        yield _json(pattern)
        yield f"whose target is {bus}, with a role that may events:PutEvents on it."
        yield "Here, once for its account:"
        yield (
            f"  aws events put-permission --region {self._here.region} --statement-id {self._stack}-uploads "
            "--action events:PutEvents --principal ITS-ACCOUNT"
        )


def describe(bucket: str, account: str, wanted: Policies) -> str:
    """The text for a bucket that can be accessed; this account can't see the owner's other settings."""
    return (
        f"Bucket {bucket} is of account {account}: nothing of it is changed. Whether its owner has set all of this "
        f"can't be checked from here:\n{wanted.text()}"
    )


def _json(value: Any) -> str:
    return json.dumps(value, indent=2)


def _sid(stack: str) -> str:
    return "".join(part.capitalize() for part in stack.split("-"))

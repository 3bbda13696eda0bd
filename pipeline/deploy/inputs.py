"""Input buckets from before the stack: a deployment only switches EventBridge on, and a teardown switches it off again.

Source: Amazon S3 User Guide, "Enabling Amazon EventBridge": PutBucketNotificationConfiguration replaces the whole
configuration, so the existing one is sent again. S3 is asked not to check its destinations, since they are not the
stack's, and a check sends each of them a test message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from pipeline.aws import clients
from pipeline.aws.errors import code, is_denied, status, translate_errors
from pipeline.core.errors import PipelineError
from pipeline.deploy.account import Account

_EVENT_BRIDGE = "EventBridgeConfiguration"


@dataclass(frozen=True, slots=True)
class ExistingBucket:
    """An existing bucket. ``key``: the customer's KMS key that it encrypts with, if any."""

    bucket: str
    notifications: Mapping[str, Any]
    key: str | None = None
    account: str | None = None  # the owner, if it is another account; then nothing of the bucket is changed

    @property
    def is_on(self) -> bool:
        """Whether a deployment has nothing to switch on."""
        return self.account is not None or _EVENT_BRIDGE in self.notifications

    @property
    def others(self) -> int:
        """The number of its other notifications."""
        return sum(len(each) for name, each in self.notifications.items() if name != _EVENT_BRIDGE)


def look(bucket: str, here: Account, *, is_input: bool = True) -> ExistingBucket:
    """Looks at a bucket. Raises ``PipelineError`` if the stack can't receive its events, or can't write to it."""
    s3 = clients.client("s3")
    with translate_errors(f"looking at bucket {bucket}"):
        try:
            region = s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=here.id).get("BucketRegion")
        except ClientError as exc:
            if status(exc) == 404:
                raise PipelineError(f"bucket {bucket} does not exist: correct its name, or make it") from exc
            if is_denied(exc):
                raise PipelineError(
                    f"bucket {bucket} is not this account's, or these credentials may not list it (s3:ListBucket); "
                    "if it is another account's that you work with, name that: -p BucketAccounts=…"
                ) from exc
            raise
        if region not in (None, here.region):
            raise PipelineError(
                f"bucket {bucket} is in {region}: deploy there, "
                + ("events do not cross regions by themselves" if is_input else "each rendition would cross regions")
            )
        return ExistingBucket(bucket, _notifications(bucket), _key(bucket))


def _notifications(bucket: str) -> dict[str, Any]:
    answer = clients.client("s3").get_bucket_notification_configuration(Bucket=bucket)
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def _key(bucket: str) -> str | None:
    try:
        answer = clients.client("s3").get_bucket_encryption(Bucket=bucket)
    except ClientError as exc:
        if is_denied(exc) or code(exc) == "ServerSideEncryptionConfigurationNotFoundError":
            return None
        raise
    for rule in answer["ServerSideEncryptionConfiguration"]["Rules"]:
        key: str = rule.get("ApplyServerSideEncryptionByDefault", {}).get("KMSMasterKeyID", "")
        if key.startswith("arn:") and ":key/" in key:  # AWS's own key, aws/s3, needs no grant
            return key
    return None


def describe(found: ExistingBucket) -> Iterator[str]:
    """What a deployment changes on it."""
    kept = "" if found.others == 0 else f"; its own {found.others} notifications stay as they are"
    if found.is_on:
        yield f"Bucket {found.bucket} sends events to EventBridge already: nothing of it is changed{kept}."
    else:
        yield f"Bucket {found.bucket}: EventBridge will be switched on; nothing else of it is changed{kept}."
    if found.key is not None:
        yield f"Bucket {found.bucket} is encrypted with {found.key}, which the containers will be allowed to use."


def switch_on(bucket: str) -> None:
    """Raises ``PipelineError``."""
    _change(bucket, on=True)


def switch_off(bucket: str) -> None:
    """Leaves all other notifications. Raises ``PipelineError``."""
    _change(bucket, on=False)


def _change(bucket: str, *, on: bool) -> None:
    with translate_errors(f"switching EventBridge {'on' if on else 'off'} for bucket {bucket}"):
        wanted = _notifications(bucket)  # read again: it may have changed while the person was asked
        if (_EVENT_BRIDGE in wanted) == on:
            return
        if on:
            wanted[_EVENT_BRIDGE] = {}
        else:
            del wanted[_EVENT_BRIDGE]
        clients.client("s3").put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration=wanted, SkipDestinationValidation=True
        )


def used_by_others(bucket: str, stack: str) -> list[str]:
    """EventBridge rules that may need this bucket's events, except the stack's own. Raises ``PipelineError``."""
    with translate_errors("looking at the rules of EventBridge"):
        pages = clients.client("events").get_paginator("list_rules").paginate()
        rules = [rule for page in pages for rule in page["Rules"]]
    return [
        rule["Name"]
        for rule in rules
        if "aws.s3" in rule.get("EventPattern", "")
        and ('"bucket"' not in rule["EventPattern"] or f'"{bucket}"' in rule["EventPattern"])
        and not rule["Name"].startswith(f"{stack}-")
    ]


def listed(text: str) -> list[str]:
    """The bucket names in a parameter, with any separators."""
    return re.findall(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", text)


def recorded(before: str, inputs: Iterable[ExistingBucket]) -> str:
    """The parameter EventBridgeSwitchedOn: the buckets for which a deployment has switched it on, or will."""
    return ",".join(dict.fromkeys([*listed(before), *(found.bucket for found in inputs if not found.is_on)]))

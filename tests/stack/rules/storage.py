"""Buckets, and the events that they send."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from tests.stack.iam import as_list
from tests.stack.rules.base import Template, rule, tls_only, variants
from tests.stack.template import Stack


@rule
def buckets_are_private_and_kept(template: Template) -> Iterator[str]:
    for stack in variants(template):
        denied = tls_only(stack)
        for name, resource in stack.resources("AWS::S3::Bucket").items():
            properties = resource["Properties"]
            if len(properties["BucketName"]) > 63 or not re.fullmatch(r"[a-z0-9-]+", properties["BucketName"]):
                yield f"{name}: {properties['BucketName']} is no name for a bucket"
            blocked = properties.get("PublicAccessBlockConfiguration", {})
            if len([value for value in blocked.values() if value is True]) != 4:
                yield f"{name} does not block public access"
            if {"ObjectOwnership": "BucketOwnerEnforced"} not in properties.get("OwnershipControls", {}).get(
                "Rules", []
            ):
                yield f"{name} does not enforce its owner"
            if "SSEAlgorithm" not in json.dumps(properties.get("BucketEncryption", {})):
                yield f"{name} is not encrypted"
            if (
                resource.get("DeletionPolicy") != "RetainExceptOnCreate"
                or resource.get("UpdateReplacePolicy") != "Retain"
            ):
                yield f"{name} and what is in it would be deleted with the stack, or block its deletion"
            arn = f"arn:aws:s3:::{properties['BucketName']}"
            if not {arn, f"{arn}/*"} <= denied:
                yield f"{name} may be used without TLS"


@rule
def uploads_become_events(template: Template) -> Iterator[str]:
    for stack in variants(template):
        bucket, queue = stack.resources()["InputBucket"], stack.resolve({"Fn::GetAtt": ["EventsQueue", "Arn"]})
        entries = bucket["Properties"].get("NotificationConfiguration", {}).get("QueueConfigurations", [])
        for event in ("s3:ObjectCreated:*", "s3:ObjectRemoved:*"):
            matching = [entry for entry in entries if entry["Event"] == event and entry["Queue"] == queue]
            if len(matching) != 1:
                yield f"{event} is not sent to the events queue"
            prefix = stack.parameters["KeyPrefix"]
            wanted = {"S3Key": {"Rules": [{"Name": "prefix", "Value": prefix}]}} if prefix else None
            if any(entry.get("Filter") != wanted for entry in matching):
                yield f"{event} is not filtered by KeyPrefix"
        if "EventsQueuePolicy" not in as_list(bucket.get("DependsOn", [])):
            yield "S3 would try the queue before its policy exists"
        yield from _s3_may_send(stack, queue, bucket["Properties"]["BucketName"])


def _s3_may_send(stack: Stack, queue: str, bucket: str) -> Iterator[str]:
    statements = [
        statement
        for policy in stack.resources("AWS::SQS::QueuePolicy").values()
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Allow"
    ]
    wanted = {
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue,
        "Condition": {
            "StringEquals": {"aws:SourceAccount": "123456789012"},
            "ArnEquals": {"aws:SourceArn": f"arn:aws:s3:::{bucket}"},
        },
    }
    if [{key: statement.get(key) for key in wanted} for statement in statements] != [wanted]:
        yield "exactly S3 must be allowed to send, for exactly this bucket of this account"

"""Buckets, and the events that they send."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.stack.iam import as_list
from tests.stack.rules.base import DISTRIBUTION, EXISTING, KEYS, Template, rule, tls_only, variants
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
            arn = f"arn:{stack.pseudo['AWS::Partition']}:s3:::{properties['BucketName']}"
            if not {arn, f"{arn}/*"} <= denied:
                yield f"{name} may be used without TLS"


@rule
def uploads_become_events(template: Template) -> Iterator[str]:
    for stack in variants(template):
        queue = stack.resolve({"Fn::GetAtt": ["EventsQueue", "Arn"]})
        bucket = stack.resources().get("InputBucket")
        if bucket is None:
            yield from _the_rule_sends(stack, queue)
            continue
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


def _the_rule_sends(stack: Stack, queue: str) -> Iterator[str]:
    """Nothing of a bucket that exists is changed; EventBridge's events go through a rule of the stack."""
    names = ("AWS::Partition", "AWS::Region", "AWS::AccountId")
    partition, region, account = (stack.pseudo[name] for name in names)
    of_bucket = [kind for kind in ("AWS::S3::Bucket", "AWS::S3::BucketPolicy") if stack.resources(kind)]
    if of_bucket:
        yield f"the stack makes {of_bucket} although both buckets exist"
    rules = stack.resources("AWS::Events::Rule")
    if list(rules) != ["UploadsRule"]:
        yield "no rule sends the events of buckets that exist"
        return
    properties = rules["UploadsRule"]["Properties"]
    prefix = stack.parameters["KeyPrefix"]
    pattern = {
        "source": ["aws.s3"],
        "account": [account, *stack.parameters["BucketAccounts"]],
        "detail-type": ["Object Created", "Object Deleted"],
        "detail": {"bucket": {"name": stack.parameters["ExistingInputBuckets"]}}
        | ({"object": {"key": [{"prefix": prefix}]}} if prefix else {}),
    }
    if properties["EventPattern"] != pattern:
        yield f"the rule's pattern is {properties['EventPattern']}"
    dead = stack.resolve({"Fn::GetAtt": ["EventsDeadLetters", "Arn"]})
    if properties["Targets"] != [{"Id": "events", "Arn": queue, "DeadLetterConfig": {"Arn": dead}}]:
        yield f"the rule sends to {properties['Targets']}"
    # What a role may not read yet ends as a failure, and what a queue may not take yet is lost.
    needed = {"EventsQueuePolicy", "EventsDeadLettersPolicy", "ReadExistingInputs"}
    if set(as_list(rules["UploadsRule"].get("DependsOn", []))) != needed:
        yield f"the rule must come after {needed}"
    arn = f"arn:{partition}:events:{region}:{account}:rule/{properties['Name']}"
    allowed = [
        {key: statement.get(key) for key in ("Principal", "Action", "Resource", "Condition")}
        for statement in _allowing(stack)
    ]
    wanted = [
        {
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": resource,
            "Condition": {"ArnEquals": {"aws:SourceArn": arn}},
        }
        for resource in (queue, dead)
    ]
    if sorted(allowed, key=str) != sorted(wanted, key=str):
        yield f"exactly this rule must be allowed to send, not {allowed}"


def _allowing(stack: Stack) -> list[dict[str, Any]]:
    return [
        statement
        for policy in stack.resources("AWS::SQS::QueuePolicy").values()
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Allow"
    ]


def _s3_may_send(stack: Stack, queue: str, bucket: str) -> Iterator[str]:
    statements = _allowing(stack)
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


@rule
def buckets_take_the_keys_that_are_given(template: Template) -> Iterator[str]:
    for parameters in ({}, KEYS):
        stack = Stack(template, parameters)
        for name, key in (("InputBucket", "InputKmsKeyArns"), ("OutputBucket", "OutputKmsKeyArn")):
            given = stack.parameters[key]
            first = given[0] if isinstance(given, list) else given
            (entry,) = stack.properties(name)["BucketEncryption"]["ServerSideEncryptionConfiguration"]
            found = entry["ServerSideEncryptionByDefault"]
            wanted = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": first} if first else {"SSEAlgorithm": "AES256"}
            if found != wanted:
                yield f"{name} is encrypted by {found}"
            if first and entry.get("BucketKeyEnabled") is not True:
                yield f"{name} asks KMS for each object"  # and pays for it


@rule
def containers_are_told_the_buckets(template: Template) -> Iterator[str]:
    for parameters, buckets, prefix in (
        ({}, ("photos-input-123456789012-us-east-1", "photos-output-123456789012-us-east-1"), ""),
        (EXISTING, ("their-photos,their.scans", "their-site"), "previews/"),
    ):
        stack = Stack(template, parameters)
        for task in ("BridgeTask", "WorkerTask"):
            (container,) = stack.properties(task)["ContainerDefinitions"]
            variables = {entry["Name"]: entry["Value"] for entry in container["Environment"]}
            told = [variables.get(name) for name in ("INPUT_BUCKET", "OUTPUT_BUCKET", "OUTPUT_PREFIX")]
            if told != [*buckets, prefix]:
                yield f"{task} is told {variables}"
        names = ("InputBucketNames", "OutputBucketName", "InputBucketName")
        outputs = tuple(stack.resolve(template["Outputs"][name]["Value"]) for name in names)
        if outputs != (*buckets, buckets[0].split(",", maxsplit=1)[0]):
            yield f"the outputs name {outputs}"
        place = stack.resolve(template["Outputs"]["RenditionsIn"]["Value"])
        if place != f"s3://{buckets[1]}/{prefix}":
            yield f"renditions are said to be in {place}"


@rule
def browsers_and_cloudfront_get_what_they_need_and_no_more(template: Template) -> Iterator[str]:
    plain = Stack(template)
    if "CorsConfiguration" in plain.properties("InputBucket"):
        yield "any page may upload"
    both = {"CorsOrigins": "https://a.example", "DistributionArn": DISTRIBUTION}
    stack, below = Stack(template, both), Stack(template, both | {"OutputPrefix": "previews/"})
    medium = f"{_OUTPUT}/previews/medium/*"
    more = Stack(template, both | {"OutputPrefix": "previews/", "RenditionArns": medium})
    (cors,) = stack.properties("InputBucket").get("CorsConfiguration", {}).get("CorsRules", [{}])
    if cors.get("AllowedOrigins") != ["https://a.example"] or "POST" not in cors.get("AllowedMethods", []):
        yield f"pages of the origin can't upload: {cors}"
    if {"GET", "DELETE"} & set(cors.get("AllowedMethods", [])):
        yield "pages may do more than upload"
    for each, wanted in (
        (plain, []),
        (stack, [_of_the_distribution("")]),
        (below, [_of_the_distribution("previews/")]),
        (more, [_of_the_distribution("previews/", medium)]),
    ):
        document = each.properties("OutputBucketPolicy")["PolicyDocument"]
        allowed = [statement for statement in document["Statement"] if statement["Effect"] == "Allow"]
        if allowed != wanted:
            yield f"the output bucket's policy allows {allowed}"


_OUTPUT = "arn:aws:s3:::photos-output-123456789012-us-east-1"


def _of_the_distribution(prefix: str, *more: str) -> dict[str, Any]:
    """Not failed/: a record tells the names of objects, and the reasons of failures."""
    return {
        "Sid": "Distribution",
        "Effect": "Allow",
        "Principal": {"Service": "cloudfront.amazonaws.com"},
        "Action": "s3:GetObject",
        "Resource": [f"{_OUTPUT}/{prefix}resized/*", f"{_OUTPUT}/{prefix}thumbs/*", *more],
        "Condition": {"StringEquals": {"AWS:SourceArn": DISTRIBUTION}},
    }

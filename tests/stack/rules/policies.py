"""What AWS refuses about policies although linters and emulators accept it.

Sources of the limits, as of 2026:

- SNS, a policy covers one topic, has one resource in each statement, and that is the topic:
  https://docs.aws.amazon.com/sns/latest/dg/sns-access-policy-language-api-permissions-reference.html
- SQS, bytes, statements, and actions in a statement:
  https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-policies.html
- SQS, one resource in a statement, known from the refusals of others:
  https://github.com/remind101/stacker_blueprints/pull/71
- IAM, characters of a role's inline policies together, and of its trust policy:
  https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
- S3, bytes of a bucket's policy: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketPolicy.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.stack.iam import as_list
from tests.stack.rules.base import Template, rule, variants
from tests.stack.template import Stack

SQS_BYTES, SQS_STATEMENTS, SQS_ACTIONS = 8192, 20, 7
SNS_BYTES, SNS_STATEMENTS = 30_000, 100
S3_BYTES = 20_480
IAM_CHARS, TRUST_CHARS = 10_240, 2048
#: SNS takes these in a topic's policy, and no wildcard.
SNS_ACTIONS = {
    "sns:AddPermission",
    "sns:DeleteTopic",
    "sns:GetDataProtectionPolicy",
    "sns:GetTopicAttributes",
    "sns:ListSubscriptionsByTopic",
    "sns:ListTagsForResource",
    "sns:Publish",
    "sns:PutDataProtectionPolicy",
    "sns:RemovePermission",
    "sns:SetTopicAttributes",
    "sns:Subscribe",
}


@rule
def sqs_accepts_the_queues_policies(template: Template) -> Iterator[str]:
    for stack in variants(template):
        seen: list[str] = []
        for name, policy in stack.resources("AWS::SQS::QueuePolicy").items():
            queues, document = policy["Properties"]["Queues"], policy["Properties"]["PolicyDocument"]
            seen += queues
            if len(queues) != 1:
                yield f"{name} is set on {len(queues)} queues, and none is the resource of all its statements"
                continue
            own = _arn_of_queue(stack, queues[0])
            for statement in document["Statement"]:
                where = f"{name}/{statement.get('Sid')}"
                if as_list(statement["Resource"]) != [own]:
                    yield f"{where}: SQS takes one resource, the queue itself"
                actions = as_list(statement["Action"])
                if len(actions) > SQS_ACTIONS:
                    yield f"{where}: {len(actions)} actions; SQS takes {SQS_ACTIONS}"
                if any(not action.lower().startswith("sqs:") for action in actions):
                    yield f"{where}: {actions} are not all of SQS"
            if len(document["Statement"]) > SQS_STATEMENTS or _size(document) > SQS_BYTES:
                yield f"{name} is too large"
        if len(seen) != len(set(seen)):
            yield "a queue has two policies, of which the later one replaces the other"


@rule
def sns_accepts_the_topics_policies(template: Template) -> Iterator[str]:
    for stack in variants(template):
        seen: list[str] = []
        for name, policy in stack.resources("AWS::SNS::TopicPolicy").items():
            topics, document = policy["Properties"]["Topics"], policy["Properties"]["PolicyDocument"]
            seen += topics
            if len(topics) != 1:
                yield f"{name} is set on {len(topics)} topics; SNS takes one policy for each"
                continue
            for statement in document["Statement"]:
                where = f"{name}/{statement.get('Sid')}"
                if as_list(statement["Resource"]) != topics:
                    yield f"{where}: SNS takes one resource, the topic itself"
                if unknown := set(as_list(statement["Action"])) - SNS_ACTIONS:
                    yield f"{where}: SNS takes no {sorted(unknown)} in a policy"
            sids = [statement.get("Sid") for statement in document["Statement"]]
            if None in sids or len(sids) != len(set(sids)):
                yield f"{name}: each statement needs a Sid of its own"
            if len(sids) > SNS_STATEMENTS or _size(document) > SNS_BYTES:
                yield f"{name} is too large"
        if len(seen) != len(set(seen)):
            yield "a topic has two policies, of which the later one replaces the other"


@rule
def iam_and_s3_accept_the_policies(template: Template) -> Iterator[str]:
    for stack in variants(template):
        inline: dict[str, int] = {}
        for name, role in stack.resources("AWS::IAM::Role").items():
            documents = [policy["PolicyDocument"] for policy in role["Properties"].get("Policies", [])]
            inline[name] = sum(map(_size, documents))
            if _size(role["Properties"]["AssumeRolePolicyDocument"]) > TRUST_CHARS:
                yield f"{name}: the trust policy is too large"
            for document in documents:
                yield from _sids(name, document)
        for name, policy in stack.resources("AWS::IAM::RolePolicy").items():
            inline[policy["Properties"]["RoleName"]] += _size(policy["Properties"]["PolicyDocument"])
            yield from _sids(name, policy["Properties"]["PolicyDocument"])
        for name, policy in stack.resources("AWS::IAM::Policy").items():
            for role in policy["Properties"]["Roles"]:
                inline[role] += _size(policy["Properties"]["PolicyDocument"])
            yield from _sids(name, policy["Properties"]["PolicyDocument"])
        yield from (
            f"{name}: {size} characters of inline policies" for name, size in inline.items() if size > IAM_CHARS
        )
        for name, policy in stack.resources("AWS::S3::BucketPolicy").items():
            yield from _sids(name, policy["Properties"]["PolicyDocument"])
            if _size(policy["Properties"]["PolicyDocument"]) > S3_BYTES:
                yield f"{name} is too large"


def _sids(name: str, document: dict[str, Any]) -> Iterator[str]:
    """IAM takes letters and digits; and what is empty allows nothing, so it is refused."""
    sids = [statement.get("Sid", "") for statement in document["Statement"]]
    if not sids or len(sids) != len(set(sids)) or not all(re.fullmatch("[A-Za-z0-9]+", sid) for sid in sids):
        yield f"{name}: Sids {sids}"
    for statement in document["Statement"]:
        if not statement["Action"] or not statement["Resource"]:
            yield f"{name}/{statement['Sid']}: no action, or no resource"


def _arn_of_queue(stack: Stack, url: str) -> str:
    _, _, host, account, name = url.split("/")
    return f"arn:{stack.pseudo['AWS::Partition']}:sqs:{host.split('.')[1]}:{account}:{name}"


def _size(document: dict[str, Any]) -> int:
    """In the form that is sent; IAM counts no white space, the others do."""
    return len(json.dumps(document))

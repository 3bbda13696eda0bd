"""The registry of rules, and what several of them need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tests.stack.iam import as_list
from tests.stack.template import Stack

Template = dict[str, Any]
Rule = Callable[[Template], Iterator[str]]

RULES: dict[str, Rule] = {}


def rule(function: Rule) -> Rule:
    RULES[function.__name__] = function
    return function


#: What people have already.
KEYS = {
    "InputKmsKeyArns": "arn:aws:kms:us-east-1:123456789012:key/in,arn:aws:kms:us-east-1:123456789012:key/in2",
    "OutputKmsKeyArn": "arn:aws:kms:us-east-1:123456789012:key/out",
}
EXISTING = {
    "ExistingInputBuckets": "their-photos,their.scans",
    "EventBridgeSwitchedOn": "their-photos",
    "ExistingOutputBucket": "their-site",
    "OutputPrefix": "previews/",
    "BucketAccounts": "210987654321",
    "PermissionsBoundary": "arn:aws:iam::123456789012:policy/bound",
    "RolePath": "/photos/",
    "ExistingCluster": "shared",
    "ClusterName": "shared",  # of alarms.yaml: the pipeline's outputs
    "BridgeServiceName": "photos-bridge",
    "WorkerServiceName": "photos-worker",
    "RegistrySecretArn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:registry",
    **KEYS,
}
DISTRIBUTION = "arn:aws:cloudfront::123456789012:distribution/E1"


def variants(template: Template) -> list[Stack]:
    """The template under parameters that switch every condition both ways."""
    balanced = {
        "FlowerTargetGroupArn": "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/photos/1",
        "FlowerBalancerGroupId": "sg-1",
    }
    return [
        Stack(template),
        Stack(
            template,
            {
                "ScaleIn": "idle",
                "MinWorkers": 1,
                "KeyPrefix": "in/",
                "OwnFolder": "own/",
                "AlarmEmail": "a@example.com",
            },
        ),
        Stack(template, {"InputBucketName": "my-input", "OutputBucketName": "my-output", "OnDemandWeight": 0}),
        Stack(template, balanced),
        Stack(template, {"Flower": "no", "SpotWeight": 0}),
        Stack(template, EXISTING),
        Stack(template, EXISTING | {"OwnFolder": "own/", "KeyPrefix": "in/"}),
        Stack(template, EXISTING | {"RenditionArns": "arn:aws:s3:::their-site/previews/medium/*"}),
        Stack(template, {"DistributionArn": DISTRIBUTION, "CorsOrigins": "https://a.example,https://b.example"} | KEYS),
        Stack(template, EXISTING, {"AWS::Partition": "aws-cn", "AWS::Region": "cn-north-1"}),
        Stack(template, EXISTING, {"AWS::Partition": "aws-us-gov", "AWS::Region": "us-gov-west-1"}),
    ]


def tls_only(stack: Stack) -> set[str]:
    """The ARNs that nobody can use without TLS."""
    found: set[str] = set()
    kinds = ("AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy")
    policies = [policy["Properties"] for kind in kinds for policy in stack.resources(kind).values()]
    for policy in policies:
        for statement in policy["PolicyDocument"]["Statement"]:
            insecure = statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
            everyone = statement.get("Principal") == "*" and statement["Action"] in ("s3:*", "sqs:*", "sns:Publish")
            if statement["Effect"] == "Deny" and insecure and everyone:
                found |= set(as_list(statement["Resource"]))
    return found

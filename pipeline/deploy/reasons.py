"""Explains why an ECS container does not run, and what to do.

Source: Amazon ECS Developer Guide, "Amazon ECS stopped tasks error messages" and "Service event messages". ECS has
codes for only a few of these (``stopCode``), so this module searches its messages for fixed words.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    words: tuple[str, ...]  # any of them, in lower case
    plain: str
    todo: str


#: The more specific ones come first.
REASONS = (
    Reason(
        ("exec format error", "does not match the specified platform", "image manifest does not contain descriptor"),
        "the image was built for another kind of CPU",
        "build it with `docker build --platform linux/amd64`, or deploy with `-p CpuArchitecture=ARM64`",
    ),
    Reason(
        ("toomanyrequests", "pull rate limit", "429 too many requests"),
        "the registry refuses more downloads for now",
        "push the image to ECR (cloudformation/ecr.yaml makes a registry) and deploy that one",
    ),
    Reason(
        ("dial tcp", "i/o timeout", "context deadline exceeded", "request canceled", "unable to pull registry auth"),
        "the container can't reach the registry, or another AWS service, from its subnets",
        "in public subnets deploy with `-p AssignPublicIp=ENABLED`; in private ones they need a NAT gateway or the "
        "endpoints of cloudformation/network.yaml. `python -m pipeline doctor` looks at the routes",
    ),
    Reason(
        ("not found", "manifest unknown", "name unknown", "no such image"),
        "there is no such image",
        "check its name and tag (`aws ecr describe-images`), push it, and deploy it again with --image",
    ),
    Reason(
        ("pull access denied", "403 forbidden", "denied: ", "unauthorized", "no basic auth credentials"),
        "the registry does not let this account have the image",
        "for an image of another account its repository policy must allow this one; a private registry needs its "
        "credentials (docs/deploy.md)",
    ),
    Reason(
        ("secretsmanager", "unable to pull secrets", "asm fetching"),
        "Flower's password can't be read from Secrets Manager",
        "in private subnets its endpoint is needed (cloudformation/network.yaml), or deploy with `-p Flower=no`",
    ),
    Reason(
        ("logging driver", "awslogs", "logger args", "log group"),
        "the container's log can't be written",
        "in private subnets the endpoint of CloudWatch Logs is needed (cloudformation/network.yaml)",
    ),
    Reason(
        ("limit on the number of vcpus", "concurrent tasks limit", "quota"),
        "the account's quota of Fargate vCPUs is used up",
        "ask for more in Service Quotas, Fargate, or deploy with a smaller MaxWorkers; new accounts have few",
    ),
    Reason(
        ("capacity is unavailable", "capacity unavailable"),
        "AWS has no free machines of this kind at the moment",
        "wait; or add a zone's subnet, or let more workers be on demand: `-p OnDemandWeight=1 -p SpotWeight=0`",
    ),
    Reason(
        ("network interface provisioning", "free ip addresses", "insufficientfreeaddresses"),
        "the subnets gave the container no address",
        "use subnets with free addresses: each container takes one",
    ),
    Reason(
        ("assume the role", "assume role", "is not authorized to perform"),
        "a role may not do what starting the container needs",
        "the message names role and action; a permissions boundary or an organisation's policy can forbid it",
    ),
    Reason(
        ("outofmemory", "out of memory"),
        "the container needed more memory than it has",
        "raise WorkerMemory, or lower WorkerConcurrency or MAX_PIXELS",
    ),
    Reason(
        ("health check",),
        "the container did not get healthy: it runs, but makes no progress",
        "its last log lines say what it waits for: usually a queue that it can't reach from its subnets",
    ),
    Reason(
        ("spot", "terminationnotice"),
        "AWS took back a Spot machine",
        "nothing: another one is started, and its work is done again",
    ),
    Reason(
        ("essential container in task exited", "essentialcontainerexited"),
        "the program in the container ended",
        "its last log lines say why",
    ),
)


def find(text: str) -> Reason | None:
    """The first reason whose words are in ECS's message, or None."""
    lowered = text.lower()
    return next((reason for reason in REASONS if any(word in lowered for word in reason.words)), None)

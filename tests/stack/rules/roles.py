"""Who may do what."""

from __future__ import annotations

from collections.abc import Iterator

from tests.stack.iam import Call, grants
from tests.stack.rules.base import Template, rule
from tests.stack.template import Stack

#: Actions that IAM can't narrow to a resource. Source: the service authorization reference.
WITHOUT_RESOURCE = {
    "cloudwatch:GetMetricData",
    "ecr:GetAuthorizationToken",
    "sns:Unsubscribe",
    "sqs:ListQueues",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
}


@rule
def roles_belong_to_this_accounts_tasks(template: Template) -> Iterator[str]:
    for name, role in Stack(template).resources("AWS::IAM::Role").items():
        (statement,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        condition = statement.get("Condition", {})
        if statement["Principal"] != {"Service": "ecs-tasks.amazonaws.com"}:
            yield f"{name} can be assumed by {statement['Principal']}"
        if condition.get("StringEquals") != {"aws:SourceAccount": "123456789012"} or "ArnLike" not in condition:
            yield f"{name} could be lent to another account's tasks"
        if "ManagedPolicyArns" in role["Properties"]:
            yield f"{name} has a managed policy, which grants more than is needed"


@rule
def every_action_has_its_resource(template: Template) -> Iterator[str]:
    stack = Stack(template)
    for role in stack.resources("AWS::IAM::Role"):
        for grant in grants(stack, role):
            if "*" in grant.action:
                yield f"{role}/{grant.sid}: {grant.action} is more than one action"
            if "*" in grant.resources and grant.action not in WITHOUT_RESOURCE:
                yield f"{role}/{grant.sid}: {grant.action} on everything"


@rule
def own_tasks_have_their_folder_and_no_more(template: Template) -> Iterator[str]:
    inputs, outputs = (f"arn:aws:s3:::photos-{kind}-123456789012-us-east-1" for kind in ("input", "output"))
    needed = {
        "WorkerRole": [Call(f"s3:{verb}Object", f"{outputs}/own/a") for verb in ("Get", "Put", "Delete")],
        "BridgeRole": [Call("s3:GetObject", f"{inputs}/a"), Call("s3:ListBucket", inputs)],
    }
    for folder in ("", "own/"):
        stack = Stack(template, {"OwnFolder": folder})
        for role, calls in needed.items():
            for call in calls:
                if any(grant.allows(call) for grant in grants(stack, role)) != bool(folder):
                    yield f"{role} with OwnFolder={folder!r}: {call} is {'refused' if folder else 'allowed'}"
        elsewhere = Call("s3:PutObject", f"{outputs}/else/a")
        if any(grant.allows(elsewhere) for grant in grants(stack, "WorkerRole")):
            yield f"WorkerRole with OwnFolder={folder!r} writes to other folders"


@rule
def secrets_are_for_the_execution_role_alone(template: Template) -> Iterator[str]:
    stack = Stack(template)
    for role in stack.resources("AWS::IAM::Role"):
        readers = [grant for grant in grants(stack, role) if grant.action == "secretsmanager:GetSecretValue"]
        if bool(readers) != (role == "ExecutionRole") or any(grant.resources != ("FlowerSecret",) for grant in readers):
            yield f"{role}: access to secrets {readers}"

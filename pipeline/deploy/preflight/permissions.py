"""Checks the caller's permissions for a deployment: IAM simulates them, if it is allowed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from pipeline.aws import clients
from pipeline.aws.errors import describe_error
from pipeline.deploy.account import Account
from pipeline.operations.check_results import CheckResult, ok, unknown, warning

#: In the folder of the templates.
DEPLOYER, SERVICE = "deployer-policy.json", "service-role-policy.json"
#: Statements that not every deployment needs.
_OPTIONAL = {"SwitchOnEventsOfYourBuckets", "OnlyForDeleteData", "ProveAWorker", "HandToItsWorker"}
_WITH_SERVICE_ROLE = {"HandToCloudFormation"}
#: Maximum number of denied actions to list.
_NAMED = 5
_WHAT = "permissions"


def check(here: Account, stack: str, folder: Path, *, service_role: str | None) -> CheckResult:
    """With a service role, CloudFormation's calls use that role; without one, the caller's."""
    names = [DEPLOYER] if service_role is not None else [DEPLOYER, SERVICE]
    skipped = _OPTIONAL | (set() if service_role is not None else _WITH_SERVICE_ROLE)
    try:
        statements = [
            statement
            for name in names
            for statement in json.loads((folder / name).read_text(encoding="utf-8"))["Statement"]
            if statement["Sid"] not in skipped
        ]
        who = _principal(here.arn)
        if who is None:
            return ok(_WHAT, f"{here.arn} may do all")
        denied = [action for statement in statements for action in _denied(who, statement, here, stack)]
    except (ClientError, BotoCoreError, ResponseParserError) as exc:  # ResponseParserError: an endpoint without IAM
        return unknown(
            _WHAT, f"IAM can't be queried: {describe_error(exc)}", "iam:SimulatePrincipalPolicy on yourself allows it"
        )
    except OSError as exc:
        return unknown(_WHAT, f"{exc.filename}: cannot be read: {exc.strerror}")
    if not denied:
        return ok(_WHAT, f"{who} may do all that a deployment calls")
    more = "" if len(denied) <= _NAMED else f" and {len(denied) - _NAMED} more"
    # A warning, since a simulation with resource patterns is denied if a policy names single resources.
    return warning(
        _WHAT,
        f"by IAM's simulation {who} may not {', '.join(denied[:_NAMED])}{more}",
        f"attach what is missing of {' and '.join(names)} in cloudformation/ (docs/deploy.md)",
    )


def _principal(arn: str) -> str | None:
    """The caller's ARN in IAM; None for the root user, who may do anything. A session is simulated as its role."""
    kind, _, name = arn.rsplit(":", 1)[1].partition("/")
    if kind == "root":
        return None
    if kind != "assumed-role":
        return arn
    role = name.split("/")[0]
    try:
        found: str = clients.client("iam").get_role(RoleName=role)["Role"]["Arn"]
    except ClientError:  # the path is unknown then; most roles have none
        account, partition = arn.split(":")[4], arn.split(":")[1]
        return f"arn:{partition}:iam::{account}:role/{role}"
    return found


def _denied(who: str, statement: dict[str, Any], here: Account, stack: str) -> Iterator[str]:
    resources = [statement["Resource"]] if isinstance(statement["Resource"], str) else statement["Resource"]
    actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
    arns = [_filled(resource, here, stack) for resource in resources]
    context = [
        {
            "ContextKeyName": key,
            "ContextKeyValues": [value] if isinstance(value, str) else value[:1],
            "ContextKeyType": "string",
        }
        for key, value in statement.get("Condition", {}).get("StringEquals", {}).items()
    ]
    pages = (
        clients.client("iam")
        .get_paginator("simulate_principal_policy")
        .paginate(PolicySourceArn=who, ActionNames=actions, ResourceArns=arns, ContextEntries=context)
    )
    allowed: dict[str, bool] = {}
    for result in (result for page in pages for result in page["EvaluationResults"]):
        # An action applies to one kind of resource of a statement; for the others it is denied.
        name = result["EvalActionName"]
        allowed[name] = allowed.get(name, False) or result["EvalDecision"] == "allowed"
    yield from (name for name in actions if not allowed.get(name, False))


def _filled(resource: str, here: Account, stack: str) -> str:
    partition = here.arn.split(":")[1]
    filled = resource.replace("REGION", here.region).replace("ACCOUNT", here.id).replace("STACK", stack)
    return filled.replace("arn:aws:", f"arn:{partition}:", 1)

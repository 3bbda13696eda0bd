"""Change sets: they show what a deployment would do."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from pipeline.aws import clients
from pipeline.aws.errors import code, translate_errors
from pipeline.core.errors import PipelineError

#: CloudFormation needs some seconds to compute the changes.
PATIENCE_S = 300
POLL_S = 2.0

#: Statuses of a change set that another deployment has made obsolete.
#: Source: CloudFormation API Reference, ExecuteChangeSet (after an update all other change sets are gone).
_OVERTAKEN = {"InvalidChangeSetStatus", "InvalidChangeSetStatusException", "ChangeSetNotFound"}
#: CloudFormation's messages for a change set without changes. There is no error code for it.
_NOTHING = ("didn't contain changes", "No updates are to be performed")


@dataclass(frozen=True, slots=True)
class Change:
    """One resource: ``action`` is Add, Modify, Remove, Import…; ``replaces`` True, False or Conditional.

    ``physical``: its name in AWS, empty for a new resource.
    """

    action: str
    name: str
    kind: str
    replaces: str
    physical: str = ""

    @property
    def loses_something(self) -> bool:
        return self.action == "Remove" or self.replaces in ("True", "Conditional")


@dataclass(frozen=True, slots=True)
class ChangeSet:
    id: str
    stack_id: str
    changes: tuple[Change, ...]


def parameters_of(template: str) -> dict[str, str | None]:
    """The template's parameters and their defaults (None: required). Raises ``PipelineError``."""
    with translate_errors("reading the template"):
        summary = clients.client("cloudformation").get_template_summary(TemplateBody=template)
    return {entry["ParameterKey"]: entry.get("DefaultValue") for entry in summary.get("Parameters", [])}


@dataclass(frozen=True, slots=True)
class Proposal:
    """The input of a change set. ``values``: of the parameters; ``take_over``: buckets that it may import."""

    stack: str
    template: str
    values: Mapping[str, str]
    new: bool
    tags: Mapping[str, str] = field(default_factory=dict)
    take_over: frozenset[str] = frozenset()
    service_role: str | None = None  # the ARN of CloudFormation's role


def propose(proposal: Proposal, *, sleep: Callable[[float], None] = time.sleep) -> ChangeSet | None:
    """Creates a change set and waits for it; None if nothing would change. Raises ``PipelineError``."""
    client = clients.client("cloudformation")
    stack, new = proposal.stack, proposal.new
    role = {} if proposal.service_role is None else {"RoleARN": proposal.service_role}
    with translate_errors(f"proposing the changes to stack {stack}"):
        made = client.create_change_set(
            StackName=stack,
            ChangeSetName=f"deploy-{uuid.uuid4().hex}",
            ChangeSetType="CREATE" if new else "UPDATE",
            TemplateBody=proposal.template,
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in proposal.values.items()],
            Capabilities=["CAPABILITY_IAM"],
            ImportExistingResources=bool(proposal.take_over),
            Tags=[{"Key": name, "Value": value} for name, value in proposal.tags.items()],
            **role,
        )
        try:
            answer = _wait(client, made["Id"], sleep)
        except KeyboardInterrupt:
            discard(made["Id"], made["StackId"], new=new)
            raise
    if answer["Status"] == "FAILED":
        reason = answer.get("StatusReason", "")
        discard(made["Id"], made["StackId"], new=new)
        if any(text in reason for text in _NOTHING):
            return None
        raise PipelineError(f"CloudFormation refuses the changes to stack {stack}: {reason}")
    proposed = ChangeSet(made["Id"], made["StackId"], tuple(_changes(client, made["Id"])))
    _only_ours(proposed, proposal)
    return proposed


def _only_ours(proposed: ChangeSet, proposal: Proposal) -> None:
    """ImportExistingResources imports anything with a name of the template's: only our buckets are allowed."""
    for change in proposed.changes:
        if change.action == "Import" and change.physical not in proposal.take_over:
            discard(proposed.id, proposed.stack_id, new=proposal.new)
            raise PipelineError(
                f"{change.kind} {change.physical or change.name} exists already, and this stack would take it over: "
                "remove it if it is not used, or give the stack another name (--stack)"
            )


def _wait(client: Any, change_set: str, sleep: Callable[[float], None]) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found: dict[str, Any] = client.describe_change_set(ChangeSetName=change_set)
        if found["Status"] not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
            return found
        if time.monotonic() > deadline:
            raise PipelineError(f"CloudFormation has not worked out the changes within {PATIENCE_S} s: try again")
        sleep(POLL_S)


def _changes(client: Any, change_set: str) -> list[Change]:
    found = []
    for page in client.get_paginator("describe_change_set").paginate(ChangeSetName=change_set):
        for entry in page["Changes"]:
            change = entry["ResourceChange"]
            found.append(
                Change(
                    action=change["Action"],
                    name=change["LogicalResourceId"],
                    kind=change["ResourceType"],
                    replaces=change.get("Replacement", "False"),
                    physical=change.get("PhysicalResourceId", ""),
                )
            )
    return found


def discard(change_set: str, stack_id: str, *, new: bool) -> None:
    """Deletes a change set that is not executed, and the empty stack that it created.

    Keeps a stack that somebody else has started to use.
    """
    client = clients.client("cloudformation")
    with translate_errors("removing the change set"):
        client.delete_change_set(ChangeSetName=change_set)
        if new and client.describe_stacks(StackName=stack_id)["Stacks"][0]["StackStatus"] == "REVIEW_IN_PROGRESS":
            client.delete_stack(StackName=stack_id)


def execute(change_set: ChangeSet) -> None:
    """Raises ``PipelineError``, also if the stack has changed since the changes were computed."""
    with translate_errors("carrying out the changes"):
        try:
            clients.client("cloudformation").execute_change_set(ChangeSetName=change_set.id)
        except ClientError as exc:
            if code(exc) not in _OVERTAKEN:
                raise
            raise PipelineError(
                "somebody else has changed the stack since these changes were shown, so none of them was carried out: "
                "deploy again, to see what is left of them"
            ) from exc

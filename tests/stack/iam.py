"""What a role of the template may do: its policies' statements, and whether they allow a call."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.stack.template import Stack


@dataclass(frozen=True, slots=True)
class Call:
    """One call as IAM sees it: ``sqs:SendMessage`` on an ARN (``*`` where the action knows none)."""

    action: str
    resource: str


@dataclass(frozen=True, slots=True)
class Grant:
    """One action of one statement, with the resources that it is allowed on."""

    sid: str
    action: str
    resources: tuple[str, ...]

    def allows(self, call: Call) -> bool:
        return _matches(self.action, call.action) and any(
            _matches(pattern, call.resource) for pattern in self.resources
        )


def grants(stack: Stack, role: str) -> tuple[Grant, ...]:
    """All that a role (by logical id) may do. Raises ``ValueError`` for what is not modelled: Deny, conditions."""
    return tuple(_grants(stack, role))


def _grants(stack: Stack, role: str) -> Iterator[Grant]:
    documents = [policy["PolicyDocument"] for policy in stack.properties(role).get("Policies", [])]
    for policy in stack.resources("AWS::IAM::RolePolicy").values():
        if policy["Properties"]["RoleName"] == role:
            documents.append(policy["Properties"]["PolicyDocument"])
    for policy in stack.resources("AWS::IAM::Policy").values():
        if role in policy["Properties"]["Roles"]:
            documents.append(policy["Properties"]["PolicyDocument"])
    for document in documents:
        for statement in document["Statement"]:
            if statement["Effect"] != "Allow" or set(statement) - {"Sid", "Effect", "Action", "Resource"}:
                raise ValueError(f"{role}: only plain Allow statements are understood, not {statement}")
            resources = tuple(as_list(statement["Resource"]))
            for action in as_list(statement["Action"]):
                yield Grant(statement["Sid"], action, resources)


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _matches(pattern: str, value: str) -> bool:
    wildcards = {"*": ".*", "?": "."}
    expression = "".join(wildcards.get(char, re.escape(char)) for char in pattern)
    return re.fullmatch(expression, value, re.DOTALL) is not None

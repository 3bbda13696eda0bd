"""``python -m pipeline deploy``: creates the stack, or brings it up to date, after showing what would change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from pipeline.core.errors import PipelineError
from pipeline.deploy import account, buckets, changes, names, shown, states, tags
from pipeline.deploy.changes import ChangeSet, Proposal
from pipeline.deploy.follow import Follower, StackFailed
from pipeline.deploy.witness import Witness

TEMPLATE = Path(__file__).parents[2] / "cloudformation" / "batch.yaml"
DEFAULT_STACK = "batch-images"

#: Buckets are called after the stack, the account and the region, and S3 takes 63 characters.
MAX_NAME_CHARS = 28
_NAME = re.compile(rf"[a-z][a-z0-9-]{{0,{MAX_NAME_CHARS - 1}}}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A deployment as it was asked for. ``given``: values of the template's parameters."""

    stack: str
    given: Mapping[str, str]
    template: Path = TEMPLATE
    network: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    service_role: str | None = None
    yes: bool = False
    dry_run: bool = False


def deploy(wanted: Wanted, console: Console | None = None) -> None:
    """Raises ``PipelineError``."""
    console = Console(highlight=False) if console is None else console
    stack = wanted.stack
    _check_name(stack)
    if not (wanted.yes or wanted.dry_run or console.is_terminal):
        raise PipelineError("nobody is there to agree: give --yes, or --dry-run to look only")
    text = _read(wanted.template)
    here = account.current()
    console.print(f"Stack {stack} in {here.region}, account {here.id}, as {escape(here.arn)}", soft_wrap=True)
    existing = _existing(stack)
    values = _values(wanted, changes.parameters_of(text), existing, console)
    rendered = names.rendered(text, values, stack=stack, account=here.id, region=here.region)
    kept = buckets.to_take_over(rendered.buckets, stack) if existing is None else frozenset()
    for bucket in sorted(kept):
        console.print(f"Bucket {bucket} was left by an earlier stack of this name; it is taken over as it is.")
    proposal = Proposal(
        stack,
        rendered.text,
        values,
        new=existing is None,
        tags=tags.merged(tags.of(existing), wanted.tags, stack),
        take_over=kept,
        service_role=wanted.service_role,
    )
    if not wanted.dry_run and account.ensure_ecs_role():
        console.print(f"Made the role {account.ECS_ROLE}, which the first ECS cluster of an account needs.")
    with console.status("Working out the changes ..."):
        proposed = changes.propose(proposal)
    if proposed is None:
        console.print("Nothing to change: the stack is as the template says.")
    else:
        shown.changes(proposed, console)
        if wanted.dry_run or not (wanted.yes or click.confirm("Carry this out?")):
            changes.discard(proposed.id, proposed.stack_id, new=proposal.new)
            console.print("Nothing was changed.")
            return
        _carry_out(proposal, proposed, console)
    shown.next_steps(stack, console)


def _check_name(stack: str) -> None:
    if not _NAME.fullmatch(stack):
        raise PipelineError(
            f"{stack!r} can't be the stack's name, since buckets and queues are called after it: "
            f"use lower-case letters, digits and hyphens, at most {MAX_NAME_CHARS}"
        )


def _read(template: Path) -> str:
    try:
        return template.read_text(encoding="utf-8")
    except OSError as exc:
        raise PipelineError(
            f"{template}: cannot be read: {exc.strerror}; deploy from a copy of the repository"
        ) from exc


def _existing(stack: str) -> dict[str, Any] | None:
    """None where there is none. Raises ``PipelineError`` where it can't be changed."""
    found = account.describe(stack)
    state = states.of(stack, None if found is None else found["StackStatus"])
    return None if state is states.State.NEW else found


def _values(
    wanted: Wanted, declared: Mapping[str, bool], existing: dict[str, Any] | None, console: Console
) -> dict[str, str]:
    """What is given, else what the stack has, else the network to be found. Raises ``PipelineError`` for what lacks."""
    unknown = sorted(set(wanted.given) - set(declared))
    if unknown:
        raise PipelineError(f"the template has no parameter {', '.join(unknown)}; it has {', '.join(sorted(declared))}")
    values = dict(wanted.given)
    if wanted.network is not None:
        values = account.network_of(wanted.network).parameters() | values
    if existing is not None:
        before = {entry["ParameterKey"]: entry["ParameterValue"] for entry in existing.get("Parameters", [])}
        values = {name: value for name, value in before.items() if name in declared} | values
    elif "VpcId" not in values:
        found = account.default_network()
        console.print(f"No network was given: the default VPC {found.vpc} with its {len(found.subnets)} subnets.")
        values = found.parameters() | values
    missing = sorted(name for name, needed in declared.items() if needed and name not in values)
    if missing:
        raise PipelineError(
            f"{', '.join(missing)} must be given: --image for the container image (docs/deploy.md says how to push "
            "one), --vpc and --subnets for the network"
        )
    return values


def _carry_out(proposal: Proposal, proposed: ChangeSet, console: Console) -> None:
    follower = Follower(proposed.stack_id)
    witness = Witness(proposal.stack, proposal.values.get("ExistingCluster") or None)
    changes.execute(proposed)
    try:
        shown.follow(follower, len(proposed.changes), console, witness)
    except StackFailed as exc:
        raise PipelineError(told(proposal.stack, exc, witness)) from exc
    except KeyboardInterrupt:
        console.print("The deployment goes on in AWS; `python -m pipeline deploy` shows later how it ended.")
        raise


def told(stack: str, failure: StackFailed, witness: Witness) -> str:
    """A failed deployment in full: CloudFormation's cause, what the containers said, and what to do."""
    lines = [str(failure)]
    if witness.found:
        lines.append("What the containers said before they were removed:")
        lines += [f"  {line}" for finding in witness.found for line in finding.lines()]
    advice = states.after_failure(stack, failure.status)
    return "\n".join([*lines, advice] if advice else lines)

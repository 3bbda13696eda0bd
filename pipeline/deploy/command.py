"""``python -m pipeline deploy``: what the person sees."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.core.errors import PipelineError
from pipeline.deploy import account, changes
from pipeline.deploy.changes import ChangeSet
from pipeline.deploy.follow import Event, Follower

TEMPLATE = Path(__file__).parents[2] / "cloudformation" / "batch.yaml"
DEFAULT_STACK = "batch-images"

#: Buckets are called after the stack, the account and the region, and S3 takes 63 characters.
MAX_NAME_CHARS = 28
_NAME = re.compile(rf"[a-z][a-z0-9-]{{0,{MAX_NAME_CHARS - 1}}}")

#: States in which a stack can be changed.
_AT_REST = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE"}


def deploy(
    stack: str,
    given: Mapping[str, str],
    *,
    network: str | None,
    template: Path,
    yes: bool,
    dry_run: bool,
    console: Console | None = None,
) -> None:
    """Creates the stack, or brings it up to date, after showing what would change.

    ``given``: values of the template's parameters. Raises ``PipelineError``.
    """
    console = Console(highlight=False) if console is None else console
    _check_name(stack)
    if not (yes or dry_run or console.is_terminal):
        raise PipelineError("nobody is there to agree: give --yes, or --dry-run to look only")
    text = _read(template)
    here = account.current()
    console.print(f"Stack {stack} in {here.region}, account {here.id}, as {escape(here.arn)}", soft_wrap=True)
    existing = _existing(stack)
    declared = changes.parameters_of(text)
    unknown = sorted(set(given) - set(declared))
    if unknown:
        raise PipelineError(f"the template has no parameter {', '.join(unknown)}; it has {', '.join(sorted(declared))}")
    values = _parameters(given, declared, existing, network, console)
    if not dry_run and account.ensure_ecs_role():
        console.print(f"Made the role {account.ECS_ROLE}, which the first ECS cluster of an account needs.")
    with console.status("Working out the changes ..."):
        proposed = changes.propose(stack, text, values, new=existing is None)
    if proposed is None:
        console.print("Nothing to change: the stack is as the template says.")
    else:
        _show(proposed, console)
        if dry_run or not (yes or click.confirm("Carry this out?")):
            changes.discard(proposed.id, proposed.stack_id, new=existing is None)
            console.print("Nothing was changed.")
            return
        _carry_out(proposed, console)
    _next_steps(stack, console)


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
    found = account.describe(stack)
    if found is None or found["StackStatus"] == "REVIEW_IN_PROGRESS":  # an earlier change set that was left alone
        return None
    status = found["StackStatus"]
    if status.endswith("_IN_PROGRESS"):
        raise PipelineError(f"stack {stack} is being changed ({status}): wait until that is done")
    if status not in _AT_REST:
        raise PipelineError(f"stack {stack} is {status} and can't be changed: `python -m pipeline teardown` it first")
    return found


def _parameters(
    given: Mapping[str, str],
    declared: Mapping[str, bool],
    existing: dict[str, Any] | None,
    network: str | None,
    console: Console,
) -> dict[str, str]:
    """What is given, else what the stack has, else the network to be found. Raises ``PipelineError`` for what lacks."""
    values = dict(given)
    if network is not None:
        values = account.network_of(network).parameters() | values
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


def _show(proposed: ChangeSet, console: Console) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("change", "resource", "type", ""):
        table.add_column(column, no_wrap=column != "")
    for change in sorted(proposed.changes, key=lambda change: (not change.loses_something, change.kind, change.name)):
        note = {"True": "replaced", "Conditional": "may be replaced"}.get(change.replaces, "")
        style = "red" if change.loses_something else ""
        table.add_row(change.action, change.name, change.kind.removeprefix("AWS::"), note, style=style)
    console.print(table)


def _carry_out(proposed: ChangeSet, console: Console) -> None:
    follower = Follower(proposed.stack_id)
    changes.execute(proposed)
    try:
        follow(follower, len(proposed.changes), console)
    except KeyboardInterrupt:
        console.print("The deployment goes on in AWS; `python -m pipeline deploy` shows later how it ended.")
        raise


def follow(follower: Follower, total: int | None, console: Console) -> None:
    """Prints a line for each resource that is done or has failed, of so many. Raises ``PipelineError``."""
    finished: set[str] = set()
    under_way: dict[str, None] = {}
    with console.status("Waiting for CloudFormation ...") as spinner:

        def report(event: Event) -> None:
            if not event.finished:
                under_way[event.name] = None
            else:
                under_way.pop(event.name, None)
                finished.add(event.name)
                colour = "red" if event.failed else "green"
                reason = f": {escape(event.reason)}" if event.failed else ""
                of = "" if total is None else f"/{max(total, len(finished))}"
                console.print(
                    f"{len(finished):>3}{of} [{colour}]{event.status}[/] {event.name} "
                    f"({event.kind.removeprefix('AWS::')}){reason}",
                    soft_wrap=True,
                )
            spinner.update(f"{', '.join(list(under_way)[:4]) or 'Waiting for CloudFormation'} ...")

        follower.until_rest(report)


def _next_steps(stack: str, console: Console) -> None:
    found = account.describe(stack)
    outputs = [] if found is None else found.get("Outputs", [])
    console.print("\nDone.")
    for output in sorted(outputs, key=lambda output: output["OutputKey"]):
        console.print(f"[bold]{output['OutputKey']}[/]: {escape(output.get('Description', ''))}", soft_wrap=True)
        console.print(f"  {escape(output['OutputValue'])}", soft_wrap=True)
    named = account.outputs_of(found)
    if "UploadTo" in named:
        console.print("\nNext:", f"  aws s3 cp photo.jpg {named['UploadTo']}", sep="\n", soft_wrap=True)
        console.print(f"  aws s3 ls --recursive {named['RenditionsIn']}/   (after about three minutes, from zero)")
        console.print(f"  cloudformation/live-check --stack {stack}   (scales out, back to zero, loses nothing)")

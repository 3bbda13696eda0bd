"""``python -m pipeline deploy``: creates the stack, or brings it up to date, after showing what would change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from pipeline.aws import clients
from pipeline.aws.errors import plainly
from pipeline.core.console import counted
from pipeline.core.errors import PipelineError
from pipeline.deploy import account, alarms, buckets, changes, inputs, names, shown, states, tags
from pipeline.deploy.changes import ChangeSet, Proposal
from pipeline.deploy.follow import Follower, StackFailed
from pipeline.deploy.preflight import run as preflight
from pipeline.deploy.witness import Witness
from pipeline.operations.verdicts import Level, lines, show

_TEMPLATES = (Path(__file__).parents[2] / "cloudformation", Path(__file__).with_name("templates"))
#: In a checkout, at its top; in an installed package, which has none there, beside this module.
TEMPLATE = next((folder for folder in _TEMPLATES if folder.is_dir()), _TEMPLATES[0]) / "batch.yaml"
DEFAULT_STACK = "batch-images"

#: Where a bucket is there already, none is made under the name that the other parameter would give.
_INSTEAD = {"InputBucketName": "ExistingInputBuckets", "OutputBucketName": "ExistingOutputBucket"}

#: What S3 says of a queue that it may not send to.
_TOO_EARLY = "Unable to validate the following destination configurations"

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
    input_buckets: tuple[str, ...] = ()  # that are there already
    yes: bool = False
    dry_run: bool = False
    unchecked: bool = False  # without the preflight


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
    if not wanted.dry_run:
        _remove_failed(wanted, console)
    existing = _existing(stack)
    declared = changes.parameters_of(text)
    of_alarms = alarms.Alarms.beside(wanted.template)
    wanted, given_alarms = _split(wanted, declared, of_alarms)
    values = _values(wanted, declared, existing, console)
    taken = _inputs(values, declared, here, console)
    if not wanted.unchecked:
        defaults = {name: value for name, value in declared.items() if value is not None}
        _preflight(wanted, defaults | values, here, console)
    rendered = names.rendered(text, values, stack=stack, account=here.id, region=here.region)
    made = {
        parameter: name for parameter, name in rendered.buckets.items() if not values.get(_INSTEAD.get(parameter, ""))
    }
    kept = buckets.to_take_over(made, stack) if existing is None else frozenset()
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
    if proposed is not None or any(not found.is_on for found in taken):
        if wanted.dry_run or not (wanted.yes or click.confirm("Carry this out?")):
            if proposed is not None:
                changes.discard(proposed.id, proposed.stack_id, new=proposal.new)
            console.print("Nothing was changed.")
            return
        if proposed is not None:
            _carry_out(proposal, proposed, console)
        _switch(taken, values, stack, console)
    if of_alarms is not None and not wanted.dry_run:
        alarms.deploy(
            of_alarms, stack, given_alarms, tags=proposal.tags, service_role=wanted.service_role, console=console
        )
    shown.next_steps(stack, console)


def _split(
    wanted: Wanted, declared: Mapping[str, str | None], of_alarms: alarms.Alarms | None
) -> tuple[Wanted, dict[str, str]]:
    """What was asked for without the values that only the alarms know; and theirs."""
    if of_alarms is None:
        return wanted, {}
    given, own = of_alarms.split(wanted.given, declared)
    return replace(wanted, given=given), own


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


def _remove_failed(wanted: Wanted, console: Console) -> None:
    """A creation that was rolled back leaves a stack of no resources, which can be nothing but deleted."""
    found = account.describe(wanted.stack)
    if found is None or found["StackStatus"] != states.ROLLED_BACK:
        return
    console.print(f"An earlier creation of {wanted.stack} failed, and was rolled back: there is nothing in it.")
    if wanted.yes or click.confirm("Remove it, and begin anew?"):
        follower = Follower(found["StackId"])
        with plainly(f"deleting stack {wanted.stack}"):
            clients.client("cloudformation").delete_stack(StackName=found["StackId"])
        shown.follow(follower, None, console)


def _existing(stack: str) -> dict[str, Any] | None:
    """None where there is none. Raises ``PipelineError`` where it can't be changed."""
    found = account.describe(stack)
    state = states.of(stack, None if found is None else found["StackStatus"])
    return None if state is states.State.NEW else found


def _values(
    wanted: Wanted, declared: Mapping[str, str | None], existing: dict[str, Any] | None, console: Console
) -> dict[str, str]:
    """What is given, else what the stack has, else the network to be found. Raises ``PipelineError`` for what lacks."""
    values = dict(wanted.given)
    if wanted.input_buckets:
        values["ExistingInputBuckets"] = ",".join(wanted.input_buckets)
    unknown = sorted(set(values) - set(declared))
    if unknown:
        raise PipelineError(f"the template has no parameter {', '.join(unknown)}; it has {', '.join(sorted(declared))}")
    if wanted.network is not None:
        values = account.network_of(wanted.network).parameters() | values
    if existing is not None:
        before = account.parameters_of(existing)
        values = {name: value for name, value in before.items() if name in declared} | values
    elif "VpcId" not in values:
        found = account.default_network()
        console.print(f"No network was given: the default VPC {found.vpc} with its {len(found.subnets)} subnets.")
        values = found.parameters() | values
    missing = sorted(name for name, default in declared.items() if default is None and name not in values)
    if missing:
        raise PipelineError(
            f"{', '.join(missing)} must be given: --image for the container image (docs/deploy.md says how to push "
            "one), --vpc and --subnets for the network"
        )
    return values


def _inputs(
    values: dict[str, str], declared: Mapping[str, str | None], here: account.Account, console: Console
) -> list[inputs.Found]:
    """The buckets that it takes uploads from and did not make; completes what follows from them in ``values``."""
    found = [inputs.look(bucket, here) for bucket in inputs.listed(values.get("ExistingInputBuckets", ""))]
    for each in found:
        for line in inputs.told(each):
            console.print(line, soft_wrap=True)
    keys = ",".join(dict.fromkeys(each.key for each in found if each.key is not None))
    if keys and "InputKmsKeyArns" in declared and not values.get("InputKmsKeyArns"):
        values["InputKmsKeyArns"] = keys
    if output := values.get("ExistingOutputBucket"):
        key = inputs.look(output, here).key
        if key is not None and "OutputKmsKeyArn" in declared and not values.get("OutputKmsKeyArn"):
            values["OutputKmsKeyArn"] = key
            console.print(
                f"Bucket {output} is encrypted with {key}, which the workers get leave to use.", soft_wrap=True
            )
    if found and "EventBridgeSwitchedOn" in declared:
        values["EventBridgeSwitchedOn"] = inputs.recorded(values.get("EventBridgeSwitchedOn", ""), found)
    return found


def _switch(taken: list[inputs.Found], values: Mapping[str, str], stack: str, console: Console) -> None:
    """Last, so that a deployment that fails has changed nothing of the buckets. Raises ``PipelineError``."""
    for found in taken:
        if not found.is_on:
            inputs.switch_on(found.bucket)
            console.print(f"Switched EventBridge on for {found.bucket}; it takes S3 some minutes.")
            console.print(
                "What is in it already is not processed by itself. What it would be, take and cost:\n"
                f"  python -m pipeline adopt s3://{found.bucket}/{values.get('KeyPrefix', '')} --stack {stack}",
                soft_wrap=True,
            )


def _preflight(wanted: Wanted, values: Mapping[str, str], here: account.Account, console: Console) -> None:
    """Says what is not well. Raises ``PipelineError`` for what the deployment would fail by."""
    verdicts = preflight.on_paper(values)
    if not preflight.wrong(verdicts):
        with console.status("Looking for what could go wrong ..."):
            verdicts += preflight.in_account(values, here, wanted.stack, TEMPLATE.parent, wanted.service_role)
    for line in lines(verdict for verdict in verdicts if verdict.level is not Level.OK):
        console.print(escape(line), soft_wrap=True)
    if wrong := preflight.wrong(verdicts):
        raise PipelineError(
            f"{counted(len(wrong), 'thing')} to be corrected first, see above; `--unchecked` deploys all the same"
        )


def doctor(wanted: Wanted, *, as_json: bool, console: Console | None = None) -> int:
    """The preflight alone, for a stack that is there or is to be; returns the exit status. Raises ``PipelineError``."""
    console = Console(stderr=True, highlight=False) if console is None else console
    _check_name(wanted.stack)
    text = _read(wanted.template)
    here = account.current()
    console.print(f"Stack {wanted.stack} in {here.region}, account {here.id}, as {escape(here.arn)}", soft_wrap=True)
    existing = _existing(wanted.stack)
    declared = changes.parameters_of(text)
    wanted, _ = _split(wanted, declared, alarms.Alarms.beside(wanted.template))
    given = _values(wanted, declared, existing, console)
    values = {name: value for name, value in declared.items() if value is not None} | given
    asked = preflight.in_account(values, here, wanted.stack, TEMPLATE.parent, wanted.service_role)
    return show([*preflight.on_paper(values), *asked], as_json=as_json)


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
    if _TOO_EARLY in str(failure):
        lines.append("S3 tried the queue before its new policy held, which takes SQS up to a minute. Deploy again.")
    elif advice := states.after_failure(stack, failure.status):
        lines.append(advice)
    return "\n".join(lines)

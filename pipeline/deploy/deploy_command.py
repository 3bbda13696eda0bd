"""``python -m pipeline deploy``: creates the stack, or brings it up to date, after showing what would change."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from pipeline.core.console import pluralize
from pipeline.core.errors import PipelineError
from pipeline.deploy import account, alarms, bucket_names, buckets, changes, foreign, inputs, shown, tags, written
from pipeline.deploy.carrying_out import carry_out, remove_failed
from pipeline.deploy.changes import Proposal
from pipeline.deploy.preflight import preflight
from pipeline.deploy.proof import prove_worker
from pipeline.deploy.wanted import TEMPLATE, Wanted, check_name, existing_stack, parameter_values, read_template
from pipeline.operations.check_results import Level, lines, show

#: Parameters that name a new bucket, and those that name an existing one instead, so that no new one is created.
_INSTEAD = {"InputBucketName": "ExistingInputBuckets", "OutputBucketName": "ExistingOutputBucket"}


def deploy(wanted: Wanted, console: Console | None = None) -> list[str]:
    """Deploys the stack. Raises ``PipelineError``.

    Returns the places, as ``s3://bucket/prefix``, whose earlier uploads are not processed until they are adopted.
    """
    console = Console(highlight=False) if console is None else console
    stack = wanted.stack
    check_name(stack)
    if not (wanted.yes or wanted.dry_run or console.is_terminal):
        raise PipelineError("not a terminal, so it can't ask for confirmation: pass --yes, or --dry-run to look only")
    text = read_template(wanted.template)
    here = account.current()
    console.print(f"Stack {stack} in {here.region}, account {here.id}, as {escape(here.arn)}", soft_wrap=True)
    if not wanted.dry_run:
        remove_failed(wanted, console)
    existing = existing_stack(stack)
    declared = changes.parameters_of(text)
    of_alarms = alarms.Alarms.beside(wanted.template)
    wanted, given_alarms = _split(wanted, declared, of_alarms)
    values = parameter_values(wanted, declared, existing, console)
    taken = _inputs(stack, values, declared, here, console)
    if not wanted.unchecked:
        defaults = {name: value for name, value in declared.items() if value is not None}
        _preflight(wanted, defaults | values, here, console)
    rendered = bucket_names.rendered(text, values, stack=stack, account=here.id, region=here.region)
    output = values.get("ExistingOutputBucket") or rendered.buckets.get("OutputBucketName")
    if output is not None and written.PARAMETER in declared:
        values[written.PARAMETER] = written.arns(values, bucket=output, partition=here.partition)
    made = {
        parameter: name for parameter, name in rendered.buckets.items() if not values.get(_INSTEAD.get(parameter, ""))
    }
    kept = _taken_over(made, existing, stack, console)
    proposal = Proposal(
        stack,
        buckets.safe(rendered.text) if kept else rendered.text,
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
    shown.changes(proposed, console)
    due = [found for found in taken if not found.is_on]
    if not _is_agreed(wanted, proposal, proposed, due):
        if of_alarms is not None and wanted.dry_run:
            alarms.preview(of_alarms, proposal, given_alarms, console)
        console.print("Nothing was changed.")
        return []
    if proposed is not None:
        carry_out(proposal, proposed, console)
        prove_worker(stack, console)
    places = _switch(due, values, stack, console)
    if of_alarms is not None:
        alarms.deploy(of_alarms, proposal, given_alarms, console)
    shown.next_steps(stack, console)
    return places


def _is_agreed(
    wanted: Wanted, proposal: Proposal, proposed: changes.ChangeSet | None, due: Sequence[inputs.ExistingBucket]
) -> bool:
    """Whether to go on. If not, removes the change set, even after Ctrl-C at the question."""
    agreed = False
    try:
        nothing = proposed is None and not due
        agreed = not wanted.dry_run and (wanted.yes or nothing or click.confirm("Carry this out?"))
    finally:
        if proposed is not None and not agreed:
            changes.discard(proposed.id, proposed.stack_id, new=proposal.new)
    return agreed


def _taken_over(
    made: Mapping[str, str], existing: Mapping[str, Any] | None, stack: str, console: Console
) -> frozenset[str]:
    """Those of the template's buckets, ``made``, that exist already and that an earlier stack of this name has left."""
    own = () if existing is None else buckets.made_by(existing["StackId"])
    kept = buckets.to_take_over({parameter: name for parameter, name in made.items() if name not in own}, stack)
    for bucket in sorted(kept):
        console.print(f"Bucket {bucket} was left by an earlier stack of this name; it is taken over as it is.")
    return kept


def _split(
    wanted: Wanted, declared: Mapping[str, str | None], of_alarms: alarms.Alarms | None
) -> tuple[Wanted, dict[str, str]]:
    """Splits the request: the parameters of the pipeline's template, and those of the alarms' template."""
    if of_alarms is None:
        return wanted, {}
    given, own = of_alarms.split(wanted.given, declared)
    return replace(wanted, given=given), own


def _bucket(
    bucket: str, stack: str, values: Mapping[str, str], here: account.Account, console: Console, *, is_input: bool
) -> inputs.ExistingBucket:
    """Looks at an existing bucket, and prints what a deployment changes on it. Raises ``PipelineError``."""
    accounts = re.findall(r"\d{12}", values.get("BucketAccounts", ""))
    if accounts:
        wanted = foreign.Policies(bucket, stack, here, values, is_input=is_input)
        found = foreign.owner(bucket, here, accounts)
        if found is foreign.UNKNOWN:
            raise foreign.closed(bucket, wanted)
        if found is not None:
            console.print(foreign.describe(bucket, found, wanted), soft_wrap=True)
            return inputs.ExistingBucket(bucket, {}, account=found)
    seen = inputs.look(bucket, here, is_input=is_input)
    for line in inputs.describe(seen) if is_input else ():
        console.print(line, soft_wrap=True)
    return seen


def _inputs(
    stack: str, values: dict[str, str], declared: Mapping[str, str | None], here: account.Account, console: Console
) -> list[inputs.ExistingBucket]:
    """The existing buckets with uploads. Adds to ``values`` the parameters that follow from the existing buckets."""
    found = [
        _bucket(bucket, stack, values, here, console, is_input=True)
        for bucket in inputs.listed(values.get("ExistingInputBuckets", ""))
    ]
    keys = ",".join(dict.fromkeys(each.key for each in found if each.key is not None))
    if keys and "InputKmsKeyArns" in declared and not values.get("InputKmsKeyArns"):
        values["InputKmsKeyArns"] = keys
    if output := values.get("ExistingOutputBucket"):
        key = _bucket(output, stack, values, here, console, is_input=False).key
        if key is not None and "OutputKmsKeyArn" in declared and not values.get("OutputKmsKeyArn"):
            values["OutputKmsKeyArn"] = key
            console.print(
                f"Bucket {output} is encrypted with {key}, which the workers will be allowed to use.", soft_wrap=True
            )
    if found and "EventBridgeSwitchedOn" in declared:
        values["EventBridgeSwitchedOn"] = inputs.recorded(values.get("EventBridgeSwitchedOn", ""), found)
    return found


def _switch(due: list[inputs.ExistingBucket], values: Mapping[str, str], stack: str, console: Console) -> list[str]:
    """Switches EventBridge on; returns the places to adopt. Raises ``PipelineError``.

    Called last, so that a failed deployment has changed no bucket.
    """
    places = []
    for found in due:
        inputs.switch_on(found.bucket)
        places.append(f"s3://{found.bucket}/{values.get('KeyPrefix', '')}")
        console.print(f"Switched EventBridge on for {found.bucket}; it takes S3 some minutes.")
        console.print(
            "Objects that are in it already are not processed automatically. To see what adopting them costs:\n"
            f"  python -m pipeline adopt {places[-1]} --stack {stack}",
            soft_wrap=True,
        )
    return places


def _preflight(wanted: Wanted, values: Mapping[str, str], here: account.Account, console: Console) -> None:
    """Prints warnings and problems. Raises ``PipelineError`` for problems that would make the deployment fail."""
    results = preflight.on_paper(values)
    if not preflight.wrong(results):
        with console.status("Looking for what could go wrong ..."):
            results += preflight.in_account(values, here, wanted.stack, TEMPLATE.parent, wanted.service_role)
    for line in lines(result for result in results if result.level is not Level.OK):
        console.print(escape(line), soft_wrap=True)
    if wrong := preflight.wrong(results):
        raise PipelineError(
            f"{pluralize(len(wrong), 'thing')} to be corrected first, see above; `--unchecked` deploys all the same"
        )


def doctor(wanted: Wanted, *, as_json: bool, console: Console | None = None) -> int:
    """Only the preflight, for an existing or a new stack; returns the exit status. Raises ``PipelineError``."""
    console = Console(stderr=True, highlight=False) if console is None else console
    check_name(wanted.stack)
    text = read_template(wanted.template)
    here = account.current()
    console.print(f"Stack {wanted.stack} in {here.region}, account {here.id}, as {escape(here.arn)}", soft_wrap=True)
    existing = existing_stack(wanted.stack)
    declared = changes.parameters_of(text)
    wanted, _ = _split(wanted, declared, alarms.Alarms.beside(wanted.template))
    given = parameter_values(wanted, declared, existing, console)
    values = {name: value for name, value in declared.items() if value is not None} | given
    asked = preflight.in_account(values, here, wanted.stack, TEMPLATE.parent, wanted.service_role)
    return show([*preflight.on_paper(values), *asked], as_json=as_json)

"""Executes an approved deployment, and explains a failure."""

from __future__ import annotations

import time
from collections.abc import Callable

import click
from rich.console import Console

from pipeline.aws import clients
from pipeline.aws.errors import translate_errors
from pipeline.core.errors import PipelineError
from pipeline.deploy import account, changes, shown, states
from pipeline.deploy.changes import ChangeSet, Proposal
from pipeline.deploy.follow import Follower, StackFailed
from pipeline.deploy.wanted import Wanted
from pipeline.deploy.witness import Witness

#: Tries of one deployment, when S3 tests the queue too early.
TRIES = 3
#: Seconds until a queue can be created with the name of a deleted one.
#: Source: Amazon SQS API Reference, CreateQueue (QueueDeletedRecently).
NAME_FREE_S = 60
_GOES_ON = (
    "The deployment goes on in AWS. When it has ended, `python -m pipeline deploy` with the same options shows the "
    "result, and does what is left."
)
#: S3's message for a queue that it may not send to.
_TOO_EARLY = "Unable to validate the following destination configurations"


def remove_failed(wanted: Wanted, console: Console) -> None:
    """A creation that was rolled back leaves a stack without resources, which can only be deleted."""
    found = account.describe(wanted.stack)
    if found is None or found["StackStatus"] != states.ROLLED_BACK:
        return
    console.print(f"An earlier creation of {wanted.stack} failed, and was rolled back: there is nothing in it.")
    if wanted.yes or click.confirm("Remove it, and start again?"):
        _remove(wanted.stack, found["StackId"], console)


def _remove(stack: str, stack_id: str, console: Console) -> None:
    follower = Follower(stack_id)
    with translate_errors(f"deleting stack {stack}"):
        clients.client("cloudformation").delete_stack(StackName=stack_id)
    shown.follow(follower, None, console)


def carry_out(
    proposal: Proposal, proposed: ChangeSet, console: Console, *, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Executes it and follows it to the end, watching the containers. Raises ``PipelineError``.

    If S3 tests the queue before its policy applies, which is not the user's mistake, proposes the same changes and
    executes them again.
    """
    for left in reversed(range(TRIES)):
        witness = Witness(proposal.stack, proposal.values.get("ExistingCluster") or None)
        try:
            _follow(proposed, witness, console)
        except StackFailed as exc:
            again = _again(proposal, proposed, exc, console, sleep) if left and _TOO_EARLY in str(exc) else None
            if again is None:
                raise PipelineError(failure_text(proposal.stack, exc, witness)) from exc
            proposed = again
        else:
            return


def _follow(proposed: ChangeSet, witness: Witness, console: Console) -> None:
    follower = Follower(proposed.stack_id)
    changes.execute(proposed)
    try:
        shown.follow(follower, len(proposed.changes), console, witness)
    except KeyboardInterrupt:
        console.print(_GOES_ON)
        raise
    except StackFailed:
        raise
    except PipelineError as exc:  # the credentials may have expired
        raise PipelineError(f"{exc}\n{_GOES_ON}") from exc


def _again(
    proposal: Proposal, failed: ChangeSet, failure: StackFailed, console: Console, sleep: Callable[[float], None]
) -> ChangeSet | None:
    """Proposes the same changes again; None if the stack can't be changed."""
    if failure.status not in (states.ROLLED_BACK, "UPDATE_ROLLBACK_COMPLETE"):
        return None
    console.print("S3 tested the queue before SQS had applied its policy, which takes up to a minute: trying again.")
    if failure.status == states.ROLLED_BACK:
        _remove(proposal.stack, failed.stack_id, console)
        with console.status("Waiting until SQS allows the queues' names again ..."):
            sleep(NAME_FREE_S)
    with console.status("Working out the changes ..."):
        return changes.propose(proposal)


def failure_text(stack: str, failure: StackFailed, witness: Witness) -> str:
    """The explanation of a failed deployment: CloudFormation's cause, the containers' messages, and what to do."""
    lines = [str(failure)]
    if witness.found:
        lines.append("What the containers said before they were removed:")
        lines += [f"  {line}" for finding in witness.found for line in finding.lines()]
    if _TOO_EARLY in str(failure):
        lines.append(
            f"S3 could not test the queue, {TRIES} times in a row, though SQS needs at most a minute for a new policy: "
            "look at the policy of the events queue, and at what your organisation's policies forbid."
        )
    elif advice := states.after_failure(stack, failure.status):
        lines.append(advice)
    return "\n".join(lines)

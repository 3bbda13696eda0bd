"""Carries out what was agreed to, and tells in full why it failed."""

from __future__ import annotations

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

#: What S3 says of a queue that it may not send to.
_TOO_EARLY = "Unable to validate the following destination configurations"


def remove_failed(wanted: Wanted, console: Console) -> None:
    """A creation that was rolled back leaves a stack of no resources, which can be nothing but deleted."""
    found = account.describe(wanted.stack)
    if found is None or found["StackStatus"] != states.ROLLED_BACK:
        return
    console.print(f"An earlier creation of {wanted.stack} failed, and was rolled back: there is nothing in it.")
    if wanted.yes or click.confirm("Remove it, and begin anew?"):
        follower = Follower(found["StackId"])
        with translate_errors(f"deleting stack {wanted.stack}"):
            clients.client("cloudformation").delete_stack(StackName=found["StackId"])
        shown.follow(follower, None, console)


def carry_out(proposal: Proposal, proposed: ChangeSet, console: Console) -> None:
    """Follows it to its end, with an eye on the containers. Raises ``PipelineError``."""
    follower = Follower(proposed.stack_id)
    witness = Witness(proposal.stack, proposal.values.get("ExistingCluster") or None)
    changes.execute(proposed)
    try:
        shown.follow(follower, len(proposed.changes), console, witness)
    except StackFailed as exc:
        raise PipelineError(failure_text(proposal.stack, exc, witness)) from exc
    except KeyboardInterrupt:
        console.print("The deployment goes on in AWS; `python -m pipeline deploy` shows later how it ended.")
        raise


def failure_text(stack: str, failure: StackFailed, witness: Witness) -> str:
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

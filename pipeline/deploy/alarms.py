"""The alarms and the dashboard: ``cloudformation/alarms.yaml``, a stack beside the pipeline's.

One template for both would exceed CloudFormation's limit for a request (51,200 bytes,
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.aws import clients
from pipeline.aws.errors import translate_errors
from pipeline.core.errors import PipelineError
from pipeline.deploy import account, changes, shown, states
from pipeline.deploy.changes import Proposal
from pipeline.deploy.follow import Follower
from pipeline.deploy.wanted import read_template

SUFFIX = shown.ALARMS
FILE = "alarms.yaml"


@dataclass(frozen=True, slots=True)
class Alarms:
    """The template and its parameters, with their defaults (None: no default)."""

    text: str
    declared: Mapping[str, str | None]

    @classmethod
    def beside(cls, template: Path) -> Alarms | None:
        """The alarms beside the pipeline's template; None if there are none. Raises ``PipelineError``."""
        path = template.with_name(FILE)
        if not path.exists():
            return None
        text = read_template(path)
        return cls(text, changes.parameters_of(text))

    def values(self, stack: str, given: Mapping[str, str]) -> dict[str, str]:
        """The parameters: given ones, else the existing alarms', else the pipeline's values of the same name."""
        pipeline, existing = account.describe(stack), account.describe(stack + SUFFIX)
        found = account.outputs_of(pipeline) | ({} if pipeline is None else account.parameters_of(pipeline))
        before = {} if existing is None else account.parameters_of(existing)
        values = before | found | dict(given) | {"Pipeline": stack}
        return {name: value for name, value in values.items() if name in self.declared}

    def split(self, given: Mapping[str, str], declared: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
        """Splits ``given`` between the pipeline's template, with its ``declared``, and this one; some are for both.

        The pipeline's template gets unknown ones, and rejects them.
        """
        own = {name: value for name, value in given.items() if name in self.declared and name != "Pipeline"}
        return {name: value for name, value in given.items() if name in declared or name not in own}, own


def _proposal(alarms: Alarms, pipeline: Proposal, given: Mapping[str, str]) -> Proposal:
    """Raises ``PipelineError`` if their stack can't be changed."""
    name = pipeline.stack + SUFFIX
    found = account.describe(name)
    new = states.of(name, None if found is None else found["StackStatus"]) is states.StackState.NEW
    values = alarms.values(pipeline.stack, given)
    return Proposal(name, alarms.text, values, new=new, tags=pipeline.tags, service_role=pipeline.service_role)


def preview(alarms: Alarms, pipeline: Proposal, given: Mapping[str, str], console: Console) -> None:
    """The changes that a deployment would make; changes nothing. Raises ``PipelineError``."""
    name = pipeline.stack + SUFFIX
    if pipeline.new:  # the alarms need its outputs, which are not known yet
        console.print(f"Stack {name} would be made beside it: the alarms and the dashboard.")
        return
    proposal = _proposal(alarms, pipeline, given)
    with console.status("Working out the alarms ..."):
        proposed = changes.propose(proposal)
    if proposed is not None:
        changes.discard(proposed.id, proposed.stack_id, new=proposal.new)
    console.print(f"Alarms and dashboard, stack {name}:")
    shown.changes(proposed, console)


def deploy(alarms: Alarms, pipeline: Proposal, given: Mapping[str, str], console: Console) -> None:
    """Creates or updates the alarms of an existing pipeline. Raises ``PipelineError``."""
    proposal = _proposal(alarms, pipeline, given)
    with console.status("Working out the alarms ..."):
        proposed = changes.propose(proposal)
    if proposed is None:
        return
    console.print(f"Alarms and dashboard, stack {proposal.stack}: {len(proposed.changes)} changes.")
    follower = Follower(proposed.stack_id)
    changes.execute(proposed)
    try:
        shown.follow(follower, len(proposed.changes), console)
    except PipelineError as exc:
        raise PipelineError(f"the pipeline is deployed, but not its alarms: {exc}; run it again") from exc


def teardown(stack: str, console: Console, sleep: Callable[[float], None]) -> None:
    """Deletes a pipeline's alarms, if there are any. Raises ``PipelineError``."""
    found = account.describe(stack + SUFFIX)
    if found is None:
        return
    console.print(f"Stack {stack + SUFFIX} goes first: alarms of what is being taken down would be false.")
    follower = Follower(found["StackId"], sleep=sleep)
    with translate_errors(f"deleting stack {stack + SUFFIX}"):
        clients.client("cloudformation").delete_stack(StackName=found["StackId"])
    shown.follow(follower, None, console)

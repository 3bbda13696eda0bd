"""The output of a deployment."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.deploy import account
from pipeline.deploy.changes import ChangeSet
from pipeline.deploy.follow import Follower, StackEvent
from pipeline.deploy.witness import Witness

#: Suffix of the alarms' stack name.
ALARMS = "-alarms"


def changes(proposed: ChangeSet | None, console: Console) -> None:
    """Prints the changes as a table; removals and replacements come first, in red."""
    if proposed is None:
        console.print("Nothing to change: the stack is as the template says.")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("change", "resource", "type", ""):
        table.add_column(column, no_wrap=column != "")
    for change in sorted(proposed.changes, key=lambda change: (not change.loses_something, change.kind, change.name)):
        note = {"True": "replaced", "Conditional": "may be replaced"}.get(change.replaces, "")
        style = "red" if change.loses_something else ""
        table.add_row(change.action, change.name, change.kind.removeprefix("AWS::"), note, style=style)
    console.print(table)


def follow(follower: Follower, total: int | None, console: Console, witness: Witness | None = None) -> None:
    """Prints a line for each resource that is done or has failed, and the problems that ``witness`` finds.

    Raises ``PipelineError``.
    """
    finished: set[str] = set()
    under_way: dict[str, None] = {}
    with console.status("Waiting for CloudFormation ...") as spinner:

        def report(event: StackEvent) -> None:
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

        def look() -> None:
            for finding in [] if witness is None else witness.look():
                for line in finding.lines():
                    console.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)

        follower.until_rest(report, look)


def next_steps(stack: str, console: Console) -> None:
    """Prints the stack's outputs and the first steps."""
    found, alarms = account.describe(stack), account.describe(stack + ALARMS)
    outputs = [output for each in (found, alarms) if each is not None for output in each.get("Outputs", [])]
    console.print("\nDone.")
    for output in sorted(outputs, key=lambda output: output["OutputKey"]):
        console.print(f"[bold]{output['OutputKey']}[/]: {escape(output.get('Description', ''))}", soft_wrap=True)
        console.print(f"  {escape(output['OutputValue'])}", soft_wrap=True)
    named = account.outputs_of(found)
    if "UploadTo" in named:
        console.print("\nNext:", f"  aws s3 cp photo.jpg {named['UploadTo']}", sep="\n", soft_wrap=True)
        console.print(f"  aws s3 ls --recursive {named['RenditionsIn']}   (after about a minute, from zero)")
        console.print(f"  python -m pipeline live-check --stack {stack}   (scales out, back to zero, loses nothing)")

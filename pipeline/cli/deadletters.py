"""The commands for dead letters."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pipeline.cli.stack_option import of_stack
from pipeline.core.queue_names import QUEUES


@click.group()
def deadletters() -> None:
    """List, redrive, export or purge dead letters.

    Exit status: 0 done, 1 the command failed, 3 done, but some dead letters were not read.
    """


_queue = click.option(
    "--queue",
    "which",
    type=click.Choice([*QUEUES, "all"]),
    default="all",
    show_default=True,
    help="Dead letters of this queue.",
)
_only = click.option("--only", metavar="REASON", help="Only dead letters whose reason contains this text.")
_limit = click.option(
    "--limit",
    default=10_000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Maximum number of messages read from each queue.",
)


@deadletters.command("list")
@of_stack
@_queue
@_only
@_limit
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_(which: str, only: str | None, limit: int, as_json: bool) -> None:
    """Count the dead letters by queue, task and reason.

    \b
    Example:
      python -m pipeline deadletters list
    """
    from pipeline.operations.deadletters.deadletters_command import list_ as run
    from pipeline.operations.deadletters.deadletters_command import queue_names

    sys.exit(run(queue_names(which), only=only, limit=limit, as_json=as_json))


@deadletters.command()
@of_stack
@click.argument("ids", nargs=-1)
@_queue
@_only
@_limit
def show(ids: tuple[str, ...], which: str, only: str | None, limit: int) -> None:
    """Print whole messages, as JSON.

    IDS are beginnings of message ids; the default is all messages. Exit status: 0 done, 1 none was found.

    \b
    Example:
      python -m pipeline deadletters show 5fea7756
      python -m pipeline deadletters show --only "not JSON"
    """
    from pipeline.operations.deadletters.deadletters_command import queue_names
    from pipeline.operations.deadletters.deadletters_command import show as run

    sys.exit(run(ids, queue_names(which), only=only, limit=limit))


@deadletters.command()
@of_stack
@_queue
@_only
@click.option(
    "--limit", type=click.IntRange(min=1), help="Maximum number of messages read from each queue; without it, all."
)
@click.option(
    "--rate", "per_s", type=click.FloatRange(min=0, min_open=True), help="Maximum number of messages per second."
)
def redrive(which: str, only: str | None, limit: int | None, per_s: float | None) -> None:
    """Send dead letters back to their original queue.

    By default SQS moves them itself, if it can. With --only or --limit, the command receives, sends and deletes them.

    \b
    Examples:
      python -m pipeline deadletters redrive
      python -m pipeline deadletters redrive --queue tasks --only maxReceiveCount --rate 20
    """
    from pipeline.operations.deadletters.deadletters_command import queue_names
    from pipeline.operations.deadletters.deadletters_command import redrive as run

    sys.exit(run(queue_names(which), only=only, limit=limit, per_s=per_s))


@deadletters.command()
@of_stack
@_queue
@_only
@_limit
@click.option(
    "--to", type=click.Path(path_type=Path), help="A file, which must not exist yet; the default is standard output."
)
def export(which: str, only: str | None, limit: int, to: Path | None) -> None:
    """Write the dead letters as JSON lines; they stay in their queue.

    \b
    Example:
      python -m pipeline deadletters export | jq -r .reason | sort | uniq -c
    """
    from pipeline.operations.deadletters.deadletters_command import export as run
    from pipeline.operations.deadletters.deadletters_command import queue_names

    sys.exit(run(queue_names(which), only=only, limit=limit, to=to))


@deadletters.command()
@of_stack
@_queue
@_only
@_limit
@click.option(
    "--to", type=click.Path(path_type=Path), help="The file to export to; the default name contains the time."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(which: str, only: str | None, limit: int, to: Path | None, yes: bool) -> None:
    """Permanently delete dead letters, after exporting them and asking.

    \b
    Example:
      python -m pipeline deadletters purge --queue events --only "not JSON"
    """
    from pipeline.operations.deadletters.deadletters_command import purge as run
    from pipeline.operations.deadletters.deadletters_command import queue_names

    sys.exit(run(queue_names(which), only=only, limit=limit, to=to, yes=yes))

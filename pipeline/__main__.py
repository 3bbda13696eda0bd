"""``python -m pipeline``: the command line."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from pipeline.errors import PipelineError


class _Group(click.Group):
    """Shows this project's errors as one plain message, never as a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except PipelineError as exc:
            raise click.ClickException(str(exc)) from exc
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)
            ctx.exit(130)


class _Unanswered(click.ClickException):
    exit_code = 2


class _Asking(click.Command):
    """A verb that asks a question: status 1 is an answer, so what kept it from answering is 2."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except PipelineError as exc:
            raise _Unanswered(str(exc)) from exc


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """What lands in S3 becomes resized images and thumbnails.

    \b
    Exit status: 0 done, 1 some of it failed, 2 wrong usage, 130 interrupted.
    """


@cli.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", default="out", show_default=True, type=click.Path(path_type=Path), help="Folder for renditions.")
@click.option("--keep", is_flag=True, help="Leave everything running, to drop more files in; Ctrl-C ends it.")
@click.option("--flower", is_flag=True, help="Start Flower too, and print its address.")
def local(paths: tuple[Path, ...], out: Path, keep: bool, flower: bool) -> None:
    """Run the whole pipeline on this machine, without AWS, over PATHS (files or folders).

    \b
    Example:
      python -m pipeline local ~/Pictures --out out
    """
    try:
        from pipeline.local.command import local as run
    except ImportError as exc:
        raise click.ClickException(
            f"{exc}: the embedded AWS needs requirements-dev.txt (`make test` sets it up)"
        ) from exc
    sys.exit(run(paths, out, keep=keep, flower=flower))


@cli.command()
@click.option("--write", "page", type=click.Path(exists=True, path_type=Path), help="Renew the table in this page.")
def settings(page: Path | None) -> None:
    """Print the settings as a Markdown table: variable, default, bounds, help."""
    from pipeline.config import markdown_table, with_table

    if page is None:
        click.echo(markdown_table(), nl=False)
    else:
        page.write_text(with_table(page.read_text()))


@cli.command(cls=_Asking)
@click.argument("uri", required=False, metavar="[S3://BUCKET/KEY]")
def routes(uri: str | None) -> None:
    """Show which objects are processed by which tasks, in order; with an object, which route takes it.

    Exit status 1 when no route takes it.
    """
    from pipeline.list_routes import show

    sys.exit(show(uri))


@cli.command()
@click.argument("role", required=False, type=click.Choice(["worker", "bridge"]))
def health(role: str | None) -> None:
    """Tell whether the worker or bridge on this machine makes progress; exit status 1 when it doesn't.

    For container health checks. Without ROLE it is whichever runs here. HEALTH_STALE_S says how long it may
    take; a long task is progress.
    """
    from pipeline.config import Settings
    from pipeline.health import Role, check, role_here

    settings = Settings.from_env()
    folder = Path(settings.health_folder)
    found = role_here(folder) if role is None else Role(role)
    age_s = check(folder, found, settings.health_stale_s)
    click.echo(f"healthy: the {found.value} made progress {age_s:.0f} s ago")


@cli.command()
def sweep() -> None:
    """Remove the control and event queues that killed processes have left behind.

    Those of living processes are never touched. Flower does this too, when it starts and every hour.
    """
    from pipeline.config import Settings
    from pipeline.monitoring.sweep import sweep as run

    found = run(Settings.from_env())
    for name in found.removed:
        click.echo(f"removed {name}")
    click.echo(str(found))


@cli.command(cls=_Asking)
@click.argument("target", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--full", is_flag=True, help="Look at every rendition (one request each), not only where in doubt.")
@click.option("--older-than", metavar="AGE", help="Only objects uploaded before: 15m, 2h, 3d, or a date.")
@click.option("--examples", default=5, show_default=True, help="Keys shown of each kind.")
@click.option(
    "--repair",
    is_flag=True,
    help="Enqueue what is missing or stale, or failed with a service; remove what is orphaned or left over.",
)
@click.option("--yes", is_flag=True, help="Repair without asking.")
def audit(
    target: str | None, as_json: bool, full: bool, older_than: str | None, examples: int, repair: bool, yes: bool
) -> None:
    """Is every upload accounted for? Compares the buckets, and counts what is done, failed, missing, stale, orphaned.

    TARGET is s3://bucket/prefix; without it INPUT_BUCKET and KEY_PREFIX. Exit status: 0 nothing is missing or
    stale, 1 something is, 2 the audit could not be done.

    \b
    Examples:
      python -m pipeline audit
      python -m pipeline audit s3://uploads/2026/ --older-than 15m --json
      python -m pipeline audit --repair
    """
    from pipeline.audit.command import audit as run

    sys.exit(
        run(
            target,
            as_json=as_json,
            full=full,
            older_than=older_than,
            examples=examples,
            repair=repair,
            yes=yes,
        )
    )


@cli.command()
@click.argument("target")
@click.option("--start-after", default="", metavar="KEY", help="Go on behind this key.")
@click.option("--newer-than", metavar="AGE", help="Only objects uploaded since: 2h, 3d, or a date.")
@click.option(
    "--max-queued",
    default=10_000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Wait while so many messages are in the tasks queue.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be enqueued, one URI a line, and enqueue nothing.")
def backfill(target: str, start_after: str, newer_than: str | None, max_queued: int, dry_run: bool) -> None:
    """Enqueue the objects below TARGET, s3://bucket or s3://bucket/prefix, that are there already.

    What is done is left alone; what was made by another recipe, or failed, is made again. When it is interrupted
    it prints how to go on. Exit status: 0 all enqueued, 1 it stopped, 130 it was interrupted.

    \b
    Examples:
      python -m pipeline backfill s3://uploads/2026/ --dry-run | wc -l
      python -m pipeline backfill s3://uploads --newer-than 3d
    """
    from pipeline.backfill import backfill as run

    sys.exit(run(target, start_after=start_after, newer_than=newer_than, max_queued=max_queued, dry_run=dry_run))


@cli.command(cls=_Asking)
@click.argument("uri")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--limit", default=1000, show_default=True, type=click.IntRange(min=1), help="Dead letters read of each queue."
)
def explain(uri: str, as_json: bool, limit: int) -> None:
    """Everything that is known about one object, s3://bucket/key, and what it means.

    Exit status: 0 it is accounted for, 1 something is to be done about it, 2 it could not be found out.

    \b
    Example:
      python -m pipeline explain "s3://uploads/a b.jpg"
    """
    from pipeline.explain import explain as run

    sys.exit(run(uri, as_json=as_json, limit=limit))


@cli.group()
def deadletters() -> None:
    """What could not be processed at all: see it, send it back, export it, purge it."""


_queue = click.option(
    "--queue", "which", type=click.Choice(["events", "tasks", "all"]), default="all", show_default=True
)
_only = click.option("--only", metavar="REASON", help="Only those whose reason has this in it.")
_limit = click.option(
    "--limit", default=10_000, show_default=True, type=click.IntRange(min=1), help="Messages read of each queue."
)


@deadletters.command("list")
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
    from pipeline.deadletters.command import list_ as run
    from pipeline.deadletters.command import queue_names

    sys.exit(run(queue_names(which), only=only, limit=limit, as_json=as_json))


@deadletters.command()
@click.argument("ids", nargs=-1)
@_queue
@_only
@_limit
def show(ids: tuple[str, ...], which: str, only: str | None, limit: int) -> None:
    """Print whole messages, as JSON: those whose message ids begin with IDS, or all. Status 1: none was found.

    \b
    Example:
      python -m pipeline deadletters show 5fea7756
      python -m pipeline deadletters show --only "not JSON"
    """
    from pipeline.deadletters.command import queue_names
    from pipeline.deadletters.command import show as run

    sys.exit(run(ids, queue_names(which), only=only, limit=limit))


@deadletters.command()
@_queue
@_only
@click.option("--limit", type=click.IntRange(min=1), help="Messages read of each queue; all when left out.")
@click.option("--rate", "per_s", type=click.FloatRange(min=0, min_open=True), help="At most so many a second.")
def redrive(which: str, only: str | None, limit: int | None, per_s: float | None) -> None:
    """Send dead letters back to the queue that they came from.

    SQS does it by itself where it can; with --only or --limit, messages are received, sent and deleted one by one.

    \b
    Examples:
      python -m pipeline deadletters redrive
      python -m pipeline deadletters redrive --queue tasks --only "received too often" --rate 20
    """
    from pipeline.deadletters.command import queue_names
    from pipeline.deadletters.command import redrive as run

    sys.exit(run(queue_names(which), only=only, limit=limit, per_s=per_s))


@deadletters.command()
@_queue
@_only
@_limit
@click.option("--to", type=click.Path(path_type=Path), help="A new file; without it, standard output.")
def export(which: str, only: str | None, limit: int, to: Path | None) -> None:
    """Write the dead letters as JSON lines; they stay where they are.

    \b
    Example:
      python -m pipeline deadletters export | jq -r .reason | sort | uniq -c
    """
    from pipeline.deadletters.command import export as run
    from pipeline.deadletters.command import queue_names

    sys.exit(run(queue_names(which), only=only, limit=limit, to=to))


@deadletters.command()
@_queue
@_only
@_limit
@click.option("--to", type=click.Path(path_type=Path), help="The file to export to first; else one with the time.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(which: str, only: str | None, limit: int, to: Path | None, yes: bool) -> None:
    """Delete dead letters for good, after exporting them, and asking.

    \b
    Example:
      python -m pipeline deadletters purge --queue events --only "not JSON"
    """
    from pipeline.deadletters.command import purge as run
    from pipeline.deadletters.command import queue_names

    sys.exit(run(queue_names(which), only=only, limit=limit, to=to, yes=yes))


@cli.command()
@click.option("--stack", default="batch-images", show_default=True, help="Name of the stack.")
@click.option("--image", help="Container image; needed the first time.")
@click.option("--vpc", help="VPC to run in; without it the default VPC.")
@click.option("--subnets", help="Its subnets, comma-separated, in two zones or more.")
@click.option("--network", help="Name of a stack of cloudformation/network.yaml to run in.")
@click.option("-p", "--parameter", "pairs", multiple=True, metavar="NAME=VALUE", help="Any parameter of the template.")
@click.option("--template", type=click.Path(path_type=Path), help="Another template than cloudformation/batch.yaml.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
def deploy(
    stack: str,
    image: str | None,
    vpc: str | None,
    subnets: str | None,
    network: str | None,
    pairs: tuple[str, ...],
    template: Path | None,
    yes: bool,
    dry_run: bool,
) -> None:
    """Create or update the stack on AWS, after showing what would change.

    \b
    Example:
      python -m pipeline deploy --image 123456789012.dkr.ecr.eu-west-1.amazonaws.com/batch-image-pipeline:1
      python -m pipeline deploy -p MaxWorkers=100 -p AlarmEmail=me@example.com
    """
    from pipeline.deploy.command import TEMPLATE
    from pipeline.deploy.command import deploy as run

    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise click.BadParameter(f"{wrong[0]!r} is not NAME=VALUE", param_hint="--parameter")
    if (vpc is None) != (subnets is None):
        raise click.UsageError("--vpc and --subnets belong together.")
    named = {"Image": image, "VpcId": vpc, "SubnetIds": subnets}
    given = {name: value for name, value in named.items() if value is not None}
    given |= dict(pair.split("=", 1) for pair in pairs)
    path = TEMPLATE if template is None else template
    run(stack, given, network=network, template=path, yes=yes, dry_run=dry_run)


@cli.command()
@click.option("--stack", default="batch-images", show_default=True, help="Name of the stack.")
@click.option("--delete-data", is_flag=True, help="Delete the buckets too, with all versions of all objects.")
@click.option("--drain", "drain_s", default=3600, show_default=True, help="Seconds to wait for work to be finished.")
@click.option("--no-drain", is_flag=True, help="Do not wait: what is in the queues is lost.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def teardown(stack: str, delete_data: bool, drain_s: int, no_drain: bool, yes: bool) -> None:
    """Finish the work under way, then delete the stack from AWS. The buckets are kept.

    \b
    Example:
      python -m pipeline teardown --stack batch-images
    """
    from pipeline.deploy.teardown import teardown as run

    run(stack, delete_data=delete_data, yes=yes, drain_s=0 if no_drain else drain_s)


def _interrupt(*_: object) -> None:
    for number in _STOPS:
        signal.signal(number, signal.SIG_IGN)  # cleaning up is under way, and is bounded
    raise KeyboardInterrupt


_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

if __name__ == "__main__":
    for number in _STOPS:
        signal.signal(number, _interrupt)
    cli(prog_name="python -m pipeline")

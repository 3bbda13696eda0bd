"""The operator's commands for objects: check them, and enqueue them again."""

from __future__ import annotations

import sys

import click

from pipeline.cli.stack_option import of_stack, stack_vcpus
from pipeline.cli.verb_errors import Asking, ObjectUri, S3Target

#: Options of both `backfill` and `adopt`.
_start_after = click.option("--start-after", default="", metavar="KEY", help="Continue after this key.")
_newer_than = click.option("--newer-than", metavar="AGE", help="Only objects uploaded after this: 2h, 3d, or a date.")
_max_queued = click.option(
    "--max-queued",
    default=10_000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Wait while the tasks queue has this many messages.",
)


@click.command(cls=Asking)
@of_stack
@click.argument("target", required=False, type=S3Target())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--full",
    is_flag=True,
    help="Check every rendition (one request each), not only where the listing is not enough.",
)
@click.option("--older-than", metavar="AGE", help="Only objects uploaded before this: 15m, 2h, 3d, or a date.")
@click.option("--examples", default=5, show_default=True, help="Number of keys shown for each kind.")
@click.option(
    "--repair",
    is_flag=True,
    help="Enqueue missing and stale objects, and those that failed because of a service; remove orphans and leftovers.",
)
@click.option("--yes", is_flag=True, help="Repair without asking.")
def audit(
    target: str | None, as_json: bool, full: bool, older_than: str | None, examples: int, repair: bool, yes: bool
) -> None:
    """Check that every upload is accounted for.

    Compares the buckets, and counts objects that are done, failed, missing, stale or orphaned.

    TARGET is s3://bucket/prefix; the default is INPUT_BUCKET and KEY_PREFIX. Exit status: 0 nothing is missing,
    stale or unreadable, 1 something is, 2 the audit itself failed.

    \b
    Examples:
      python -m pipeline audit
      python -m pipeline audit s3://uploads/2026/ --older-than 15m --json
      python -m pipeline audit --repair
    """
    from pipeline.operations.audit.audit_command import audit as run

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


@click.command(cls=Asking)
@of_stack
@click.argument("uri", type=ObjectUri())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--limit",
    default=1000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Maximum number of dead letters read from each queue.",
)
def explain(uri: str, as_json: bool, limit: int) -> None:
    """Show what is known about one object, and what it means.

    URI is s3://bucket/key; write the key literally, not percent-encoded. Exit status: 0 the object is accounted for, 1
    something needs to be done, 2 the check itself failed.

    \b
    Example:
      python -m pipeline explain "s3://uploads/a b.jpg"
    """
    from pipeline.operations.explain import explain as run

    sys.exit(run(uri, as_json=as_json, limit=limit))


@click.command()
@of_stack
@click.argument("target", type=S3Target())
@_start_after
@_newer_than
@_max_queued
@click.option("--dry-run", is_flag=True, help="Print what would be enqueued, one URI a line, and enqueue nothing.")
def backfill(target: str, start_after: str, newer_than: str | None, max_queued: int, dry_run: bool) -> None:
    """Enqueue objects that are already in a bucket.

    TARGET is s3://bucket or s3://bucket/prefix. Workers skip objects that are done, and process again those that failed
    or were made with other settings. An interrupted run prints how to continue. Exit status: 0 all enqueued, 1 it
    stopped early or skipped objects that it could not read, 130 interrupted.

    \b
    Examples:
      python -m pipeline backfill s3://uploads/2026/ --dry-run | wc -l
      python -m pipeline backfill s3://uploads --newer-than 3d
    """
    from pipeline.operations.backfill import backfill as run

    sys.exit(run(target, start_after=start_after, newer_than=newer_than, max_queued=max_queued, dry_run=dry_run))


@click.command(cls=Asking)
@of_stack
@click.argument("uri", required=False, type=ObjectUri(), metavar="[S3://BUCKET/KEY]")
def routes(uri: str | None) -> None:
    """Show which tasks process which objects.

    Lists the routes in the order in which they are tried. With an object, shows the route that takes it. Exit status: 0
    a route takes it, 1 none does, 2 the check itself failed.

    \b
    Examples:
      python -m pipeline routes
      python -m pipeline routes "s3://uploads/a b.pdf"
    """
    from pipeline.operations.routes_command import show

    sys.exit(show(uri))


@click.command(cls=Asking)
@of_stack
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@click.option(
    "--patience",
    "patience_s",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=1),
    help="Seconds to wait for a message from S3 or SNS.",
)
def check(as_json: bool, patience_s: float) -> None:
    """Test whether an endpoint has what the pipeline needs.

    Writes small objects below check/ in OUTPUT_BUCKET (by default in a new bucket), creates queues, a topic and a
    bucket, and removes them all. Takes half a minute and costs less than a cent. Exit status: 0 all tests pass, 1 one
    does not, 2 the check itself failed.

    \b
    Example:
      python -m pipeline check
    """
    from pipeline.operations.check.check_command import check as run

    sys.exit(run(as_json=as_json, patience_s=patience_s))


@click.command()
@of_stack
@click.argument("target", type=S3Target())
@click.option("--sample", default=20, show_default=True, type=click.IntRange(min=1), help="Number of objects to try.")
@_start_after
@_newer_than
@_max_queued
@click.option(
    "--vcpus",
    type=click.FloatRange(min=0, min_open=True),
    help="vCPUs of all workers together, for the time estimate.  [default: what --stack has at MaxWorkers, else 20]",
)
@click.option("--yes", is_flag=True, help="Enqueue without asking.")
@click.option("--dry-run", is_flag=True, help="Only survey and estimate.")
@click.pass_context
def adopt(
    ctx: click.Context,
    target: str,
    sample: int,
    start_after: str,
    newer_than: str | None,
    max_queued: int,
    vcpus: float | None,
    yes: bool,
    dry_run: bool,
) -> None:
    """Survey a bucket, estimate the cost, then enqueue its objects.

    TARGET is s3://bucket or s3://bucket/prefix. Prints how many objects each route takes, which of a sample would fail
    and why, the cost and the hours. Asks, and then enqueues the objects like `backfill`. An interrupted run prints how
    to continue. Exit status: 0 all enqueued or nothing to do, 1 it stopped early, 130 interrupted.

    \b
    Examples:
      python -m pipeline adopt s3://uploads --dry-run
      python -m pipeline adopt s3://uploads/2026/ --stack batch-images
    """
    from pipeline.operations.adopt.adopt_command import adopt as run

    if vcpus is None:
        vcpus = stack_vcpus(ctx)
    sys.exit(
        run(
            target,
            sample=sample,
            start_after=start_after,
            newer_than=newer_than,
            max_queued=max_queued,
            vcpus=vcpus,
            yes=yes,
            dry_run=dry_run,
        )
    )

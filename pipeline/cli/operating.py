"""The verbs of an operator, about objects: what became of them, and enqueuing them anew."""

from __future__ import annotations

import sys

import click

from pipeline.cli.stack_option import of_stack
from pipeline.cli.verb_errors import Asking, ObjectUri, S3Target

#: What `backfill` and `adopt` have in common: from where, since when, and how fast.
_start_after = click.option("--start-after", default="", metavar="KEY", help="Go on behind this key.")
_newer_than = click.option("--newer-than", metavar="AGE", help="Only objects uploaded since: 2h, 3d, or a date.")
_max_queued = click.option(
    "--max-queued",
    default=10_000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Wait while so many messages are in the tasks queue.",
)


@click.command(cls=Asking)
@of_stack
@click.argument("target", required=False, type=S3Target())
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
    """Tell whether every upload is accounted for.

    Compares the buckets, and counts what is done, failed, missing, stale, orphaned.

    TARGET is s3://bucket/prefix; without it INPUT_BUCKET and KEY_PREFIX. Exit status: 0 nothing is missing,
    stale or unreadable, 1 something is, 2 the audit could not be done.

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
    "--limit", default=1000, show_default=True, type=click.IntRange(min=1), help="Dead letters read of each queue."
)
def explain(uri: str, as_json: bool, limit: int) -> None:
    """Tell all that is known about one object, and what it means.

    URI is s3://bucket/key, the key as it is. Exit status: 0 it is accounted for, 1 something is to be done about
    it, 2 it could not be found out.

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
    """Enqueue objects that are in a bucket already.

    TARGET is s3://bucket or s3://bucket/prefix. What is done is left alone; what was made by another recipe, or
    failed, is made again. When it is interrupted it prints how to go on. Exit status: 0 all enqueued, 1 it stopped,
    or passed over objects that it could not look at, 130 it was interrupted.

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
    """Show which objects are processed by which tasks.

    In the order in which they are asked; with an object, which route takes it. Exit status: 0 one does, 1 none does,
    2 it could not be found out.

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
    help="Seconds to wait for a message of S3 or SNS.",
)
def check(as_json: bool, patience_s: float) -> None:
    """Try out what the pipeline relies on.

    Writes some small objects below check/ in OUTPUT_BUCKET (without it to a bucket of its own), makes some queues, a
    topic and a bucket, and removes all of it. Takes half a minute and costs less than a cent. Exit status: 0 all of it
    holds, 1 something does not, 2 it could not be found out.

    \b
    Example:
      python -m pipeline check
    """
    from pipeline.operations.check.check_command import check as run

    sys.exit(run(as_json=as_json, patience_s=patience_s))


@click.command()
@of_stack
@click.argument("target", type=S3Target())
@click.option("--sample", default=20, show_default=True, type=click.IntRange(min=1), help="Objects to try.")
@_start_after
@_newer_than
@_max_queued
@click.option(
    "--vcpus",
    default=20.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Of all workers together, for the estimate of the time; the stack's default is 20 workers of one.",
)
@click.option("--yes", is_flag=True, help="Enqueue without asking.")
@click.option("--dry-run", is_flag=True, help="Only look and estimate.")
def adopt(
    target: str,
    sample: int,
    start_after: str,
    newer_than: str | None,
    max_queued: int,
    vcpus: float,
    yes: bool,
    dry_run: bool,
) -> None:
    """Look at a full bucket, price it, then enqueue it.

    TARGET is s3://bucket or s3://bucket/prefix. Says how many objects there are, what would be made of them, what of a
    sample would fail and why, dollars and hours; asks; then enqueues them as `backfill` does. It can be stopped, and
    says how to go on. Exit status: 0 all enqueued or nothing to do, 1 it stopped, 130 it was interrupted.

    \b
    Examples:
      python -m pipeline adopt s3://uploads --dry-run
      python -m pipeline adopt s3://uploads/2026/ --stack batch-images
    """
    from pipeline.operations.adopt.adopt_command import adopt as run

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

"""The verbs of an operator, about objects: what became of them, and enqueuing them anew."""

from __future__ import annotations

import sys

import click

from pipeline.cli.base import Asking


@click.command(cls=Asking)
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
    from pipeline.operations.audit.command import audit as run

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
@click.argument("uri")
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
@click.argument("uri", required=False, metavar="[S3://BUCKET/KEY]")
def routes(uri: str | None) -> None:
    """Show which objects are processed by which tasks.

    In the order in which they are asked; with an object, which route takes it. Exit status: 0 one does, 1 none does,
    2 it could not be found out.

    \b
    Examples:
      python -m pipeline routes
      python -m pipeline routes "s3://uploads/a b.pdf"
    """
    from pipeline.operations.show_routes import show

    sys.exit(show(uri))

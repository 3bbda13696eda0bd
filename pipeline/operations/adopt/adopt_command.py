"""``python -m pipeline adopt``: its output and its question."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import click

from pipeline.core import console
from pipeline.core.routes import Routes
from pipeline.core.settings import Settings
from pipeline.core.source import place
from pipeline.core.times import parse_time
from pipeline.operations.adopt.estimate import PRICES_AS_OF, SPOT_DISCOUNT, Estimate, estimate
from pipeline.operations.adopt.survey import Survey, Tried, tried
from pipeline.operations.backfill import backfill
from pipeline.s3 import content
from pipeline.s3.listing import list_objects

#: Maximum number of reasons and failures shown.
SHOWN = 5


def adopt(
    target: str,
    *,
    sample: int,
    start_after: str,
    newer_than: str | None,
    max_queued: int,
    vcpus: float,
    yes: bool,
    dry_run: bool,
) -> int:
    """Returns the exit status. Raises ``PipelineError``."""
    settings = Settings.from_env()
    routes = Routes.load(settings, content.look)
    bucket, prefix = place(target)
    since = None if newer_than is None else parse_time(newer_than)
    survey = Survey(routes, bucket, sample, since)
    with console.progress("Listing") as bar:
        survey.run(list_objects(bucket, prefix, after=start_after), bar)
    with console.progress("Trying a sample", total=len(survey.sample)) as bar:
        results = []
        for result in tried(survey.sample, routes):
            results.append(result)
            bar(len(results))
    found = estimate(survey.taken.total(), results, vcpus)
    for line in (*_counts(survey), *_sample(results), *_price(found, vcpus)):
        click.echo(line)
    if not survey.taken or dry_run:
        return 0
    if not yes:
        if not sys.stdin.isatty():
            console.echo_err("Nothing was enqueued: pass --yes to enqueue without confirmation.")
            return 0
        if not click.confirm(f"Enqueue {console.pluralize(survey.taken.total(), 'object')}?", err=True):
            console.echo_err("Nothing was enqueued.")
            return 0
    return backfill(
        target,
        start_after=start_after,
        newer_than=None if since is None else since.isoformat(),
        max_queued=max_queued,
        dry_run=False,
        expected=survey.taken.total(),
    )


def _counts(survey: Survey) -> Iterator[str]:
    yield f"objects:    {survey.count:,}"
    if survey.old:
        yield f"too old:    {survey.old:,}"
    for name, count in survey.taken.most_common():
        (route,) = (route for route in survey.routes.all if route.name == name)
        folders = ", ".join(sorted({output.folder for output in route.outputs}))
        yield f"processed:  {count:,} by the route {name}, into {folders or 'no folder'}"
    for reason, count in survey.passed.most_common(SHOWN):
        yield f"left alone: {count:,}, {reason}"
    if rest := sum(count for _, count in survey.passed.most_common()[SHOWN:]):
        yield f"left alone: {rest:,} for other reasons"
    for each in survey.unreadable[:SHOWN]:
        yield f"unreadable: {each.message}"


def _sample(results: Sequence[Tried]) -> Iterator[str]:
    failed = [each for each in results if each.reason is not None]
    untried = sum(each.made is None and each.reason is None for each in results)
    yield f"sample:     {console.pluralize(len(results), 'object')} tried, {len(failed)} would fail"
    if untried:
        yield f"            {untried} are of routes of your own, which can't be tried here"
    reasons = Counter(each.reason for each in failed)
    for reason, count in reasons.most_common():
        example = next(each for each in failed if each.reason == reason)
        yield f"            {count} {reason}, for example {example.message}"


def _price(found: Estimate | None, vcpus: float) -> Iterator[str]:
    if found is None:
        yield "price:      nothing of the sample could be tried, so it is not known"
        return
    yield (
        f"price:      about {_dollars(found.dollars)} on demand, {_dollars(found.dollars_spot)} on Spot "
        f"(us-east-1, {PRICES_AS_OF}; Spot taken as {SPOT_DISCOUNT:.0%} less)"
    )
    yield f"            and {_dollars(found.dollars_a_month)} a month for {found.stored_gb:,.2f} GB of renditions"
    yield (
        f"time:       about {_hours(found.hours)} with {vcpus:g} vCPUs of workers; "
        f"{found.cpu_hours:,.2f} hours of CPU as measured on this machine"
    )
    if found.failing:
        yield f"failures:   about {round(found.failing * found.objects):,} records in failed/"


def _dollars(amount: float) -> str:
    return f"{amount:,.2f} dollars" if amount >= 0.01 else "less than a cent"


def _hours(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 1 else f"{max(1, round(hours * 60))} min"

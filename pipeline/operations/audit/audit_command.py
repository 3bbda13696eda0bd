"""``python -m pipeline audit``: its output."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import click

from pipeline.aws.batches import batches
from pipeline.celery import PipelineApp, make_app
from pipeline.core import console
from pipeline.core.settings import Settings
from pipeline.core.source import Source, place
from pipeline.core.times import parse_time
from pipeline.enqueue import process_many, reconcile_many
from pipeline.operations import own_queues
from pipeline.operations.audit.audit import Audit, AuditReport, Repair
from pipeline.operations.audit.classify import Status

#: Objects per batch of enqueuing.
BATCH = 1000
_EXPLAINED = {
    Status.DONE: "renditions of the current version, by the current recipe",
    Status.FAILED: "a failure record says why",
    Status.MISSING: "no renditions, and no record of a failure",
    Status.STALE: "renditions that should be made again",
    Status.ORPHANED: "renditions or a record of an object that does not exist",
    Status.LEFTOVER: "renditions or a record besides the current ones",
    Status.SKIPPED: "not selected for processing",
    Status.UNREADABLE: "the object or its outputs could not be read",
}


def audit(
    target: str | None,
    *,
    as_json: bool,
    full: bool,
    older_than: str | None,
    examples: int,
    repair: bool,
    yes: bool,
) -> int:
    """Runs the audit and shows the result; returns the exit status: 1 when something is missing, stale or unreadable.

    Raises ``PipelineError``.
    """
    settings = Settings.from_env()
    bucket, prefix = (settings.one_input_bucket(), settings.key_prefix) if target is None else place(target)
    before = None if older_than is None else parse_time(older_than)
    app = make_app(settings)
    with Audit(app.routes, bucket, prefix, full=full, before=before, examples=examples) as run:
        with console.progress("Comparing") as bar:
            report = run.run(bar)
        if as_json:
            click.echo(json.dumps(as_dict(report), indent=2, ensure_ascii=False))
        else:
            _show(report)
        waiting = own_queues.waiting(settings)
        if waiting and not report.is_complete:
            console.echo_err(f"{waiting} messages wait in the queues: missing or stale objects may be among them.")
        if repair:
            _repair(run, report, app, yes=yes)
    return 0 if report.is_complete else 1


def as_dict(report: AuditReport) -> dict[str, Any]:
    """The report as JSON: ``{"complete": …, "counts": {status: n}, "reasons": {status: {reason: n}}, …}``."""
    reasons: dict[str, dict[str, int]] = {}
    examples: dict[str, dict[str, list[str]]] = {}
    for (status, reason), count in sorted(report.reasons.items(), key=lambda item: (item[0][0].value, item[0][1])):
        if reason:
            reasons.setdefault(status.value, {})[reason] = count
        if (status, reason) in report.examples:
            examples.setdefault(status.value, {})[reason] = report.examples[status, reason]
    return {
        "complete": report.is_complete,
        "counts": {status.value: report.counts[status] for status in Status},
        "reasons": reasons,
        "examples": examples,
        "errors": report.errors,
        "requests": dict(report.requests),
    }


def _show(report: AuditReport) -> None:
    rows = []
    for status in Status:
        parts = {reason: count for (each, reason), count in report.reasons.items() if each is status}
        if not parts:
            rows.append([status.value, "0", "", ""])
        for reason, count in sorted(parts.items(), key=lambda item: -item[1]):
            shown_reason = reason or _EXPLAINED[status]
            rows.append(
                [status.value, f"{count:,}", shown_reason, ", ".join(report.examples.get((status, reason), []))]
            )
    console.print_table(["status", "objects", "why", "for example"], rows, right=["objects"])
    for reason, message in sorted(report.errors.items()):
        console.echo_err(f"Unreadable, {reason}, for example: {message}")
    requests = ", ".join(f"{count:,} {operation}" for operation, count in sorted(report.requests.items()))
    console.echo_err(f"Requests: {requests}.")


def _repair(run: Audit, report: AuditReport, app: PipelineApp, *, yes: bool) -> None:
    enqueued, removed = (report.repairs[each] for each in (Repair.ENQUEUE, Repair.REMOVE))
    if not enqueued and not removed:
        console.echo_err("Nothing to repair.")
        return
    if enqueued:
        console.echo_err(
            f"To be enqueued: {console.pluralize(enqueued, 'object')}, missing or stale, or failed with a service."
        )
    if removed:
        console.echo_err(f"To be removed: what is orphaned or left over, of {console.pluralize(removed, 'object')}.")
    if not yes and not click.confirm("Go on?", err=True):
        raise click.Abort
    with console.progress("Enqueuing", enqueued + removed) as bar:
        done = _in_batches(run.repairs(Repair.ENQUEUE), partial(process_many, app=app), bar, 0)
        _in_batches(run.repairs(Repair.REMOVE), partial(reconcile_many, app=app, thorough=True), bar, done)
    console.echo_err(f"Enqueued: {console.pluralize(enqueued + removed, 'task')}. The workers do the rest.")


def _in_batches(sources: Iterator[Source], enqueue: Callable[[list[Source]], None], bar: console.Bar, done: int) -> int:
    for batch in batches(sources, BATCH):
        enqueue(batch)
        done += len(batch)
        bar(done)
    return done

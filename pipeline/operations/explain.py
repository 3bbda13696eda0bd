"""``python -m pipeline explain``: shows what is known about one object, and what it means."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import click

from pipeline.core import console
from pipeline.core.errors import ObjectChanged, ObjectGone, PipelineError
from pipeline.core.names import failure_key
from pipeline.core.provenance import Provenance
from pipeline.core.queue_names import QUEUES
from pipeline.core.routes import Route, Routes
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.operations import own_queues
from pipeline.operations.audit.classify import Facts, Status, classify, wanted
from pipeline.operations.deadletters.deadletters_command import LetterReader
from pipeline.operations.deadletters.letter import DeadLetter
from pipeline.operations.unreadable import unreadable
from pipeline.s3 import content, storage
from pipeline.s3.storage import Found


@dataclass(slots=True)
class ObjectReport:
    """What is known about an object. ``errors``: what could not be determined."""

    source: Source
    route: Route | None = None
    current: Found | None = None
    skipped: str | None = None
    renditions: dict[str, Found] = field(default_factory=dict)  # by key, those of this object
    record: Mapping[str, Any] | None = None
    record_made: Provenance | None = None
    letters: list[DeadLetter] = field(default_factory=list)
    unreadable: str | None = None  # why its route is not known
    errors: list[str] = field(default_factory=list)


def collect(source: Source, routes: Routes, limit: int, queues: Sequence[str] = QUEUES) -> ObjectReport:
    """``queues``: those whose dead letters are read, up to ``limit`` of each.

    Raises ``PipelineError`` when the buckets can't be read; queues are not needed.
    """
    settings = routes.settings
    bucket = settings.required("output_bucket")
    report = ObjectReport(source, current=storage.current(source.bucket, source.key))
    if report.current is not None:
        version = replace(source, etag=report.current.etag)  # a rule for the content is evaluated once per version
        try:
            report.route = routes.match(version)
            report.skipped = routes.skip_reason(version)
        except Exception as exc:  # whatever a rule for the content raises
            report.unreadable = unreadable(version, exc).message
    for name in routes.stored_names(source.key, ever=True):
        found = storage.head(bucket, name.name)
        if found is not None and name.holds(Provenance.read(found.metadata), source.bucket):
            report.renditions[found.key] = found
    try:
        record_key = failure_key(source.key, settings.output_prefix)
        record = storage.read(Source(bucket, record_key), check_bytes=lambda _: None)
        made = Provenance.read(record.metadata)
        if made.is_of(source.bucket):
            report.record_made = made
            report.record = json.loads(record.data)
    except (ObjectGone, ObjectChanged):
        pass
    except ValueError as exc:
        report.errors.append(f"its failure record is not JSON: {exc}")
    try:
        with LetterReader(settings, queues, limit) as letters:
            report.letters = [letter for _, letter in letters if _names(letter, source)]
        if any(letters.unseen.values()):
            report.errors.append(f"about {sum(letters.unseen.values()):,} dead letters were not read")
    except PipelineError as exc:
        report.errors.append(f"the dead letters could not be read: {exc}")
    return report


def _names(letter: DeadLetter, source: Source) -> bool:
    return any((each.bucket, each.key) == (source.bucket, source.key) for each in letter.sources())


def status_of(report: ObjectReport, routes: Routes) -> tuple[Status, str]:
    """The object's status, as in the audit, and one sentence about it."""
    uri = report.source.uri
    if report.current is None:
        if report.renditions or report.record is not None:
            return Status.ORPHANED, f"{uri} does not exist, but something is stored of it: audit --repair removes it."
        return Status.SKIPPED, f"{uri} does not exist, and nothing is stored of it."
    if report.unreadable is not None:
        return Status.UNREADABLE, f"Whether it is processed can't be told: {report.unreadable}"
    if report.route is None:
        return Status.SKIPPED, f"It is not processed: {report.skipped}."
    results = wanted(report.route, report.source.key, routes.recipes())
    found, *_ = classify(_facts(report, report.current), report.source, results)
    return found.status, _sentence(found.status, found.reason, report)


def _facts(report: ObjectReport, current: Found) -> Facts:
    facts = Facts(current, record=report.record_made, reason=str((report.record or {}).get("reason", "")))
    facts.made = {key: Provenance.read(found.metadata) for key, found in report.renditions.items()}
    return facts


def _sentence(status: Status, reason: str, report: ObjectReport) -> str:
    again = f"python -m pipeline backfill {shlex.quote(report.source.uri)}"
    if status is Status.DONE:
        return "Done: all that it leads to is stored, made from the current version by the current recipe."
    if status is Status.FAILED and report.record is not None:
        return f"Failed: {report.record.get('message', reason)} {report.record.get('advice', '')}".rstrip()
    if status is Status.STALE:
        return f"Stale: {reason}. Enqueue it: {again}"
    if report.letters:
        return f"Given up: {report.letters[0].reason}. Send it back: python -m pipeline deadletters redrive"
    partly = f" ({reason})" if reason else ""
    return f"Missing{partly}: it waits in a queue, or its event never came. Enqueue it: {again}"


def as_dict(report: ObjectReport, routes: Routes) -> dict[str, Any]:
    status, sentence = status_of(report, routes)
    recipes = routes.recipes()
    return {
        "object": report.source.uri,
        "status": status.value,
        "verdict": sentence,
        "route": None if report.route is None else report.route.name,
        "version": None if report.current is None else _version(report.current),
        "renditions": [_rendition(found, report, recipes) for found in report.renditions.values()],
        "failure": report.record,
        "dead_letters": [letter.to_json() | {"body": letter.readable_body()} for letter in report.letters],
        "not_known": report.errors,
    }


def _version(found: Found) -> dict[str, Any]:
    return {
        "etag": found.etag,
        "version_id": found.version_id,
        "bytes": found.size,
        "modified": found.modified.isoformat(timespec="seconds"),
        "content_type": found.content_type,
    }


def _rendition(found: Found, report: ObjectReport, recipes: Mapping[str, str]) -> dict[str, Any]:
    made, metadata = Provenance.read(found.metadata), found.metadata or {}
    recipe = next(recipe for folder, recipe in recipes.items() if found.key.startswith(folder))
    return {
        "key": found.key,
        **_version(found),
        "pixels": metadata.get("pixels"),
        "made_from": {"etag": made.etag, "version_id": made.version_id, "sequencer": made.sequencer},
        "of_the_current_version": report.current is not None and made.etag == report.current.etag,
        "by_the_current_recipe": made.recipe == recipe,
    }


def explain(uri: str, *, as_json: bool, limit: int) -> int:
    """Returns the exit status: 1 if something needs to be done. Raises ``PipelineError``."""
    settings = Settings.from_env()
    routes = Routes.load(settings, content.look)
    found = as_dict(collect(Source.parse(uri), routes, limit), routes)
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        for line in _lines(found):
            click.echo(line)
        waiting = own_queues.waiting(settings)
        if waiting and found["status"] in ("missing", "stale"):
            click.echo(f"queues:     {console.pluralize(waiting, 'message')} waiting; it may be among them")
    return 1 if found["status"] in ("missing", "stale", "orphaned", "unreadable") else 0


def _lines(found: Mapping[str, Any]) -> list[str]:
    lines = [f"object:     {found['object']}"]
    version = found["version"]
    lines.append(f"version:    {'none' if version is None else _describe(version)}")
    if found["route"] is not None:
        lines.append(f"route:      {found['route']}")
    for rendition in found["renditions"]:
        current = "current version" if rendition["of_the_current_version"] else "ANOTHER VERSION"
        recipe = "current recipe" if rendition["by_the_current_recipe"] else "ANOTHER RECIPE"
        made = rendition["made_from"]["version_id"] or rendition["made_from"]["etag"]
        lines.append(f"rendition:  {rendition['key']}: {_describe(rendition)}; from {made}: {current}, {recipe}")
    if not found["renditions"]:
        lines.append("rendition:  none")
    if found["failure"] is not None:
        failure = found["failure"]
        lines.append(f"failure:    {failure.get('reason')} at {failure.get('time')}, task {failure.get('task_id')}")
    lines += [f"dead:       {each['queue']} {each['message_id']}: {each['reason']}" for each in found["dead_letters"]]
    lines += [f"not known:  {each}" for each in found["not_known"]]
    lines.append(f"verdict:    {found['verdict']}")
    return lines


def _describe(version: Mapping[str, Any]) -> str:
    pixels = f"{version['pixels']} pixels, " if version.get("pixels") else ""
    named = version["version_id"] or version["etag"]
    return f"{pixels}{version['bytes']:,} bytes, {version['modified']}, {named}"

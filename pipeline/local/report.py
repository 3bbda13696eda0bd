"""What the local run prints: progress, totals, and why files were skipped."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
from rich.filesize import decimal

from pipeline.core.console import pluralize, printable, progress
from pipeline.local import sheet
from pipeline.local.record import Record
from pipeline.local.results import FileResult, FileState, Gone

#: Without a terminal, the number of files per line of progress.
PLAIN_EVERY = 25


def show_progress(found: Iterable[FileResult | Gone], record: Record, count: int) -> None:
    """Records results as they come, and shows the progress: a bar on a terminal, lines elsewhere."""
    counts = dict.fromkeys(FileState, 0)
    size_bytes, started = 0, time.monotonic()
    with progress("Files", count) as bar:
        for result in found:
            record.take(result)
            if isinstance(result, Gone):
                continue
            counts[result.state] += 1
            size_bytes += result.source_bytes
            ended = sum(counts.values())
            text = " ".join(f"{number} {state.value}" for state, number in counts.items() if number)
            if result.state is FileState.FAILED:
                bar.line(f"failed: {result.key}: {result.reason}")
            if sys.stderr.isatty():
                rate = f", {decimal(int(size_bytes / (time.monotonic() - started)))}/s" if size_bytes else ""
                bar(ended, text + rate)
            elif ended % PLAIN_EVERY == 0 or ended == count:
                bar.line(f"{ended}/{count} files: {text}")


def print_totals(results: Sequence[FileResult], page: Path, seconds: float, *, unfinished: int) -> None:
    """Prints the totals, why files were skipped, and how to continue after an interruption."""
    totals = sheet.totals(results)
    for reason, keys in _skipped(results).items():
        click.echo(printable(f"skipped: {pluralize(len(keys), 'file')}, for example {keys[0]}: {reason}"))
    click.echo(
        f"{totals.all} files in {seconds:.1f} s: {totals.done} done, {totals.failed} failed, {totals.skipped} skipped."
    )
    click.echo(f"Contact sheet: {page.resolve().as_uri()}")
    if unfinished:
        click.echo(
            f"{pluralize(unfinished, 'file')} had not ended. Finished renditions stay in {page.parent}. "
            "The same command processes all files again; to continue, give it only the files that are left."
        )


def _skipped(results: Sequence[FileResult]) -> dict[str, list[str]]:
    """Keys of the skipped files, by reason."""
    found: dict[str, list[str]] = {}
    for result in results:
        if result.state is FileState.SKIPPED:
            found.setdefault(result.reason, []).append(result.key)
    return found

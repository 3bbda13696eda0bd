"""``python -m pipeline local``: its output."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
from rich.filesize import decimal

from pipeline.aws import clients
from pipeline.core.console import pluralize, printable, progress
from pipeline.core.errors import PipelineError
from pipeline.local import sheet
from pipeline.local.files import File, find
from pipeline.local.flower_server import start as start_flower
from pipeline.local.results import FileResult, FileState
from pipeline.local.run import Run, prepare
from pipeline.local.stack import INPUT_BUCKET, LocalStack

#: Without a terminal, the number of files per line of progress.
PLAIN_EVERY = 25


def local(paths: Sequence[Path], out: Path, *, keep: bool, flower: bool) -> int:
    """Runs the whole pipeline over files and writes renditions and a contact sheet into ``out``.

    Returns the exit status: 0 when all were done, 1 when some failed. Raises ``PipelineError``.
    """
    files = find(paths, leave_out=out)
    prepare(out)
    with ExitStack() as cleanup:
        logs = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="pipeline-local-")))
        click.echo("Starting the emulator, the bridge and the worker ...")
        stack = cleanup.enter_context(LocalStack(logs, concurrency=os.cpu_count() or 1))
        if flower:
            click.echo(f"Flower: {start_flower(stack)}")
        # Rules for the content read from the endpoint in the usual variables.
        cleanup.enter_context(_environment(stack.environ()))
        run = Run(stack, out, keep=keep)
        started = time.monotonic()
        results: list[FileResult] = []
        try:
            _collect(run, files, results)
        finally:  # an interrupted run also reports what it has done
            seconds = time.monotonic() - started
            page = _write_sheet(out, results, seconds)
            _summary(results, len(files), page, seconds)
        if keep:
            _stay(stack, run, results, lambda: _write_sheet(out, results, time.monotonic() - started))
    return 1 if any(result.state is FileState.FAILED for result in results) else 0


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    clients.forget_clients()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        clients.forget_clients()


def _write_sheet(out: Path, results: Sequence[FileResult], seconds: float) -> Path:
    try:
        return sheet.write(out, results, seconds=seconds)
    except OSError as exc:
        raise PipelineError(f"{out}: cannot be written: {exc.strerror}") from exc


def _collect(run: Run, files: Sequence[File], results: list[FileResult]) -> None:
    """Processes the files and shows the progress: a bar on a terminal, lines elsewhere. Appends to ``results``."""
    counts = dict.fromkeys(FileState, 0)
    size_bytes, started = 0, time.monotonic()
    with progress("Files", len(files)) as bar:
        for result in run.process(files):
            results.append(result)
            counts[result.state] += 1
            size_bytes += result.source_bytes
            text = " ".join(f"{count} {state.value}" for state, count in counts.items() if count)
            if result.state is FileState.FAILED:
                bar.line(f"failed: {result.key}: {result.reason}")
            if sys.stderr.isatty():
                rate = f", {decimal(int(size_bytes / (time.monotonic() - started)))}/s" if size_bytes else ""
                bar(len(results), text + rate)
            elif len(results) % PLAIN_EVERY == 0 or len(results) == len(files):
                bar.line(f"{len(results)}/{len(files)} files: {text}")


def _summary(results: Sequence[FileResult], wanted: int, page: Path, seconds: float) -> None:
    """Prints the totals, why files were skipped, and how to continue after an interruption."""
    totals = sheet.totals(results)
    for reason, keys in _skipped(results).items():
        click.echo(printable(f"skipped: {pluralize(len(keys), 'file')}, for example {keys[0]}: {reason}"))
    click.echo(
        f"{totals.all} files in {seconds:.1f} s: {totals.done} done, {totals.failed} failed, {totals.skipped} skipped."
    )
    click.echo(f"Contact sheet: {page.resolve().as_uri()}")
    if totals.all < wanted:
        click.echo(
            f"{pluralize(wanted - totals.all, 'file')} had not ended. What is done stays in {page.parent}; the same "
            "command does all of it once more, or give it only the files that are left."
        )


def _skipped(results: Sequence[FileResult]) -> dict[str, list[str]]:
    """Keys of the skipped files, by reason."""
    found: dict[str, list[str]] = {}
    for result in results:
        if result.state is FileState.SKIPPED:
            found.setdefault(result.reason, []).append(result.key)
    return found


def _stay(stack: LocalStack, run: Run, results: list[FileResult], write_sheet: Callable[[], Path]) -> None:
    """Keeps everything running until Ctrl-C, and collects the renditions of new uploads."""
    variables = stack.write_variables()
    click.echo(
        f"Still running; Ctrl-C ends it. Logs: {stack.logs}\n"
        f"From another terminal: `source {variables}`, and for example\n"
        f"  aws s3 cp photo.jpg s3://{INPUT_BUCKET}/\n"
        f"  {sys.executable} -m pipeline audit\n"
        f"  {sys.executable} -m celery -A pipeline inspect stats"
    )
    try:
        while True:
            for result in run.collect():
                results[:] = [other for other in results if other.key != result.key] + [result]
                write_sheet()
                detail = f": {result.reason}" if result.reason else ""
                click.echo(printable(f"{result.state.value}: {result.key}{detail}"))
    except KeyboardInterrupt:
        click.echo("Stopping ...")

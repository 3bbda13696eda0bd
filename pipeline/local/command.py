"""``python -m pipeline local``: what the person sees."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from pipeline.aws import clients
from pipeline.core.console import progress
from pipeline.core.errors import PipelineError
from pipeline.local import sheet
from pipeline.local.files import File, find
from pipeline.local.flower import start as start_flower
from pipeline.local.results import Result, State
from pipeline.local.run import Run, prepare
from pipeline.local.stack import INPUT_BUCKET, LocalStack

#: Without a terminal, a line each this many files.
PLAIN_EVERY = 25


def local(paths: Sequence[Path], out: Path, *, keep: bool, flower: bool) -> int:
    """Runs the whole pipeline over files and writes renditions and a contact sheet into ``out``.

    Returns the exit status: 0 when all were done, 1 when some failed. Raises ``PipelineError``.
    """
    console = Console(highlight=False)
    files = find(paths, leave_out=out)
    prepare(out)
    with ExitStack() as cleanup:
        logs = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="pipeline-local-")))
        console.print("Starting the emulator, the bridge and the worker ...")
        stack = cleanup.enter_context(LocalStack(logs, concurrency=os.cpu_count() or 1))
        if flower:
            console.print(f"Flower: {start_flower(stack)}", soft_wrap=True)
        # A route's rule for the content reads where the usual variables point.
        cleanup.enter_context(_environment(stack.environ()))
        run = Run(stack, out, keep=keep)
        started = time.monotonic()
        results = _collect(console, run, files)
        seconds = time.monotonic() - started
        page = _write_sheet(out, results, seconds)
        _summary(console, results, page, seconds)
        if keep:
            _stay(console, stack, run, results, lambda: _write_sheet(out, results, time.monotonic() - started))
    return 1 if any(result.state is State.FAILED for result in results) else 0


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


def _write_sheet(out: Path, results: Sequence[Result], seconds: float) -> Path:
    try:
        return sheet.write(out, results, seconds=seconds)
    except OSError as exc:
        raise PipelineError(f"{out}: cannot be written: {exc.strerror}") from exc


def _collect(console: Console, run: Run, files: Sequence[File]) -> list[Result]:
    """Runs, and says how it goes: with a bar on a terminal, in lines elsewhere."""
    results: list[Result] = []
    counts = dict.fromkeys(State, 0)
    with progress("Files", len(files)) as bar:
        for result in run.process(files):
            results.append(result)
            counts[result.state] += 1
            text = " ".join(f"{count} {state.value}" for state, count in counts.items())
            if result.state is State.FAILED:
                console.print(f"failed: {escape(result.key)}: {escape(result.reason)}", soft_wrap=True)
            if console.is_terminal:
                bar(len(results), text)
            elif len(results) % PLAIN_EVERY == 0 or len(results) == len(files):
                console.print(f"{len(results)}/{len(files)} files: {text}")
    return results


def _summary(console: Console, results: Sequence[Result], page: Path, seconds: float) -> None:
    totals = sheet.totals(results)
    console.print(
        f"{totals.all} files in {seconds:.1f} s: {totals.done} done, {totals.failed} failed, {totals.skipped} skipped."
    )
    console.print(f"Contact sheet: {page.resolve().as_uri()}", soft_wrap=True)


def _stay(
    console: Console, stack: LocalStack, run: Run, results: list[Result], write_sheet: Callable[[], Path]
) -> None:
    """Keeps everything running, and collects what a person drops into the input bucket, until Ctrl-C."""
    variables = stack.write_variables()
    console.print(
        f"Still running; Ctrl-C ends it. Logs: {stack.logs}\n"
        f"From another terminal: `source {variables}`, and for example\n"
        f"  aws s3 cp photo.jpg s3://{INPUT_BUCKET}/\n"
        f"  {sys.executable} -m pipeline audit\n"
        f"  {sys.executable} -m celery -A pipeline inspect stats",
        soft_wrap=True,
    )
    try:
        while True:
            for result in run.collect():
                results[:] = [other for other in results if other.key != result.key] + [result]
                write_sheet()
                detail = f": {result.reason}" if result.reason else ""
                console.print(f"{result.state.value}: {escape(result.key + detail)}", soft_wrap=True)
    except KeyboardInterrupt:
        console.print("Stopping ...")

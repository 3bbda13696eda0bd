"""``python -m pipeline local``: the embedded run from its start to its end."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue

import click

from pipeline.aws import clients
from pipeline.local.board import Board
from pipeline.local.buckets import prepare
from pipeline.local.files import find
from pipeline.local.flower_server import start as start_flower
from pipeline.local.live import Live
from pipeline.local.page_server import PageServer
from pipeline.local.record import Record
from pipeline.local.report import print_totals, show_progress
from pipeline.local.results import FileState
from pipeline.local.run import Run
from pipeline.local.stack import INPUT_BUCKET, LocalStack
from pipeline.local.staying import Staying
from pipeline.local.watch import Watch
from pipeline.local.workbench import Workbench


def local(paths: Sequence[Path], out: Path, *, keep: bool, flower: bool, watch: bool) -> int:
    """Runs the whole pipeline over files and writes renditions and a contact sheet into ``out``.

    ``keep``, ``watch``: keeps running until it is interrupted. Returns the exit status: 0 when all were done, 1 when
    some failed. Raises ``PipelineError``.
    """
    watched = Watch(paths, leave_out=out) if watch else None
    files = find(paths, leave_out=out) if watched is None else watched.changes().ready
    prepare(out)
    with ExitStack() as cleanup:
        logs = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="pipeline-local-")))
        click.echo("Starting the emulator, the bridge and the worker ...")
        stays = keep or watch
        stack = cleanup.enter_context(LocalStack(logs, concurrency=os.cpu_count() or 1, removals=stays))
        if flower:
            click.echo(f"Flower: {start_flower(stack)}")
        # Rules for the content read from the endpoint in the usual variables.
        cleanup.enter_context(_environment(stack.environ()))
        run, board = Run(stack, out, keep=stays), Board(len(files))
        originals = {file.key: file.path for file in files}
        record = Record(run, board, out, originals)
        orders: SimpleQueue[str] = SimpleQueue()
        if stays:
            workbench = Workbench(board, lambda: run.settings, run.read, orders)
            server = cleanup.enter_context(PageServer(Live(board, workbench, out, run.read)))
            click.echo(f"Contact sheet, live: {server.url}")
        unfinished = len(files)
        try:
            show_progress(run.process(files), record, len(files))
        finally:  # an interrupted run also reports what it has done
            unfinished -= len(board.results())
            print_totals(board.results(), record.write_sheet(), record.seconds, unfinished=max(0, unfinished))
        if stays:
            _print_how_to_go_on(stack, watched)
            staying = Staying(stack, run, board, record, originals, orders, watched)
            try:
                staying.go_on()
            except KeyboardInterrupt:
                click.echo("Stopping ...")
            finally:
                print_totals(board.results(), record.write_sheet(), record.seconds, unfinished=staying.unfinished)
    return 1 if any(result.state is FileState.FAILED for result in board.results()) else 0


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


def _print_how_to_go_on(stack: LocalStack, watched: Watch | None) -> None:
    variables = stack.write_variables()
    watching = "" if watched is None else "Watching for new, changed and removed files. "
    click.echo(
        f"{watching}Still running; Ctrl-C ends it. Logs: {stack.logs}\n"
        f"From another terminal: `source {variables}`, and for example\n"
        f"  aws s3 cp photo.jpg s3://{INPUT_BUCKET}/\n"
        f"  {sys.executable} -m pipeline audit\n"
        f"  {sys.executable} -m celery -A pipeline inspect stats"
    )

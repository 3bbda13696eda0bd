"""Keeps a run going until Ctrl-C: new uploads, changed and removed files, and orders from the live page."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import MutableMapping
from pathlib import Path
from queue import Empty, SimpleQueue

import click

from pipeline.core.console import pluralize, printable
from pipeline.local.board import Board, Phase
from pipeline.local.files import File
from pipeline.local.record import Record
from pipeline.local.results import FileResult, FileState, Gone
from pipeline.local.run import WINDOW, Run
from pipeline.local.stack import LocalStack
from pipeline.local.watch import Watch

#: Seconds between writes of the contact sheet while results keep coming: a large one takes a while.
SHEET_EVERY_S = 10.0


class Staying:
    """``orders``: values of RENDITIONS; each makes all finished files again."""

    def __init__(
        self,
        stack: LocalStack,
        run: Run,
        board: Board,
        record: Record,
        originals: MutableMapping[str, Path],
        orders: SimpleQueue[str],
        watch: Watch | None = None,
    ) -> None:
        self._stack = stack
        self._run = run
        self._board = board
        self._record = record
        self._originals = originals
        self._orders = orders
        self._watch = watch
        self._pending: deque[File] = deque()  # complete, not uploaded yet
        self._written_at = 0.0
        self._is_sheet_old = False

    @property
    def unfinished(self) -> int:
        """Number of known files without a result."""
        return len(self._pending) + self._run.unfinished

    def go_on(self) -> None:
        """Runs until it is interrupted. Raises ``KeyboardInterrupt`` and ``PipelineError``."""
        while True:
            self.step()

    def step(self) -> None:
        """Waits up to a second for news."""
        if self._watch is not None:
            self._look(self._watch)
        while self._pending and self._run.unfinished < WINDOW:
            known = self._run.upload(self._pending.popleft())
            if known is not None:
                self._say(known)
        is_quiet = True
        for news in self._run.collect():
            is_quiet = False
            self._say(news)
        self._write_sheet(is_quiet=is_quiet)
        self._board.phase = Phase.RUNNING if self.unfinished else Phase.WAITING
        if not self.unfinished:
            self._obey()

    def _look(self, watch: Watch) -> None:
        changes = watch.changes()
        for file in changes.ready:
            self._originals[file.key] = file.path
            self._pending.append(file)
        for key in changes.gone:
            self._pending = deque(file for file in self._pending if file.key != key)
            self._remove(key)

    def _remove(self, key: str) -> None:
        self._run.remove(key)
        self._originals.pop(key, None)
        result = self._board.get(key)
        if (
            result is not None and result.state is not FileState.DONE
        ):  # the pipeline removes the renditions of done files
            self._board.remove(key)
            self._is_sheet_old = True
            click.echo(printable(f"removed: {key}"))

    def _say(self, news: FileResult | Gone) -> None:
        self._is_sheet_old = True
        line = self._record.take(news)
        if line is not None:
            click.echo(printable(line))

    def _write_sheet(self, *, is_quiet: bool) -> None:
        is_due = is_quiet or time.monotonic() - self._written_at >= SHEET_EVERY_S
        if self._is_sheet_old and is_due:
            self._record.write_sheet()
            self._written_at, self._is_sheet_old = time.monotonic(), False

    def _obey(self) -> None:
        try:
            renditions = self._orders.get_nowait()
        except Empty:
            return
        done = [result.key for result in self._board.results() if result.state is FileState.DONE]
        click.echo(printable(f"Making {pluralize(len(done), 'file')} again by RENDITIONS={renditions}"))
        self._board.phase = Phase.AGAIN
        self._stack.restart({"RENDITIONS": renditions})
        self._run.reload()
        for news in self._run.process_again(done):
            self._say(news)

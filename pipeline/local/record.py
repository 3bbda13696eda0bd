"""Keeps the board, the output folder and the contact sheet in step with the results."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.local import sheet
from pipeline.local.board import Board
from pipeline.local.results import FileResult, Gone
from pipeline.local.run import Run


class Record:
    """``originals``: paths of the files by key; the caller may add to it later."""

    def __init__(self, run: Run, board: Board, out: Path, originals: Mapping[str, Path]) -> None:
        self._run = run
        self._board = board
        self._out = out
        self._originals = originals
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def take(self, news: FileResult | Gone) -> str | None:
        """Records a result or a removal. Returns a line to print, or None."""
        if isinstance(news, Gone):
            key = self._board.lose(news.path)
            return None if key is None else f"removed: {key}"
        for path in self._board.put(news):
            self._run.forget(path)
        return f"{news.state.value}: {news.key}{news.reason and f': {news.reason}'}"

    def write_sheet(self) -> Path:
        """Raises ``PipelineError``."""
        try:
            return sheet.write(self._out, self._board.results(), seconds=self.seconds, originals=self._originals)
        except OSError as exc:
            raise PipelineError(f"{self._out}: cannot be written: {exc.strerror}") from exc

"""Raises at a chosen line of chosen files, as a signal may: between any two lines."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Iterator
from functools import cache
from types import CodeType, FrameType
from typing import Any

import pytest
from billiard import einfo


class Injection:
    """Counts the lines that are run in files whose paths end as given, and raises before the ``at``-th (from 0).

    Also in threads that start meanwhile. ``at`` None: it only counts.
    """

    def __init__(self, endings: Collection[str], at: int | None = None, exc: BaseException | None = None) -> None:
        self._endings = tuple(endings)
        self._at = at
        self._exc = exc
        self._lock = threading.Lock()
        self.count = 0
        self.where = ""

    def run(self, call: Callable[[], Any]) -> Any:
        before = sys.gettrace()
        threading.settrace(self._trace)
        sys.settrace(self._trace)
        try:
            return call()
        finally:
            sys.settrace(before)
            threading.settrace(None)  # type: ignore[arg-type]

    def _trace(self, frame: FrameType, event: str, _arg: Any) -> Any:
        return self._local if frame.f_code.co_filename.endswith(self._endings) else None

    def _local(self, frame: FrameType, event: str, _arg: Any) -> Any:
        if event == "line":
            with self._lock:
                here, self.count = self.count, self.count + 1
            if here == self._at and self._exc is not None:
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                raise self._exc
        return self._local


@cache
def _without_positions(code: CodeType) -> Any:
    """billiard's copy of a frame's code, without the columns of each instruction."""
    made = einfo._Code(code)
    made._co_positions = []
    return made


@pytest.fixture
def terse(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody reads what hundreds of interrupted runs say: no log, and no text of a traceback; both cost the most."""
    monkeypatch.setattr(traceback, "format_exception", lambda *_, **__: ["interrupted"])
    monkeypatch.setattr(einfo.Traceback.__init__, "__defaults__", (0, 0))  # frames that are kept
    monkeypatch.setattr(einfo._Frame, "Code", staticmethod(_without_positions))
    before = logging.root.manager.disable
    logging.disable()
    yield
    logging.disable(before)

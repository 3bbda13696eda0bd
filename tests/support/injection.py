"""Raises at a chosen line of chosen files, as a signal may: between any two lines."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection
from types import FrameType
from typing import Any


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

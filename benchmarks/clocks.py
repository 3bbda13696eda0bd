"""CPU time by what it was spent on: exclusive, per thread, summed over the processes of a worker.

Functions are wrapped by ``timed``; what a wrapped function calls that is wrapped too counts for the inner one.
Each process adds up in a file of its own, which others read while it runs. What no wrapped function used is
what the caller finds by subtracting from all CPU time of the process.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

#: The columns of a file, each a double: seconds.
CATEGORIES = ("decode", "resize", "encode", "S3", "SQS", "events", "logs", "publish")
_ROW = struct.Struct(f"{len(CATEGORIES)}d")


class Clocks:
    """The clocks of this process; a fork gets clocks, and a file, of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open()
        os.register_at_fork(after_in_child=self._open)

    def _open(self) -> None:
        self._lock = threading.Lock()
        self._local = threading.local()
        self._totals = [0.0] * len(CATEGORIES)
        path = self._folder / f"{os.getpid()}.clocks"
        path.write_bytes(bytes(_ROW.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _ROW.size)

    def timed(self, category: str, function: Callable[..., Any]) -> Callable[..., Any]:
        column = CATEGORIES.index(category)

        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            stack: list[float] = self._local.__dict__.setdefault("stack", [])
            stack.append(0.0)  # what is to be taken off: the time of timed functions inside
            started = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                used = time.thread_time() - started
                inside = stack.pop()
                if stack:
                    stack[-1] += used
                with self._lock:
                    self._totals[column] += used - inside
                    _ROW.pack_into(self._map, 0, *self._totals)

        return wrapper

    def patch(self, category: str, owner: Any, *names: str) -> None:
        """Raises ``AttributeError`` when what is to be timed has another name by now."""
        for name in names:
            setattr(owner, name, self.timed(category, getattr(owner, name)))


def read(folder: Path) -> Counter[str]:
    """Seconds by category, of all processes that wrote there, ended ones too."""
    found: Counter[str] = Counter()
    for path in folder.glob("*.clocks"):
        data = path.read_bytes()
        if len(data) == _ROW.size:
            found.update(dict(zip(CATEGORIES, _ROW.unpack(data), strict=True)))
    return found

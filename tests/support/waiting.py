"""Waiting for a condition with a deadline, instead of for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

#: Between two looks: short at first, as most conditions are true soon, and looking costs something too.
STEP_S, MOST_S = 0.01, 0.1
#: Long: it ends a test that hangs, and is no bound on what is tested. A busy machine may be ten times as slow.
DEADLINE_S = 300.0


def wait_until(condition: Callable[[], object], what: str, within_s: float = DEADLINE_S) -> None:
    """Returns when ``condition()`` is true; raises ``AssertionError`` that names ``what`` after the deadline."""
    deadline = time.monotonic() + within_s
    step_s = STEP_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what}")
        time.sleep(step_s)
        step_s = min(step_s * 1.2, MOST_S)


def text_of(path: Path) -> str:
    """What is in a file that another process writes and removes; empty where there is none. Never looks twice."""
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""

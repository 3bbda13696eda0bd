"""Processes of the tests: waiting on a condition, and finding what was left behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def wait_for(condition: Callable[[], object], *, seconds: float = 60, what: str = "the condition") -> None:
    """Polls until the condition holds. Raises ``AssertionError`` at the deadline, naming what was awaited."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come about within {seconds} s")
        time.sleep(0.05)


def marked(mark: str) -> list[str]:
    """Command lines of all living processes whose environment carries the mark (Linux)."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # it ended meanwhile, or isn't ours
    return found


def rss_mib(pid: int) -> float:
    """Resident memory of a process (Linux)."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024

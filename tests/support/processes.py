"""Processes of the tests: finding them, and ending what was left behind."""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.waiting import wait_until

#: In the environment of all that a test starts, and of all that this starts, also where it has left its process group.
OWNER = "PIPELINE_TEST_OWNER"
#: Python's audit events for the ways in which a process is started.
_STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn"}
_started = Counter[str]()


def _hear(event: str, _: object) -> None:
    if event in _STARTS:
        _started[event] += 1


sys.addaudithook(_hear)


def _living(mark: str) -> dict[int, str]:
    """Command lines of all living processes whose environment carries the mark, by their id (Linux)."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and mark.encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it ended meanwhile, or isn't ours
    return found


def marked(mark: str) -> list[str]:
    """Command lines of all living processes whose environment carries the mark."""
    return list(_living(mark).values())


@contextmanager
def owned_processes() -> Iterator[None]:
    """Ends in the end whatever was started in it and still lives, a daemon too; also when a test has failed.

    But for the process that renders for this one: starting another for each test costs more than most of them.
    """
    before, mark, started = os.environ.get(OWNER), uuid.uuid4().hex, _started.total()
    os.environ[OWNER] = mark
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(OWNER, None)
        else:
            os.environ[OWNER] = before
        if _started.total() > started:  # else there is nothing to look for
            _end(mark)


def _end(mark: str) -> None:
    killed: set[int] = set()

    def gone() -> bool:
        living = _living(mark).keys() - {os.getpid()} - _rendering()
        for process in living:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        killed.update(living)
        return not living and all(map(_has_ended, killed))

    wait_until(gone, "all that the test has started has ended")


def _has_ended(process: int) -> bool:
    """A dying process has no environment for a moment in which its parent can't see its end yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(") ")[2][0] in "ZX"
    except OSError:
        return True


def _rendering() -> set[int]:
    """Its id. It ends with this process; killed here, it might still seem to live when the next test asks it."""
    apart = sys.modules.get("tasks.images.apart")
    running = None if apart is None else apart._running
    return set() if running is None else {running._process.pid}

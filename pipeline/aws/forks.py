"""Makes a fork wait for other threads' work whose locks would otherwise stay locked in the child for ever.

A child can't replace these locks: those of modules that are being imported, and OpenSSL's, which are held while a
client is created.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: Longest that a fork waits, in seconds. Without a limit, a program that forks while it is itself being imported could
#: wait for ever.
WAIT_S = 30.0


class _Guard:
    def __init__(self) -> None:
        self.lock = threading.RLock()


_guard = _Guard()


@contextmanager
def unforked() -> Iterator[None]:
    """While this thread is in the block, no other thread can fork, or enter such a block."""
    with _guard.lock:
        yield


def _wait() -> None:
    _guard.lock.acquire(timeout=WAIT_S)


def _go_on() -> None:
    with suppress(RuntimeError):  # the wait timed out, so another thread still holds the lock
        _guard.lock.release()


def _begin_anew() -> None:
    _guard.lock = threading.RLock()


os.register_at_fork(before=_wait, after_in_parent=_go_on, after_in_child=_begin_anew)

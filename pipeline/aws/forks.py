"""What a fork of this process waits for: work of other threads whose locks would stay locked in the child for ever.

These are the locks that a child can't make anew: those of modules that are being imported, and OpenSSL's, which are
taken while a client is made.
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
    """No other thread forks inside the block, and none is in such a block at the same time."""
    with _guard.lock:
        yield


def _wait() -> None:
    _guard.lock.acquire(timeout=WAIT_S)


def _go_on() -> None:
    with suppress(RuntimeError):  # the time was up: it is another thread's
        _guard.lock.release()


def _begin_anew() -> None:
    _guard.lock = threading.RLock()


os.register_at_fork(before=_wait, after_in_parent=_go_on, after_in_child=_begin_anew)

"""Apps in processes that fork: a child begins with pools of its own.

A program may fork while one of its threads publishes: ``gunicorn --preload``, a pool of ``multiprocessing``. What that
thread had locked is locked in the child for ever, since the thread is not there to open it: kombu's pools, and the
modules that it was importing. Celery only looks after forks of its own pool.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import celery.app.task  # noqa: F401 - else the first publish loads it
from celery.app.amqp import AMQP
from kombu import Connection, pools

#: Longest that a fork waits for the first publish, which loads what publishing needs.
WAIT_S = 30.0

_apps: weakref.WeakSet[Any] = weakref.WeakSet()


class _Loading:
    """The first publish of a process, during which it does not fork."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.is_done = False
        self.holds_fork = False


_loading = _Loading()


def forget_in_children(app: Any) -> None:
    """The pools of this app are made anew in a forked child, and those of the parent are left alone there."""
    if not _apps:
        os.register_at_fork(before=_wait, after_in_parent=_go_on, after_in_child=_begin_anew)
    _apps.add(app)


@contextmanager
def loading() -> Iterator[None]:
    """Around what publishes: the first time, other threads wait, and so does a fork."""
    if _loading.is_done:
        yield
        return
    with _loading.lock:
        try:
            yield
        finally:
            _loading.is_done = True


def _wait() -> None:
    if not _loading.is_done:
        _loading.holds_fork = _loading.lock.acquire(timeout=WAIT_S)


def _go_on() -> None:
    if _loading.holds_fork:
        _loading.holds_fork = False
        _loading.lock.release()


def _open_locks(app: Any) -> None:
    """Of what is computed once, and may have been under way: each such property has a lock for all its objects."""
    app._finalize_mutex = threading.RLock()
    channel = sys.modules.get("pipeline.sqs.transport.transport")
    kinds = [type(app), AMQP, Connection, *(() if channel is None else (channel.Transport, channel.Channel))]
    for value in {
        value for kind in kinds for base in kind.__mro__ for value in vars(base).values() if _is_locked(value)
    }:
        value.lock = threading.RLock()


def _is_locked(value: object) -> bool:
    return isinstance(value, cached_property) and hasattr(value, "lock")


def _begin_anew() -> None:
    _loading.lock, _loading.holds_fork = threading.RLock(), False
    # Not ``pools.reset()``: it closes what is in them, and waits for their locks.
    for group in (pools.connections, pools.producers):
        group.clear()
    for app in _apps:
        _open_locks(app)
        app._pool = None
        amqp = vars(app).get("amqp")
        if amqp is not None:
            amqp._producer_pool = None

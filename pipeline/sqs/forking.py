"""Apps in processes that fork: a child begins with pools of its own.

A program may fork while one of its threads publishes: ``gunicorn --preload``, a pool of ``multiprocessing``. What that
thread had locked is locked in the child for ever, since the thread is not there to open it. Celery only looks after
forks of its own pool.
"""

from __future__ import annotations

import os
import weakref
from typing import Any

_apps: weakref.WeakSet[Any] = weakref.WeakSet()


def forget_in_children(app: Any) -> None:
    """The pools of this app are made anew in a forked child, and those of the parent are left alone there."""
    if not _apps:
        os.register_at_fork(after_in_child=_begin_anew)
    _apps.add(app)


def _begin_anew() -> None:
    from kombu import pools

    # Not ``pools.reset()``: it closes what is in them, and waits for their locks.
    for group in (pools.connections, pools.producers):
        group.clear()
    for app in _apps:
        app._pool = None
        amqp = vars(app).get("amqp")
        if amqp is not None:
            amqp._producer_pool = None

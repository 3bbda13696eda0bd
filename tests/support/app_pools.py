"""kombu's pools are the process's: where one test closes them, the apps of others would keep them, closed."""

from __future__ import annotations

from celery._state import _get_active_apps
from kombu import pools


def forget_closed() -> None:
    """Apps that are left with a closed pool get another one when they next publish."""
    groups = (pools.connections, pools.producers)  # a pool of producers has one of connections
    if any(pool._closed for group in groups for pool in group.values()):
        for group in groups:
            group.clear()
    for app in _get_active_apps():
        if app._pool is not None and app._pool._closed:
            app._after_fork()  # forgets them

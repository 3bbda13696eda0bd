"""kombu's pools are the process's: where one test closes them, the apps of others would keep them, closed."""

from __future__ import annotations

from celery._state import _get_active_apps
from kombu import pools


def forget_closed() -> None:
    """Apps that are left with a closed pool get another one when they next publish."""
    for group in (pools.connections, pools.producers):
        for key in [key for key, pool in group.items() if pool._closed]:
            del group[key]
    for app in _get_active_apps():
        if app._pool is not None and app._pool._closed:
            app._pool = None
            if "amqp" in vars(app):
                app.amqp._producer_pool = None

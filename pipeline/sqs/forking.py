"""Apps in processes that fork: a child begins with pools and locks of its own.

A program may fork while one of its threads publishes: ``gunicorn --preload``, a pool of ``multiprocessing``. What that
thread has locked stays locked in the child, where the thread does not run. Celery handles only forks of its own pool.

``load`` imports everything that a publish needs, without a request to any service, and a fork waits until that is over
(``pipeline.aws.forks``). All other locks are made anew in the child, with what they guard.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from functools import cached_property
from importlib import import_module
from typing import Any

from celery import signals
from celery.app.amqp import AMQP
from celery.utils.dispatch import Signal
from kombu import Connection, pools
from kombu.utils.imports import symbol_by_name

from pipeline.aws.forks import unforked

#: What a publish imports; a test compares the list with a publish.
MODULES = (
    "boto3.session",
    "celery.app.events",
    "celery.backends.base",
    "celery.loaders.app",
    "email.mime.message",
    "email.policy",
    "encodings.idna",
    "pipeline.sqs.monitoring.events",
    "pipeline.sqs.transport.publishing",
    "pipeline.sqs.transport.transport",
)

_apps: weakref.WeakSet[Any] = weakref.WeakSet()
_loaded: weakref.WeakSet[Any] = weakref.WeakSet()


def forget_in_children(app: Any) -> None:
    """The pools of this app are made anew in a forked child, and those of the parent are left alone there."""
    symbol_by_name(app.task_cls)  # else the first look at a task imports it, before ``load``
    _apps.add(app)


def load(app: Any) -> None:
    """Before a publish: imports what it needs, once. Raises ``ConfigError`` where a setting of the app is wrong."""
    if app in _loaded:
        return
    with unforked():
        for name in MODULES:
            import_module(name)
        app.conf.broker_url  # noqa: B018 - reads the app's configuration
        app.amqp, app.backend  # noqa: B018 - loads them
        _loaded.add(app)


def _begin_anew() -> None:
    for signal in vars(signals).values():
        if isinstance(signal, Signal):
            signal.lock = threading.Lock()
    # Not ``pools.reset()``: it closes what is in them, and waits for their locks.
    for group in (pools.connections, pools.producers):
        group.clear()
    for app in _apps:
        _renew_locks(app)
        app._pool = None
        amqp = vars(app).get("amqp")
        if amqp is not None:
            amqp._producer_pool = None


def _renew_locks(app: Any) -> None:
    """Also of what is computed once, where each such property has a lock for all its objects."""
    app._finalize_mutex = threading.RLock()
    app.clock.mutex = threading.Lock()
    channel = sys.modules.get("pipeline.sqs.transport.transport")
    kinds = [type(app), AMQP, Connection, *(() if channel is None else (channel.Transport, channel.Channel))]
    for value in {
        value for kind in kinds for base in kind.__mro__ for value in vars(base).values() if _is_locked(value)
    }:
        value.lock = threading.RLock()


def _is_locked(value: object) -> bool:
    return isinstance(value, cached_property) and hasattr(value, "lock")


os.register_at_fork(after_in_child=_begin_anew)

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
from celery.loaders import get_loader_cls
from celery.utils.dispatch import Signal
from kombu import pools
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
    # Else the first look at a task or at the configuration imports these, before ``load``.
    symbol_by_name(app.task_cls)
    get_loader_cls(app.loader_cls)
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
    _computed_once.begin_anew()
    for app in _apps:
        app._finalize_mutex = threading.RLock()
        app.clock.mutex = threading.Lock()
        app._pool = None
        amqp = vars(app).get("amqp")
        if amqp is not None:
            amqp._producer_pool = None


class _ComputedOnce:
    """All ``cached_property`` of the loaded modules.

    In kombu, and anywhere up to Python 3.11, each has one lock for the objects of all threads.
    """

    def __init__(self) -> None:
        self._modules = 0
        self._found: set[Any] = set()

    def find(self) -> None:
        """Looks through the modules, unless there are as many as the last time."""
        modules = list(sys.modules.values())
        if len(modules) != self._modules:
            self._modules = len(modules)
            # By ``type``: ``isinstance`` would evaluate the promises of Celery's tasks.
            values = [value for module in modules for value in list(getattr(module, "__dict__", {}).values())]
            kinds = {value for value in values if issubclass(type(value), type)}
            inside = [value for kind in kinds for value in list(vars(kind).values())]
            self._found = {
                value for value in inside if issubclass(type(value), cached_property) and hasattr(value, "lock")
            }

    def begin_anew(self) -> None:
        self.find()  # a thread of the parent may have imported more
        for value in self._found:
            value.lock = threading.RLock()


_computed_once = _ComputedOnce()

# In the parent, where the pages that it touches are not copied.
os.register_at_fork(before=_computed_once.find, after_in_child=_begin_anew)

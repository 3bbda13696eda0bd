"""Apps in processes that fork: the child gets pools and locks of its own.

A program may fork while one of its threads publishes: ``gunicorn --preload``, a pool of ``multiprocessing``. That
thread does not run in the child, so its locks would stay locked there. Celery handles only forks of its own pool.

``load`` imports everything that a publish needs, without a request to any service, and a fork waits until it is done
(``pipeline.aws.forks``). The child replaces all other locks, and what they guard.
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

#: The modules that a publish imports; a test compares the list with a real publish.
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
    """From now on, a forked child replaces this app's pools, and leaves the parent's alone."""
    # Otherwise the first access to a task or to the configuration would import these, before ``load``.
    symbol_by_name(app.task_cls)
    get_loader_cls(app.loader_cls)
    _apps.add(app)


def load(app: Any) -> None:
    """Imports, once, what a publish needs. Call it before each. Raises ``ConfigError`` if an app's setting is wrong."""
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
    # Not ``pools.reset()``: it closes the pools' connections, and waits for their locks.
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
    """Every ``cached_property`` of the loaded modules.

    In kombu, and everywhere up to Python 3.11, each has one lock for all its objects, in all threads.
    """

    def __init__(self) -> None:
        self._modules = 0
        self._found: set[Any] = set()

    def find(self) -> None:
        """Searches the loaded modules, unless their number is unchanged since the last search."""
        modules = list(sys.modules.values())
        if len(modules) != self._modules:
            self._modules = len(modules)
            # ``type``, since ``isinstance`` would evaluate Celery's lazy task proxies.
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

# Search in the parent: in the child it would make the kernel copy the pages that it touches.
os.register_at_fork(before=_computed_once.find, after_in_child=_begin_anew)

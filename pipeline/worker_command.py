"""Celery's worker as this app's command starts it: where what is printed goes.

Where standard error is no terminal, every line that the worker and its processes write is a JSON object.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any

from celery import bootsteps
from celery.apps import worker
from celery.utils.log import LoggingProxy

from pipeline.core import log

#: The most of a line without an end that is kept.
MOST_CHARACTERS = 65_536


class Worker(worker.Worker):
    def on_before_init(self, **options: Any) -> None:
        """Celery warns of a superuser's worker here, before it sets logging up."""
        if not sys.stderr.isatty():
            log.setup(logging.WARNING)
        super().on_before_init(**options)


class PrintedLines(LoggingProxy):
    """Standard output and error as a logger: whole lines, where Celery's own takes each part of a ``print`` for one."""

    _local = threading.local()

    def write(self, data: Any) -> int:
        text = data if isinstance(data, str) else str(data)
        *lines, rest = (self._pending() + text).split("\n")
        self._local.pending = rest[-MOST_CHARACTERS:]
        for line in lines:
            super().write(line)
        return len(text)

    def flush(self) -> None:
        pending, self._local.pending = self._pending(), ""
        super().write(pending)

    def _pending(self) -> str:
        pending: str = getattr(self._local, "pending", "")
        return pending


class PrintedStep(bootsteps.Step):
    """Before the pool's processes are forked: what the body of a task prints is logged."""

    def __init__(self, parent: Any, **options: Any) -> None:
        if parent.redirect_stdouts and not sys.stderr.isatty():
            sys.stdout = sys.stderr = PrintedLines(logging.getLogger("printed"), parent.redirect_stdouts_level)
        super().__init__(parent, **options)

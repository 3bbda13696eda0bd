"""What a worker does to its process: its logs, the garbage collector, one line about what is off.

None of it by a signal: signals of Celery reach every worker in a process, and ours may be a guest in another's.
"""

from __future__ import annotations

import gc
import logging
import sys
from typing import Any

from billiard.util import get_logger
from celery import bootsteps, signals
from celery.app.log import Logging
from celery.app.trace import LOG_SUCCESS

from pipeline.core import log
from pipeline.core.settings import renamed_in_use

#: billiard's line about a process that has ended with another status than 0.
PROCESS_LOST = "Process %r pid:%r exited with %r"

logger = logging.getLogger(__name__)


class OwnLogging(Logging):
    """Celery's part of an app that sets up logging, which this app does in its own format."""

    def setup_logging_subsystem(self, *args: Any, **options: Any) -> Any:
        signals.setup_logging.connect(self._set_up)  # a receiver keeps Celery from configuring logging itself
        try:
            return super().setup_logging_subsystem(*args, **options)
        finally:
            signals.setup_logging.disconnect(self._set_up)

    def _set_up(self, loglevel: int | None = None, **_: object) -> None:
        _set_up(logging.INFO if loglevel is None else loglevel)
        if self.app.settings.log_level == "DEBUG":
            log.show_steps()
        logging.getLogger("celery.app.trace").addFilter(self._is_not_told_twice)

    def _is_not_told_twice(self, record: logging.LogRecord) -> bool:
        """Celery's line about a task that succeeded, where the task itself tells how it ended, is for DEBUG."""
        if record.msg != LOG_SUCCESS or logging.getLogger(record.name).isEnabledFor(logging.DEBUG):
            return True
        task = self.app.tasks.get(vars(record).get("data", {}).get("name"))
        return not getattr(task, "logs_its_end", False)


def _set_up(loglevel: int) -> None:
    log.setup(loglevel)
    # Of the pool, whose lines Python would otherwise print as they are: that a process was killed is one of them.
    pool_logger = get_logger()
    pool_logger.propagate = True
    pool_logger.addFilter(_name_action)
    for sentence in renamed_in_use():
        logger.warning("%s", sentence, extra={"action": "setting_renamed"})


def _name_action(record: logging.LogRecord) -> bool:
    if record.msg == PROCESS_LOST:
        vars(record).update({"action": "process_lost"})
    return True


class NoBanner(bootsteps.Step):
    """Celery's banner is for a terminal; elsewhere every line is a JSON object."""

    def __init__(self, parent: Any, **options: Any) -> None:
        if not sys.stderr.isatty():
            parent.quiet = True
        super().__init__(parent, **options)


class CollectorStep(bootsteps.Step):
    """What is loaded before the pool's processes are forked is kept from the garbage collector.

    It is looked at neither before each fork, as Celery asks for, nor in the processes. What the collector does not
    touch, the processes share.
    """

    def create(self, parent: Any) -> None:
        """Celery creates every step of a worker before it starts one; the tasks are loaded by then."""
        gc.freeze()
        gc.enable()  # `pipeline.worker` starts without

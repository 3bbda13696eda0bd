"""One log format: readable lines on a terminal, JSON lines in containers; ids and actions go into ``extra``."""

from __future__ import annotations

import logging
import sys
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from pipeline.core.errors import PipelineError

#: Loggers whose INFO lines don't help an operator. The last one logs received tasks; their ends are logged anyway.
_QUIET = ("botocore", "boto3", "urllib3", "s3transfer", "PIL", "celery.worker.strategy")

#: Loggers that log each step of an object at DEBUG; one line at INFO logs its end.
_STEPS = ("bridge", "pipeline", "tasks", "celery.app.trace")


def setup(level: str | int = logging.INFO, *, json_lines: bool | None = None) -> None:
    """Sends all logs to standard error.

    ``json_lines``: None means unless standard error is a terminal.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_without_needless_traceback)
    handler.setFormatter(_formatter(not sys.stderr.isatty() if json_lines is None else json_lines))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    quiet()
    logging.captureWarnings(True)


def quiet() -> None:
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def show_steps() -> None:
    """Logs every step of each object, for LOG_LEVEL=DEBUG, even if the level of other loggers is INFO."""
    for name in _STEPS:
        logging.getLogger(name).setLevel(logging.DEBUG)


def _without_needless_traceback(record: logging.LogRecord) -> bool:
    """Drops the traceback of errors raised on purpose: their messages say what happened and what to do."""
    exc = record.exc_info[1] if record.exc_info else None
    celery = sys.modules.get("celery.exceptions")  # if it is not imported, nothing has raised its errors
    if isinstance(exc, PipelineError) or (celery is not None and isinstance(exc, celery.Reject)):
        record.exc_info = record.exc_text = None
        if isinstance(record.args, tuple):
            record.args = tuple(_Words(each) if each is exc else each for each in record.args)
    return True


class _Words(str):
    """A text whose ``repr`` is itself."""

    __slots__ = ()
    __repr__ = str.__str__


def _formatter(json_lines: bool) -> logging.Formatter:
    if json_lines:
        return _JsonFormatter(
            "{asctime}{levelname}{name}{process}{message}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            datefmt="%Y-%m-%dT%H:%M:%S%z",
        )
    return logging.Formatter("{asctime} {levelname:<7} {message}", style="{", datefmt="%H:%M:%S")


class _JsonFormatter(JsonFormatter):
    """Keeps only the searchable fields that Celery adds to lines about tasks; the message has the rest."""

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        celery = log_data.pop("data", None)
        if isinstance(celery, dict):
            log_data |= {"task": celery.get("name"), "task_id": celery.get("id")}
            if "runtime" in celery:
                log_data["runtime_s"] = round(celery["runtime"], 3)
        elif celery is not None:
            log_data["data"] = celery
        return log_data

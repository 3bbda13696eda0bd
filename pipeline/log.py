"""One log format: readable lines on a terminal, JSON lines in containers; ids and actions go into ``extra``."""

from __future__ import annotations

import logging
import sys

from pythonjsonlogger.json import JsonFormatter

#: Libraries whose INFO lines tell an operator nothing.
_QUIET = ("botocore", "boto3", "urllib3", "s3transfer", "PIL")


def setup(level: str | int = logging.INFO, *, json_lines: bool | None = None) -> None:
    """Sends all logs to standard error, once.

    ``json_lines`` None chooses by whether standard error is a terminal.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(not sys.stderr.isatty() if json_lines is None else json_lines))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    quiet()
    logging.captureWarnings(True)


def quiet() -> None:
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _formatter(json_lines: bool) -> logging.Formatter:
    if json_lines:
        return JsonFormatter(
            "{asctime}{levelname}{name}{process}{message}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            datefmt="%Y-%m-%dT%H:%M:%S%z",
        )
    return logging.Formatter("{asctime} {levelname:<7} {message}", style="{", datefmt="%H:%M:%S")

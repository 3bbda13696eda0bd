"""Log lines in containers: one JSON object each, with what is searched by, and nothing twice."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery.app.log import Logging
from celery.app.trace import LOG_SUCCESS

from pipeline.celery import make_app
from pipeline.core import log
from pipeline.core.errors import ConfigError
from pipeline.core.settings import Settings


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What has been logged to standard error."""
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    log.setup(json_lines=True)
    yield lambda: [json.loads(line) for line in stderr.getvalue().splitlines()]
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_about_a_task_has_its_id_and_time_once(lines: Callable[[], list[dict[str, Any]]]):
    data = {
        "id": "1-2-3",
        "name": "tasks.resize",
        "runtime": 0.123456,
        "return_value": "…",
        "args": "b/k",
        "kwargs": "{}",
    }
    logging.getLogger("celery.app.trace").info("Task %(name)s[%(id)s] succeeded", data, extra={"data": data})
    [found] = lines()
    assert found["message"] == "Task tasks.resize[1-2-3] succeeded"
    assert (found["task"], found["task_id"], found["runtime_s"]) == ("tasks.resize", "1-2-3", 0.123)
    assert not {"data", "return_value", "args"} & set(found)


def test_what_others_call_data_is_kept(lines: Callable[[], list[dict[str, Any]]]):
    logging.getLogger("mine").info("hello", extra={"data": [1, 2], "action": "done"})
    [found] = lines()
    assert (found["data"], found["action"]) == ([1, 2], "done")


def test_that_a_task_was_received_is_not_a_line(lines: Callable[[], list[dict[str, Any]]]):
    logging.getLogger("celery.worker.strategy").info("Task tasks.resize[1-2-3] received")
    logging.getLogger("celery.worker.strategy").warning("shown")
    assert [line["message"] for line in lines()] == ["shown"]


def test_an_error_raised_on_purpose_is_told_without_a_traceback(lines: Callable[[], list[dict[str, Any]]]):
    for exc in (ConfigError("queue q does not exist: deploy it"), KeyError("defect")):
        try:
            raise exc
        except (ConfigError, KeyError) as caught:
            logging.getLogger("celery.worker").critical("Unrecoverable error: %r", caught, exc_info=True)
    ours, other = lines()
    assert ours["message"] == "Unrecoverable error: queue q does not exist: deploy it"
    assert "exc_info" not in ours
    assert other["message"] == "Unrecoverable error: KeyError('defect')"
    assert "Traceback" in other["exc_info"]


@pytest.fixture
def trace(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """The logger of Celery's line about a task that succeeded; logging is set up once in a process."""
    monkeypatch.setattr(Logging, "already_setup", False)
    logger, root = logging.getLogger("celery.app.trace"), logging.getLogger()
    filters, handlers, level = list(logger.filters), list(root.handlers), root.level
    yield logger
    logger.filters[:], root.handlers[:] = filters, handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    for name in ("bridge", "pipeline", "tasks", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_a_task_that_logs_its_end_is_told_of_once_unless_each_step_is_wanted(
    level: str, trace: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    app = make_app(Settings.from_env({"LOG_LEVEL": level}))

    @app.task(name="mine", logs_its_end=True)
    def mine() -> None: ...

    @app.task(name="plain")
    def plain() -> None: ...

    app.log.setup_logging_subsystem(loglevel=logging.INFO)
    for name in ("mine", "plain", "unknown"):
        data = {"id": "1", "name": name, "runtime": 0.1, "return_value": "…"}
        trace.info(LOG_SUCCESS, data, extra={"data": data})
    logging.getLogger("tasks.making").debug("a step")
    lines = map(json.loads, capsys.readouterr().err.splitlines())
    told = [line.get("task", line["message"]) for line in lines]
    assert told == (["plain", "unknown"] if level == "INFO" else ["mine", "plain", "unknown", "a step"])

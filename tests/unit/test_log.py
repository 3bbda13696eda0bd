"""Log lines in containers: one JSON object each, with what is searched by, and nothing twice."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.core import log
from pipeline.core.errors import ConfigError


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

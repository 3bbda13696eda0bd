"""What events say of a task: short, readable, and with the facts that metrics count."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from celery.utils.saferepr import saferepr
from kombu.utils.json import dumps, loads

from pipeline.core.errors import ImageTooLarge, TransientError
from pipeline.core.task_result import FACTS, TaskResult
from pipeline.sqs.installation import ResultFacts
from pipeline.sqs.monitoring import task_result
from pipeline.sqs.monitoring.task_result import TEXT_LIMIT, TRACEBACK_LIMIT, reason_of
from tests.support.own_route import NoText

RESULT: dict[str, Any] = {
    "outcome": "done",
    "source": {"bucket": "in", "key": "a/b's \\ ümlaut.jpg", "etag": "e" * 32},
    "read": {"width": 4000, "height": 3000, "bytes": 2_345_678},
    "rendition": {"bucket": "out", "key": "resized/a/b's.jpg", "width": 1024, "height": 768, "bytes": 93_912},
}


def shape(event: dict[str, Any]) -> dict[str, Any]:
    """As the pipeline's workers do."""
    return task_result.shape(event, FACTS)


def succeeded(result: Any) -> dict[str, Any]:
    """The event as a worker sends it: with Celery's own representation of the result."""
    return {"type": "task-succeeded", "uuid": "1", "runtime": 0.5, "result": saferepr(result, 1024)}


def test_a_report_is_the_same_json_as_its_dict() -> None:
    assert loads(dumps(TaskResult(RESULT))) == RESULT
    assert TaskResult(RESULT) == RESULT


def test_a_success_is_one_short_line_and_its_numbers() -> None:
    event = shape(succeeded(TaskResult(RESULT)))
    assert event == {
        "type": "task-succeeded",
        "uuid": "1",
        "runtime": 0.5,
        "result": "→ 1024x768, 93.9 kB",
        "outcome": "done",
        "bytes_in": 2_345_678,
        "bytes_out": 93_912,
        "pixels_in": 12_000_000,
    }


def test_an_outcome_without_rendition_is_its_word() -> None:
    event = shape(succeeded(TaskResult({"outcome": "superseded", "source": RESULT["source"]})))
    assert (event["result"], event["outcome"]) == ("superseded", "superseded")
    assert "bytes_in" not in event


def test_a_duplicate_is_said_with_its_rendition_which_does_not_count_as_written() -> None:
    event = shape(succeeded(TaskResult(RESULT | {"outcome": "duplicate"})))
    assert event["result"] == "duplicate → 1024x768, 93.9 kB"
    assert "bytes_out" not in event
    assert event["bytes_in"] == 2_345_678


def test_a_rendition_of_unknown_size_is_not_described() -> None:
    rendition = RESULT["rendition"] | {"width": 0, "height": 0}
    event = shape(succeeded(TaskResult(RESULT | {"outcome": "duplicate", "rendition": rendition})))
    assert event["result"] == "duplicate"


@pytest.mark.parametrize("result", [None, 3, "text", ["a"], {"a": 1}, '{"outcome"', '{"outcome": }'])
def test_results_of_other_tasks_pass_unchanged(result: Any) -> None:
    event = shape(succeeded(result))
    assert event["outcome"] == "done"
    assert event["result"] == saferepr(result, 1024)


def test_a_failure_has_its_reason_and_says_it() -> None:
    event = shape({"type": "task-failed", "uuid": "1", "exception": repr(ImageTooLarge("The image has 9 pixels."))})
    assert (event["outcome"], event["reason"]) == ("failed", "too-large")
    assert event["result"] == "too-large: The image has 9 pixels."


def test_a_retry_says_when_it_is_due_and_why() -> None:
    retried = {"type": "task-retried", "uuid": "1", "exception": repr(TransientError("S3 answered 503"))}
    due = datetime.now(UTC).replace(microsecond=0)
    event = shape(retried | {"eta": due.isoformat()})
    assert (event["outcome"], event["reason"]) == ("retried", "unavailable")
    assert event["result"].endswith("after unavailable: S3 answered 503")
    assert f"{due:%H:%M:%S UTC}" in event["result"]
    assert shape(retried | {"eta": "2031-02-03T04:05:06+02:00"})["result"].startswith(
        "again at 2031-02-03 02:05:06 UTC"
    )
    assert shape(retried)["result"] == "unavailable: S3 answered 503"


@pytest.mark.parametrize(
    ("exception", "reason"),
    [
        (repr(TransientError("503")), "unavailable"),
        ("KeyError('x')", "internal-error"),
        ("Path('x')", "internal-error"),
        ("annotations", "internal-error"),
        ("", "internal-error"),
    ],
)
def test_reasons_are_few_and_fixed(exception: str, reason: str) -> None:
    assert reason_of(exception) == reason


def test_texts_are_bounded_and_a_traceback_keeps_its_end() -> None:
    event = shape(
        {"type": "task-failed", "uuid": "1", "args": "a" * 999, "exception": "E" * 999, "traceback": "x" * 9999 + "end"}
    )
    assert len(event["args"]) == len(event["exception"]) == TEXT_LIMIT
    assert len(event["result"]) <= TEXT_LIMIT + len("internal-error: ")
    assert len(event["traceback"]) == TRACEBACK_LIMIT
    assert event["traceback"].endswith("end")


def test_what_a_worker_logs_of_a_result_has_no_payload() -> None:
    assert set(json.loads(repr(TaskResult(RESULT)))) == {
        "outcome",
        "width",
        "height",
        "bytes_in",
        "bytes_out",
        "pixels_in",
    }


def test_what_a_task_of_a_user_s_own_made_is_told_without_pixels() -> None:
    result = {"outcome": "done", "read": {"bytes": 7}, "rendition": {"bytes": 1200}}
    shaped = shape({"type": "task-succeeded", "uuid": "1", "result": repr(TaskResult(result))})
    assert shaped["result"] == "→ 1.2 kB"
    assert (shaped["bytes_in"], shaped["bytes_out"]) == (7, 1200)


def test_the_reason_of_an_error_of_a_user_s_own_is_its_own() -> None:
    assert reason_of(repr(NoText("It has a NUL."))) == "no-text"
    assert reason_of("Nobodys('x')") == "internal-error"


def test_an_app_that_says_nothing_of_its_results_has_their_outcomes() -> None:
    event = task_result.shape(succeeded(TaskResult(RESULT)), ResultFacts())
    assert (event["outcome"], event["result"]) == ("done", "done")
    assert "bytes_in" not in event

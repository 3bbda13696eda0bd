"""Reduces the events of tasks to what people and metrics need: short, bounded, without payloads."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from pipeline.aws.plain_errors import PlainError
from pipeline.sqs.installation import ResultFacts

#: Characters kept of the texts in an event. A traceback's end says more than its beginning.
TEXT_LIMIT = 300
TRACEBACK_LIMIT = 4000

#: Events that end a task, or one try of it, and the outcome that each means.
#: ``task-succeeded`` carries an outcome of its own: ``done``, ``superseded`` …
OUTCOMES = {
    "task-succeeded": "done",
    "task-failed": "failed",
    "task-retried": "retried",
    "task-revoked": "revoked",
    "task-rejected": "rejected",
}


def shape(event: dict[str, Any], results: ResultFacts) -> dict[str, Any]:
    """Returns the event with short texts, and with its facts as fields of their own."""
    shaped = {name: _short(value) if isinstance(value, str) else value for name, value in event.items()}
    if isinstance(event.get("traceback"), str):
        shaped["traceback"] = event["traceback"][-TRACEBACK_LIMIT:]
    outcome = OUTCOMES.get(event["type"])
    if outcome is not None:
        shaped["outcome"] = outcome
    if event["type"] == "task-succeeded":
        known = _parsed(event.get("result"))
        if known is not None:
            shaped |= results.describe(known)
    elif event["type"] in ("task-failed", "task-retried"):
        exception = str(event.get("exception", ""))
        shaped["reason"] = reason_of(exception)
        shaped["result"] = f"{shaped['reason']}: {_message(exception)}"
        if event.get("eta"):
            shaped["result"] = f"again at {_clock(event['eta'])}, after {shaped['result']}"
    return shaped


def _clock(eta: str) -> str:
    """``21:03:04 UTC`` of a time in ISO 8601; with the date where it is another day's."""
    when = datetime.fromisoformat(eta).astimezone(UTC)
    return f"{when:%H:%M:%S UTC}" if when.date() == datetime.now(UTC).date() else f"{when:%Y-%m-%d %H:%M:%S UTC}"


def reason_of(exception: str) -> str:
    """Returns the reason of an exception, given its ``repr``: the same word as in a failure record."""
    name = re.match(r"\w*", exception)
    return _reasons(PlainError).get("" if name is None else name[0], "internal-error")


def _reasons(kind: type[PlainError]) -> dict[str, str]:
    """The reason of an error and of all that are derived from it, also in modules of a user's own, by name."""
    found = {kind.__name__: kind.reason}
    for each in kind.__subclasses__():
        found |= _reasons(each)
    return found


def _parsed(result: Any) -> dict[str, Any] | None:
    if not isinstance(result, str) or not result.startswith('{"outcome"'):
        return None
    try:
        known = json.loads(result)
    except ValueError:
        return None
    return known if isinstance(known, dict) else None


def _message(exception: str) -> str:
    """What is between the quotes of ``TruncatedImage('The JPEG data is …')``."""
    found = re.fullmatch(r"\w+\((['\"])(.*)\1\)", exception, re.DOTALL)
    return _short(exception if found is None else found[2])


def _short(text: str) -> str:
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"

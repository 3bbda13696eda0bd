"""Reduces the events of tasks to what people and metrics need: short texts, no payloads."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from pipeline.aws.plain_errors import PlainError
from pipeline.sqs.installation import ResultFacts

#: Maximum characters of a text, and of a traceback, in an event. A traceback keeps its end, which says more.
TEXT_LIMIT = 300
TRACEBACK_LIMIT = 4000

#: Events that end a task, or one try of it, with the outcome of each.
#: ``task-succeeded`` has an outcome of its own: ``done``, ``superseded`` …
OUTCOMES = {
    "task-succeeded": "done",
    "task-failed": "failed",
    "task-retried": "retried",
    "task-revoked": "revoked",
    "task-rejected": "rejected",
}


def shape(event: dict[str, Any], results: ResultFacts) -> dict[str, Any]:
    """Returns the event with shortened texts, and with the facts of its result as separate fields."""
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
    """Formats a time in ISO 8601 as ``21:03:04 UTC``; with the date if it is not today."""
    when = datetime.fromisoformat(eta).astimezone(UTC)
    return f"{when:%H:%M:%S UTC}" if when.date() == datetime.now(UTC).date() else f"{when:%Y-%m-%d %H:%M:%S UTC}"


def reason_of(exception: str) -> str:
    """Returns the reason of an exception, given its ``repr``: the same word as in a failure record."""
    name = re.match(r"\w*", exception)
    return _reasons(PlainError).get("" if name is None else name[0], "internal-error")


def _reasons(kind: type[PlainError]) -> dict[str, str]:
    """The reasons of an error class and of all classes derived from it, a user's own too, by class name."""
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
    """The text between the quotes of ``TruncatedImage('The JPEG data is …')``."""
    found = re.fullmatch(r"\w+\((['\"])(.*)\1\)", exception, re.DOTALL)
    return _short(exception if found is None else found[2])


def _short(text: str) -> str:
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"

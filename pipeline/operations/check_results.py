"""Results of checks, with what to do, as ``doctor`` and ``check`` print them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

import click

from pipeline.core import console

#: Maximum characters of a result's text.
_LONGEST = 300


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"  # works, but not as well as it could
    BAD = "bad"
    UNKNOWN = "unknown"  # could not be checked


@dataclass(frozen=True, slots=True)
class CheckResult:
    """``said``: what was found; ``todo``: if it isn't ok, what it means and what to do."""

    level: Level
    what: str
    said: str
    todo: str = ""


def ok(what: str, said: str) -> CheckResult:
    return CheckResult(Level.OK, what, said)


def warning(what: str, said: str, todo: str) -> CheckResult:
    return CheckResult(Level.WARNING, what, said, todo)


def bad(what: str, said: str, todo: str) -> CheckResult:
    return CheckResult(Level.BAD, what, said, todo)


def unknown(what: str, said: str, todo: str = "") -> CheckResult:
    return CheckResult(Level.UNKNOWN, what, said, todo)


def lines(results: Iterable[CheckResult]) -> Iterable[str]:
    """One line for each result, and a second one if something needs to be done."""
    for result in results:
        yield f"{result.level.value:<8} {result.what}: {_one_line(result.said)}"
        if result.todo:
            yield f"{'':<8} → {result.todo}"


def _one_line(text: str) -> str:
    """Shortens the text: a server may answer with a whole page."""
    words = " ".join(text.split())
    return words if len(words) <= _LONGEST else words[:_LONGEST] + " …"


def show(results: Sequence[CheckResult], *, as_json: bool = False) -> int:
    """Prints them; returns the exit status: 0 nothing is bad, 1 something is, 2 nothing could be checked."""
    if as_json:
        click.echo(json.dumps([asdict(result) for result in results], indent=2, ensure_ascii=False))
    else:
        for line in lines(results):
            click.echo(line)
        count = sum(result.level is Level.BAD for result in results)
        left = sum(result.level is Level.UNKNOWN for result in results)
        click.echo(
            f"{console.pluralize(len(results), 'check')}: "
            + ("nothing is wrong" if not count else f"{console.pluralize(count, 'thing')} to be corrected")
            + (f"; {left} could not be checked" if left else "")
            + "."
        )
    return status(results)


def status(results: Sequence[CheckResult]) -> int:
    """The exit status of the command."""
    if any(result.level is Level.BAD for result in results):
        return 1
    return 2 if results and all(result.level is Level.UNKNOWN for result in results) else 0

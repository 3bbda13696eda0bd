"""What a check found: a verdict with what it means and what to do, as ``doctor`` and ``check`` print it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

import click

from pipeline.core import console

#: Characters of a finding.
_LONGEST = 300


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"  # works, but not as it could
    BAD = "bad"
    UNKNOWN = "unknown"  # could not be asked


@dataclass(frozen=True, slots=True)
class Verdict:
    """``said``: what was found; ``todo``: what it means where it isn't ok, and what to do."""

    level: Level
    what: str
    said: str
    todo: str = ""


def ok(what: str, said: str) -> Verdict:
    return Verdict(Level.OK, what, said)


def warning(what: str, said: str, todo: str) -> Verdict:
    return Verdict(Level.WARNING, what, said, todo)


def bad(what: str, said: str, todo: str) -> Verdict:
    return Verdict(Level.BAD, what, said, todo)


def unknown(what: str, said: str, todo: str = "") -> Verdict:
    return Verdict(Level.UNKNOWN, what, said, todo)


def lines(verdicts: Iterable[Verdict]) -> Iterable[str]:
    """Two lines each where something is to be done."""
    for verdict in verdicts:
        yield f"{verdict.level.value:<8} {verdict.what}: {_one_line(verdict.said)}"
        if verdict.todo:
            yield f"{'':<8} → {verdict.todo}"


def _one_line(text: str) -> str:
    """What a server answers may be a page."""
    words = " ".join(text.split())
    return words if len(words) <= _LONGEST else words[:_LONGEST] + " …"


def show(verdicts: Sequence[Verdict], *, as_json: bool = False) -> int:
    """Prints them; returns the exit status: 0 nothing is bad, 1 something is, 2 all that matters could not be asked."""
    if as_json:
        click.echo(json.dumps([asdict(verdict) for verdict in verdicts], indent=2, ensure_ascii=False))
    else:
        for line in lines(verdicts):
            click.echo(line)
        count = sum(verdict.level is Level.BAD for verdict in verdicts)
        left = sum(verdict.level is Level.UNKNOWN for verdict in verdicts)
        click.echo(
            f"{console.counted(len(verdicts), 'check')}: "
            + ("nothing is wrong" if not count else f"{console.counted(count, 'thing')} to be corrected")
            + (f"; {left} could not be asked" if left else "")
            + "."
        )
    return status(verdicts)


def status(verdicts: Sequence[Verdict]) -> int:
    """Of the command that printed them."""
    if any(verdict.level is Level.BAD for verdict in verdicts):
        return 1
    return 2 if verdicts and all(verdict.level is Level.UNKNOWN for verdict in verdicts) else 0

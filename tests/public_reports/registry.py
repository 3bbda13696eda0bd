"""The public reports, each with the test that tries it; the table of docs/celery-on-sqs.md is made from them.

``python -m tests.public_reports`` renews the table.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.support.marked import renewed

PAGE = Path(__file__).parents[2] / "docs" / "celery-on-sqs.md"
BEGINS, ENDS = "<!-- public reports: python -m tests.public_reports -->\n", "<!-- end of public reports -->\n"

Test = TypeVar("Test", bound=Callable[..., None])


@dataclass(frozen=True)
class Report:
    numbers: str  # project and number, one or several
    situation: str
    ours: str
    stock: str  # what the test has seen of stock kombu or Celery; empty: it runs only ours

    @property
    def row(self) -> str:
        return f"| {self.numbers} | {self.situation} | {self.ours} | {self.stock or 'as reported'} |"


REPORTS: list[Report] = []


def report(numbers: str, situation: str, ours: str, stock: str = "") -> Callable[[Test], Test]:
    REPORTS.append(Report(numbers, situation, ours, stock))
    return lambda test: test


def _by_number(each: Report) -> list[str | int]:
    """By project, then number; in whatever order the modules were imported."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", each.numbers)]


def table() -> str:
    rows = [
        "| report | situation | here | stock |",
        "|---|---|---|---|",
        *(each.row for each in sorted(REPORTS, key=_by_number)),
    ]
    return "\n".join(rows) + "\n"


def with_table(page: str) -> str:
    return renewed(page, BEGINS, ENDS, table())

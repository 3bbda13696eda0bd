"""Writes the measured rows of the README's comparison from the results: ``python -m benchmarks.readme``."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import median

from benchmarks import dollars, record
from benchmarks.report import TWELVE

PAGE = Path(__file__).parents[1] / "README.md"
#: The columns: the systems' names in the results. The last system was not run, only its price is computed.
RUN = ("ours_simd", "sample_loop", "stock_celery")
PRICED = "Lambda with our image code, as shipped"
CPU = "CPU of a 12 MP photo"
DOLLARS = "dollars a million of them"


def rows() -> dict[str, str]:
    """The two rows, by the text in their first cell."""
    found = record.load("end_to_end")
    cpu = [f"{median(found['photos'][TWELVE][name]['cpu_s']) * 1000:.0f} ms" for name in RUN]
    prices = record.load("dollars")["per_million"]
    priced = [(found["titles"][name], "Fargate x86") for name in RUN] + [(PRICED, "Lambda x86")]
    return {
        CPU: _row(f"[{CPU}](docs/performance.md)", [*cpu, "not measured"]),
        DOLLARS: _row(
            f"[{DOLLARS}](docs/performance.md#dollars)",
            [f"{dollars.total(prices[title], computing):.2f}" for title, computing in priced],
        ),
    }


def _row(title: str, cells: list[str]) -> str:
    return f"| {' | '.join([title, *cells])} |"


def renewed(page: str) -> str:
    """The page with new measured rows. Raises ``ValueError`` if it has none."""
    for title, row in rows().items():
        page, count = re.subn(rf"^\| \[{title}\].*$", row.replace("\\", r"\\"), page, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"the page has {count} rows '{title}', not one")
    return page


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))

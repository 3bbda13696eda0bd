"""The contact sheet: one HTML page beside the renditions, for a browser to open from disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader
from rich.filesize import decimal

from pipeline.local.results import FileResult, FileState

NAME = "index.html"


@dataclass(frozen=True, slots=True)
class Totals:
    """Files by state; bytes of the processed originals and of their renditions."""

    done: int
    failed: int
    skipped: int
    bytes_in: int
    bytes_out: int

    @property
    def all(self) -> int:
        return self.done + self.failed + self.skipped


def totals(results: Sequence[FileResult]) -> Totals:
    count = {state: sum(result.state is state for result in results) for state in FileState}
    return Totals(
        done=count[FileState.DONE],
        failed=count[FileState.FAILED],
        skipped=count[FileState.SKIPPED],
        bytes_in=sum(result.source_bytes for result in results),
        bytes_out=sum(output.bytes for result in results for output in result.outputs),
    )


def write(out: Path, results: Sequence[FileResult], *, seconds: float) -> Path:
    """Writes ``index.html`` into the folder of the renditions; returns its path. Raises ``OSError``."""
    environment = Environment(loader=PackageLoader("pipeline.local", "."), autoescape=True, trim_blocks=True)
    environment.filters |= {"size": decimal, "path": quote}
    ordered = sorted(results, key=lambda result: result.key)
    by_state = {state.value: [result for result in ordered if result.state is state] for state in FileState}
    page = environment.get_template("sheet.html.j2").render(totals=totals(results), seconds=seconds, **by_state)
    path = out / NAME
    path.write_text(page, encoding="utf-8")
    return path

"""The contact sheet: one HTML page beside the renditions, for a browser to open from disk."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader
from rich.filesize import decimal

from pipeline.local.entries import beside, entry
from pipeline.local.results import FileResult, FileState

NAME = "index.html"
#: The parts of the page's script, in order; the second group only for the live page.
SCRIPTS, LIVE_SCRIPTS = ("page.js", "list.js", "view.js", "keys.js"), ("live.js", "trial.js")


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


def write(
    out: Path, results: Sequence[FileResult], *, seconds: float, originals: Mapping[str, Path] | None = None
) -> Path:
    """Writes ``index.html`` into the folder of the renditions; returns its path. Raises ``OSError``.

    ``originals``: where the files are, by key, to show them beside their renditions.
    """
    original = beside(out, {} if originals is None else originals)
    ordered = sorted(results, key=lambda result: result.key)
    path = out / NAME
    # Replaced atomically: a browser may read it while the run writes it, and another run may write the same.
    new = path.with_name(f".{NAME}.{os.getpid()}.new")
    new.write_text(
        _page(ordered, {"entries": [entry(result, original) for result in ordered]}, seconds=seconds),
        encoding="utf-8",
    )
    new.replace(path)
    return path


def live_page() -> str:
    """The live page, which fetches the results itself."""
    return _page([], {"live": True, "entries": []}, seconds=0)


def _page(results: Sequence[FileResult], data: Mapping[str, Any], *, seconds: float) -> str:
    environment = Environment(
        loader=PackageLoader("pipeline.local", "page"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"size": decimal, "path": quote}
    is_live = "live" in data
    style = _text("sheet.css")
    script = "\n".join(_text(name) for name in (*SCRIPTS, *(LIVE_SCRIPTS if is_live else ())))
    return environment.get_template("sheet.html.j2").render(
        totals=totals(results),
        seconds=seconds,
        data=data,
        is_live=is_live,
        style=style,
        script=script,
        policy=_policy(style, script, is_live=is_live),
        **{state.value: [result for result in results if result.state is state] for state in FileState},
    )


def _policy(style: str, script: str, *, is_live: bool) -> str:
    """The Content-Security-Policy: only this page's own style and script, and pictures beside it."""
    rules = [
        "default-src 'none'",
        "img-src 'self'" if is_live else "img-src 'self' file:",
        f"style-src '{_digest(style)}'",
        f"script-src '{_digest(script)}'",
        "base-uri 'none'",
        "form-action 'none'",
        *(["connect-src 'self'"] if is_live else []),
    ]
    return "; ".join(rules)


def _digest(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _text(name: str) -> str:
    return files("pipeline.local").joinpath("page", name).read_text(encoding="utf-8")

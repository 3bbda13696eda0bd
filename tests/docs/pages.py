"""The project's pages, read as a browser of the repository shows them: code, links, headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.stack.template import load

ROOT = Path(__file__).parents[2]
#: Pages whose commands and snippets are run.
PAGES = tuple(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(ROOT.glob("docs/*.md")))
)
#: Folders that have pages.
FOLDERS = ("docs", "benchmarks/results", "cloudformation", "examples", "samples")


def all_pages() -> list[str]:
    """Every Markdown file of the repository, those of other folders too."""
    found = [*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in ROOT.glob(f"{folder}/**/*.md"))]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


@dataclass(frozen=True)
class Code:
    """A fenced block, or a span between backticks (then ``language`` is None)."""

    page: str
    line: int  # of the page, from 1
    language: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Link:
    page: str
    line: int
    target: str


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@cache
def template() -> dict[str, Any]:
    """cloudformation/batch.yaml, which takes a second to be read; not to be changed."""
    return load()


@cache
def _tokens(page: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text_of(page))


def blocks(page: str) -> list[Code]:
    return [
        Code(page, token.map[0] + 1, token.info.strip(), token.content)
        for token in _tokens(page)
        if token.type in ("fence", "code_block") and token.map is not None
    ]


def spans(page: str) -> list[Code]:
    return [Code(page, line, None, token.content) for line, token in _inline(page) if token.type == "code_inline"]


def links(page: str) -> list[Link]:
    """Of links and pictures."""
    found = []
    for line, token in _inline(page):
        target = token.attrGet({"link_open": "href", "image": "src"}.get(token.type, ""))
        if target is not None:
            found.append(Link(page, line, str(target)))
    return found


def anchors(page: str) -> set[str]:
    """What a link to a heading of the page may end in, as git hosts name it."""
    tokens = _tokens(page)
    found: set[str] = set()
    for token, after in pairwise(tokens):
        if token.type == "heading_open":
            shown = "".join(child.content for child in after.children or ())
            found.add(re.sub(r"[^\w\- ]", "", shown.lower()).strip().replace(" ", "-"))
    return found


def tables(page: str) -> list[list[list[str]]]:
    """Of each table its rows, of each row its cells, as written."""
    found: list[list[list[str]]] = []
    for token in _tokens(page):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and found and token.level >= 3 and found[-1]:
            found[-1][-1].append(token.content)
    return found


def _inline(page: str) -> Iterator[tuple[int, Token]]:
    line = 1
    for token in _tokens(page):
        line = line if token.map is None else token.map[0] + 1
        at = line
        for child in token.children or ():
            yield at, child
            at += child.type in ("softbreak", "hardbreak")

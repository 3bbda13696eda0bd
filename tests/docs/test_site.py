"""The site builds, finds every page, and leads nowhere that does not exist; pages made from the code are up to date."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from bridge.disposition import EventOutcome
from pipeline.sqs.settled import Effect
from tasks.outcome import Outcome
from tests.docs import reference, site
from tests.docs.pages import ROOT, all_pages, tables, text_of


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "out"
    site.build(out)
    return out


class Page(HTMLParser):
    """The links of a page of the site, and what links to it may end in."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.links.append(value)
            elif name == "id" and value is not None:
                self.anchors.add(value)


def test_every_link_of_the_site_leads_somewhere(built: Path) -> None:
    pages = {path: Page(path) for path in built.rglob("*.html") if path.name != "404.html"}
    assert len(pages) >= len(all_pages())
    wrong = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if parts.scheme:
                continue
            to = to / "index.html" if to.is_dir() else to
            if not to.is_relative_to(built) or not to.is_file():
                wrong.append(f"{path.relative_to(built)}: there is no {link}")
            elif parts.fragment and to in pages and unquote(parts.fragment) not in pages[to].anchors:
                wrong.append(f"{path.relative_to(built)}: {link} has no such heading")
    assert not wrong


def test_the_site_loads_nothing_from_elsewhere(built: Path) -> None:
    loaded = [
        match[0]
        for path in built.rglob("*.html")
        for match in re.finditer(
            r'<(script|img|link rel="stylesheet")[^>]* (src|href)="(https?:)?//[^"]*"', path.read_text()
        )
    ]
    assert not loaded


def test_search_finds_every_page(built: Path) -> None:
    found = {item["location"].partition("#")[0] for item in json.loads((built / "search.json").read_text())["items"]}
    # A README is its folder's index.
    names = {str(Path(page).with_suffix(".html")).replace("README.html", "index.html") for page in all_pages()}
    assert {name.removesuffix("index.html") for name in names} <= {name.removesuffix("index.html") for name in found}


def test_the_navigation_has_every_page_of_the_documentation() -> None:
    wanted = {page for page in all_pages() if page.startswith("docs/") or "/" not in page}
    assert site.listed() == wanted


@pytest.mark.parametrize("page", reference.PAGES)
def test_a_page_that_is_made_from_the_code_is_as_the_code_is(page: str) -> None:
    text = text_of(f"docs/{page}.md")
    assert reference.renewed(page, text) == text, "run `make reference`"


def test_a_page_without_a_place_for_what_is_made_is_an_error() -> None:
    with pytest.raises(ValueError, match="no place"):
        reference.renewed("settings", "# Settings\n")


def test_the_page_of_failure_reasons_has_all_of_them() -> None:
    listed = {
        cell
        for table in tables("docs/failure-reasons.md")
        for row in table[1:]
        for cell in re.findall("`(.*?)`", row[0])
    }
    schema = json.loads((ROOT / "docs/failure-record.schema.json").read_text())
    # `permanent` is the base class's: what a task of one's own raises without a reason.
    assert listed == set(schema["properties"]["reason"]["enum"]) - {"permanent"}


def test_the_page_of_log_lines_has_every_action() -> None:
    listed = {
        name for table in tables("docs/log-lines.md") for row in table[1:] for name in re.findall("`(.*?)`", row[0])
    }
    assert listed == _actions()


def _actions() -> set[str]:
    """Of all log calls, what their ``action`` may be."""
    # A message that is deleted is not told of.
    found = {outcome.value for outcome in (*EventOutcome, *Outcome, *Effect)} - {Effect.DELETE.value}
    for folder in ("pipeline", "bridge", "tasks"):
        for path in (ROOT / folder).rglob("*.py"):
            found.update(_literal_actions(ast.parse(path.read_text(encoding="utf-8"))))
    return found


def _literal_actions(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        values: list[ast.expr] = []
        if isinstance(node, ast.Dict):
            values = [
                value
                for key, value in zip(node.keys, node.values, strict=True)
                if isinstance(key, ast.Constant) and key.value == "action"
            ]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("_extra") and node.args:
            values = node.args[:1]
        for value in values:
            for part in [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]:
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value

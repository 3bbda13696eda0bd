"""Every link and picture leads somewhere, and every heading that is linked to exists."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.pages import ROOT, all_pages, anchors, links


@pytest.mark.parametrize("page", all_pages())
def test_links_of_a_page(page: str) -> None:
    folder = (ROOT / page).parent
    wrong = []
    for link in links(page):
        parts = urlsplit(link.target)
        if parts.scheme:
            assert parts.scheme in ("https", "http"), f"{page}:{link.line}: {link.target}"
            continue
        path = (folder / unquote(parts.path)).resolve() if parts.path else ROOT / page
        if not path.exists() or not path.is_relative_to(ROOT):
            wrong.append(f"{page}:{link.line}: there is no {link.target}")
        elif parts.fragment and parts.fragment not in anchors(path.relative_to(ROOT).as_posix()):
            wrong.append(f"{page}:{link.line}: no heading of {path.name} makes #{parts.fragment}")
    assert not wrong


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[str] = set()
    todo = ["README.md"]
    while todo:
        page = todo.pop()
        if page in seen:
            continue
        seen.add(page)
        for link in links(page):
            path = ((ROOT / page).parent / urlsplit(link.target).path).resolve()
            if path.suffix == ".md" and path.is_file():
                todo.append(path.relative_to(ROOT).as_posix())
    assert set(all_pages()) - seen <= {"CHANGELOG.md"} | {
        page for page in all_pages() if page.startswith("CHANGELOG.d")
    }


def test_every_picture_is_shown_somewhere() -> None:
    shown = {
        ((ROOT / page).parent / unquote(link.target)).resolve().relative_to(ROOT).as_posix()
        for page in all_pages()
        for link in links(page)
        if not urlsplit(link.target).scheme
    }
    pictures = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/images/*")}
    assert not pictures - shown

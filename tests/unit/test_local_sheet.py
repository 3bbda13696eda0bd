"""What the contact sheet says of a file beside its pictures."""

from __future__ import annotations

import base64
import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipeline.local import sheet
from pipeline.local.results import FileResult, FileState, OutputFile


def test_a_salvaged_picture_is_marked_and_a_whole_one_is_not(tmp_path: Path) -> None:
    picture = OutputFile("thumbs/a.jpg", "thumbs", 10, "image/jpeg", (200, 150))
    wrong = "the checksum of the chunk <tEXt> is wrong"
    salvaged = FileResult("a.jpg", FileState.DONE, salvaged=wrong, outputs=(picture,))
    whole = FileResult("b.jpg", FileState.DONE, outputs=(picture,))
    page = sheet.write(tmp_path, [whole, salvaged], seconds=1).read_text(encoding="utf-8")
    assert page.count("salvaged: ") == 1
    assert "salvaged: the checksum of the chunk &lt;tEXt&gt; is wrong" in page
    assert page.index("a.jpg") < page.index("salvaged: ") < page.index("b.jpg")


HOSTILE = "</script></noscript><img src=x onerror=alert(1)> &\"' ü.jpg"


class Page(HTMLParser):
    """The elements of a page, each with its attributes and, of styles and scripts, its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] in ("style", "script") and data.strip():
            self.texts.append((*self.elements[-1], data))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def page(tmp_path: Path) -> Page:
    """Of one done file with a hostile name, one that failed and one that was skipped."""
    outputs = (
        OutputFile("resized/a%20b?.jpg", "resized", 1200, "image/jpeg", (1024, 768)),
        OutputFile("thumbs/a%20b?.jpg", "thumbs", 300, "image/jpeg", (192, 144)),
        OutputFile("pages/a.pdf", "pages", 9000, "application/pdf"),
    )
    done = FileResult(HOSTILE, FileState.DONE, source_size="4000x3000", source_bytes=5000, outputs=outputs)
    failed = FileResult("b.TIF", FileState.FAILED, reason=HOSTILE, advice="upload it again")
    skipped = FileResult("README", FileState.SKIPPED, reason="its key ends in none of SUFFIXES")
    originals = {HOSTILE: tmp_path / "photos" / "ü #1.jpg"}
    path = sheet.write(tmp_path / "", [skipped, failed, done], seconds=1, originals=originals)
    return Page(path.read_text(encoding="utf-8"))


def entries(page: Page) -> dict[str, dict[str, Any]]:
    ((_, _, text),) = [each for each in page.texts if each[1].get("type") == "application/json"]
    return {entry["key"]: entry for entry in json.loads(text)["entries"]}


def test_the_script_is_told_what_it_compares(page: Page) -> None:
    found = entries(page)
    assert list(found) == sorted((HOSTILE, "b.TIF", "README"))
    done = found[HOSTILE]
    assert (done["state"], done["format"], done["size"], done["bytes"]) == ("done", "JPEG", "4000x3000", 5000)
    assert (done["saved"], done["largest"], done["preview"]) == (3800, 0, 1)
    assert done["original"] == "photos/%C3%BC%20%231.jpg"
    assert done["outputs"][0]["href"] == "resized/a%2520b%3F.jpg"
    assert [output["picture"] for output in done["outputs"]] == [True, True, False]
    failed = found["b.TIF"]
    assert (failed["format"], failed["reason"], failed["advice"]) == ("TIFF", HOSTILE, "upload it again")
    assert (failed["original"], failed["saved"], failed["bytes"]) == (None, None, None)
    assert found["README"]["format"] == ""


def test_no_name_becomes_an_element(page: Page) -> None:
    assert all(attributes.get("src") != "x" for attributes in page.of("img"))
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert len(page.of("script")) == 2


def test_the_policy_allows_only_the_pages_own_script_and_style(page: Page) -> None:
    (policy,) = (each["content"] for each in page.of("meta") if each.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in str(policy).split("; "))
    assert rules["default-src"] == "'none'"
    (style,) = (text for tag, _, text in page.texts if tag == "style")
    (script,) = (text for tag, attributes, text in page.texts if tag == "script" and not attributes)
    for rule, text in (("style-src", style), ("script-src", script)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert not any("style" in attributes for _, attributes in page.elements)  # the policy would ignore it


def test_the_page_needs_nothing_from_outside(page: Page) -> None:
    links = [attributes.get(name) for _, attributes in page.elements for name in ("src", "href")]
    assert all(link is None or (":" not in link and not link.startswith("/")) for link in links)


def test_every_field_has_a_name_and_the_language_is_said(page: Page) -> None:
    assert page.of("html") == [{"lang": "en"}]
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    order = [tag for tag, _ in page.elements]
    for place, (tag, attributes) in enumerate(page.elements):
        if tag in ("select", "input"):
            assert "aria-label" in attributes or order[place - 1] == "label", attributes

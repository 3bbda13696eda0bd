"""The contact sheet in a real browser, from disk and of a run that goes on: ``make browser``."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.local import sheet
from pipeline.local.results import FileResult, FileState, OutputFile
from tests.support.browser import accessibility_violations, chromium
from tests.support.live_page import KEY, LivePage, live_page
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser

MANY = 3000
HOSTILE = "</script><img src=x onerror=document.title='owned'>&amp;\"'.jpg"


@dataclass
class Page:
    browser: Any
    folder: Path

    def open(self, results: list[FileResult], originals: dict[str, Path] | None = None) -> None:
        path = sheet.write(self.folder, results, seconds=1, originals=originals)
        self.browser.get("about:blank")
        self.browser.get(path.as_uri())

    def ask(self, script: str, *arguments: object) -> Any:
        return self.browser.execute_script(script, *arguments)

    def names(self) -> list[str]:
        found: list[str] = self.ask("return [...document.querySelectorAll('#sheet .name')].map(each => each.innerText)")
        return found

    def choose(self, field: str, value: str) -> None:
        script = "const field = document.getElementById(arguments[0]); field.value = arguments[1];"
        self.ask(f"{script} field.dispatchEvent(new Event(arguments[2], {{bubbles: true}}))", field, value, "change")

    def click(self, field: str) -> None:
        self.ask("document.getElementById(arguments[0]).click()", field)

    def press(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.browser).send_keys(key).perform()

    def focused(self) -> str:
        return str(self.ask("return document.activeElement.dataset.key ?? document.activeElement.id"))

    def look(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """As on a screen of this size, with this theme."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        theme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": theme})


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("sheet")
    with chromium(folder / "profile") as browser:
        yield Page(browser, folder)


def picture(folder: Path, name: str, size: tuple[int, int], colour: tuple[int, int, int]) -> OutputFile:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "JPEG")
    path.write_bytes(out.getvalue())
    return OutputFile(name, name.partition("/")[0], len(out.getvalue()), "image/jpeg", size)


@pytest.fixture(scope="module")
def few(page: Page) -> tuple[list[FileResult], dict[str, Path]]:
    """Three photos of different sizes and savings, one salvaged and with a hostile name; one failed, one skipped."""
    results, originals = [], {}
    sizes = {"a 10.jpg": 5000, "a 9.tiff": 90_000, HOSTILE: 20_000}
    for number, (key, source_bytes) in enumerate(sizes.items()):
        outputs = (
            picture(page.folder, f"resized/{number}.jpg", (640, 480), (200, 40 * number, 60)),
            picture(page.folder, f"thumbs/{number}.jpg", (192, 144), (200, 40 * number, 60)),
        )
        salvaged = "a wrong checksum" if key == HOSTILE else ""
        results.append(
            FileResult(key, FileState.DONE, "", "", "1280x960", source_bytes, salvaged=salvaged, outputs=outputs)
        )
        original = page.folder / f"original {number}.jpg"
        original.write_bytes((page.folder / outputs[0].path).read_bytes())
        originals[key] = original
    results.append(FileResult("z.jpg", FileState.FAILED, "the end is missing", "upload it again"))
    results.append(FileResult("b.txt", FileState.SKIPPED, "its key ends in none of SUFFIXES"))
    return results, originals


@pytest.fixture
def opened(page: Page, few: tuple[list[FileResult], dict[str, Path]]) -> Page:
    page.look()
    page.open(*few)
    return page


def test_the_list_is_sorted_filtered_and_searched(opened: Page) -> None:
    assert opened.names() == ["z.jpg", HOSTILE, "a 9.tiff", "a 10.jpg", "b.txt"]
    opened.choose("sort", "name")
    assert opened.names() == [HOSTILE, "a 9.tiff", "a 10.jpg", "b.txt", "z.jpg"]
    for order in ("saving", "size"):
        opened.choose("sort", order)
        assert opened.names()[:3] == ["a 9.tiff", HOSTILE, "a 10.jpg"]
    for state, names in (
        ("done", {"a 9.tiff", "a 10.jpg", HOSTILE}),
        ("failed", {"z.jpg"}),
        ("skipped", {"b.txt"}),
        ("salvaged", {HOSTILE}),
    ):
        opened.choose("state", state)
        assert set(opened.names()) == names
    opened.choose("state", "")
    opened.choose("format", "TIFF")
    assert opened.names() == ["a 9.tiff"]
    opened.choose("format", "")
    opened.press("/", "END", "\ue00c")  # Escape
    assert len(opened.names()) == 5
    opened.press("/", *"missing")
    assert opened.names() == ["z.jpg"]
    opened.press(*" tiff")
    assert opened.names() == []
    assert opened.ask("return document.getElementById('count').innerText") == "No file matches."


def test_photos_are_compared_with_their_originals_by_keys_alone(opened: Page) -> None:
    left, up, right, down, enter, escape = "\ue012", "\ue013", "\ue014", "\ue015", "\ue007", "\ue00c"
    opened.press(right)
    assert opened.focused() == "z.jpg"
    opened.press(right, right, left, down, up)
    assert opened.focused() == HOSTILE
    opened.press(enter)
    state = "return document.getElementById('view').open"
    assert opened.ask(state)
    loaded = "return ['before', 'after'].every(id => document.getElementById(id).naturalWidth === 640)"
    wait_until(lambda: opened.ask(loaded), "both pictures are there", 30)
    assert opened.ask("return document.getElementById('before-caption').innerText") == "original: 1280 × 960, 20.0 kB"
    assert "less (" in opened.ask("return document.getElementById('after-caption').innerText")
    split = "return getComputedStyle(document.querySelector('.before')).clipPath"
    assert "50%" in opened.ask(split)
    opened.ask("const each = document.getElementById('split'); each.value = 20; each.dispatchEvent(new Event('input'))")
    assert "80%" in opened.ask(split)  # of the original's right is cut away
    opened.choose("mode", "beside")
    before, after = (
        opened.ask("return document.getElementById(arguments[0]).getBoundingClientRect().toJSON()", each)
        for each in ("before", "after")
    )
    assert before["right"] <= after["left"]
    opened.press(right)
    assert opened.ask("return document.getElementById('view-name').innerText") == "a 9.tiff"
    opened.press(escape)
    assert not opened.ask(state)
    assert opened.focused() == "a 9.tiff"


def test_a_missing_original_is_said_and_an_uncomparable_one_lies_beside(
    page: Page, few: tuple[list[FileResult], dict[str, Path]]
) -> None:
    page.look()
    page.open(few[0], {"a 9.tiff": page.folder / "gone.tiff"})
    for key, says in (("a 9.tiff", "does not show TIFF"), ("a 10.jpg", "not known")):
        page.ask("[...document.querySelectorAll('.open')].find(each => each.dataset.key === arguments[0]).click()", key)
        text = "return document.getElementById('before-missing').innerText"
        wait_until(lambda text=text, says=says: says in page.ask(text), f"{key}: {says}", 30)
        assert page.ask("return document.getElementById('stage').classList.contains('beside')")
        page.press("\ue00c")


def test_a_hostile_name_stays_text_and_nothing_from_outside_is_loaded(opened: Page) -> None:
    assert opened.ask("return document.title").startswith("3 of 5 photos")
    assert opened.ask("return document.querySelectorAll('img[src=x]').length") == 0
    asked = "return performance.getEntriesByType('resource').map(each => each.name)"
    assert all(name.startswith("file://") for name in opened.ask(asked))
    blocked = """const done = arguments[0];
        document.addEventListener("securitypolicyviolation", event => done(event.effectiveDirective));
        const script = document.createElement("script"); script.textContent = "document.title = 'owned'";
        document.body.append(script); setTimeout(() => done("nothing"), 5000)"""
    assert opened.browser.execute_async_script(blocked) == "script-src-elem"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 360, 320])
def test_each_state_of_the_page_is_accessible_and_fits_the_screen(opened: Page, width: int, dark: bool) -> None:
    opened.look(width=width, dark=dark)
    opened.ask("document.getElementById('keys').open = true")
    for step in ("", "[...document.querySelectorAll('.open')].find(each => each.dataset.key === 'a 9.tiff').click()"):
        opened.ask(step)
        assert accessibility_violations(opened.browser) == []
        wide = "return Math.max(...[document.documentElement, document.getElementById('view')].map(e => e.scrollWidth))"
        assert opened.ask(wide) <= width


def test_the_rules_of_accessibility_are_really_tried(opened: Page) -> None:
    opened.ask("document.querySelector('#sheet img').removeAttribute('alt')")
    assert any(each.startswith("image-alt: ") for each in accessibility_violations(opened.browser))


@pytest.fixture(scope="module")
def many(page: Page) -> list[FileResult]:
    shared = [
        (
            picture(page.folder, f"resized/many {number}.jpg", (1024, 768), (number, 99, 200)),
            picture(page.folder, f"thumbs/many {number}.jpg", (192, 144), (number, 99, 200)),
        )
        for number in range(100)
    ]
    return [
        FileResult(
            f"2026/holiday {number:04}.jpg",
            FileState.DONE,
            "",
            "",
            "4000x3000",
            3_000_000 + number,
            "",
            shared[number % 100],
        )
        for number in range(MANY)
    ]


def test_thousands_of_photos_open_search_sort_and_turn_without_a_stutter(page: Page, many: list[FileResult]) -> None:
    page.look()
    page.browser.get("about:blank")
    watch = """window.long = []; new PerformanceObserver(list => long.push(...list.getEntries().map(e => e.duration)))
        .observe({type: "longtask", buffered: true})"""
    added = page.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": watch})
    try:
        page.open(many)
        ready = page.ask("return performance.getEntriesByType('navigation')[0].domInteractive")
        assert len(page.names()) < 100
        page.choose("sort", "size")
        assert page.names()[0] == f"2026/holiday {MANY - 1:04}.jpg"
        page.press("/", *"2999", "\ue00c")
        page.press("n", "n", "p")
        elements = "return document.querySelectorAll('*').length"
        assert page.ask(elements) < 2000
        settled = "const done = arguments[0]; requestAnimationFrame(() => setTimeout(() => done(long)))"
        long = page.browser.execute_async_script(settled)
        # How long it takes is for a person to judge: a busy machine would fail any bound.
        print(f"interactive after {ready:.0f} ms, long tasks of {long} ms, {page.ask(elements)} elements")
    finally:
        page.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


@pytest.fixture
def live(page: Page, tmp_path: Path) -> Iterator[LivePage]:
    page.look()
    with live_page(tmp_path / "out") as found:
        page.browser.get(found.url)
        wait_until(lambda: page.names() == [KEY], "the photo is shown", 30)
        yield found


def test_photos_appear_and_disappear_as_the_run_goes_on(page: Page, live: LivePage) -> None:
    live.board.put(FileResult("new.jpg", FileState.FAILED, "the end is missing", "upload it again"))
    wait_until(lambda: page.names() == ["new.jpg", KEY], "the new photo is shown", 30)
    assert page.ask("return document.getElementById('failed').innerText") == "1"
    live.board.remove(KEY)
    wait_until(lambda: page.names() == ["new.jpg"], "the removed photo is not shown", 30)


def test_a_photo_is_tried_and_its_settings_are_used(page: Page, live: LivePage) -> None:
    page.ask("document.querySelector('.open').click()")
    page.choose("try-format", "webp")
    page.choose("try-box", "50x50")
    page.click("try")
    shown = "return document.getElementById('trial-bytes')?.innerText ?? ''"
    wait_until(lambda: "WEBP, 50 × 38" in page.ask(shown), "the trial is shown", 60)
    width = "return document.getElementById('after').naturalWidth"
    wait_until(lambda: page.ask(width) == 50, "its picture is shown", 30)
    page.click("show-setting")
    assert accessibility_violations(page.browser) == []
    setting = "return document.getElementById('setting').innerText"
    assert page.ask(setting) == 'export RENDITIONS="resized=50x50:webp"'
    page.click("use")
    assert live.orders.get(timeout=60) == "resized=50x50:webp"
    page.choose("try-box", "enormous")
    page.click("try")
    error = "return document.getElementById('trial-error')?.innerText ?? ''"
    wait_until(lambda: "is no box" in page.ask(error), "the error is shown", 60)


def test_a_run_that_has_ended_is_said(page: Page, tmp_path: Path) -> None:
    with live_page(tmp_path / "ends") as found:
        page.browser.get(found.url)
        wait_until(lambda: page.names() == [KEY], "the photo is shown", 30)
    said = "return document.getElementById('progress').innerText"
    wait_until(lambda: "has ended" in page.ask(said), "the page says that the run has ended", 30)

"""A headless Chromium for the tests of pages, and the accessibility rules of axe. Skips where it is not installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

#: axe-core, which `make browser` installs by the lock file beside it.
AXE = Path(__file__).with_name("axe") / "node_modules" / "axe-core" / "axe.min.js"
#: Debian's package puts them here; other systems have them in the PATH under one of these names.
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--window-size=1360,1180",
)


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """A browser with an empty profile in that folder. Skips the test when there is none, and says what to install."""
    webdriver: Any = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: run `make browser`")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("Chromium or its driver is not installed: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    page = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    try:
        page.set_page_load_timeout(30)
        yield page
    finally:
        page.quit()


def accessibility_violations(browser: Any, within: str = "html") -> list[str]:
    """What axe finds wrong with the page as it is now, or the part of it that a CSS selector names.

    A line for each element, with the rule.
    """
    if not AXE.exists():
        pytest.skip("axe-core is not installed: run `make browser`")
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    found: dict[str, Any] = browser.execute_async_script(
        "const done = arguments[1]; axe.run(arguments[0]).then(done, error => done({failed: String(error)}))",
        within,
    )
    assert "failed" not in found, found
    return [
        f"{rule['id']}: {' '.join(map(str, node['target']))}: {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]

"""Flower's pages in a real browser, on the embedded run of the bundled photos: ``make browser``.

Takes the pictures in ``docs/images`` anew when SCREENSHOTS names a folder for them.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from PIL import Image

try:
    from selenium.common.exceptions import WebDriverException
except ImportError:  # then the fixture skips

    class WebDriverException(Exception): ...  # type: ignore[no-redef]


from pipeline.local.stack import INPUT_BUCKET
from tests.support.aws_process import ROOT
from tests.support.browser import accessibility_violations, chromium
from tests.support.waiting import wait_until
from tests.unit.test_dead_letters import task

pytestmark = pytest.mark.browser

SAMPLES = ROOT / "samples"


@dataclass
class Visit:
    """A browser on the Flower of an embedded run, and what a person at its terminal has."""

    browser: Any
    url: str
    environ: dict[str, str]
    second: subprocess.Popen[bytes]  # a worker besides the run's own

    def open(self, path: str) -> None:
        self.browser.get(self.url + path)

    def ask(self, script: str, *arguments: str) -> Any:
        """What a script returns in the page; None while the page is being loaded."""
        try:
            return self.browser.execute_script(script, *arguments)
        except WebDriverException:
            return None

    def texts(self, selector: str) -> list[str]:
        """The texts of all elements that match a CSS selector, as they are shown."""
        script = "return [...document.querySelectorAll(arguments[0])].map(each => each.innerText.trim())"
        found: list[str] | None = self.ask(script, selector)
        return [] if found is None else found

    def wait(self, selector: str, pattern: str, within_s: float = 30) -> None:
        """Until the texts of the elements, joined, match."""
        wait_until(
            lambda: re.search(pattern, " ".join(self.texts(selector)), re.DOTALL),
            f"{selector} shows {pattern!r}",
            within_s,
        )

    def click(self, selector: str) -> None:
        self.browser.find_element("css selector", selector).click()

    def rows(self) -> list[dict[str, str]]:
        """The table of tasks: a dictionary a row, by the headings; ``link`` is the task's page."""
        script = """
            const heads = [...document.querySelectorAll("#tasks-table thead th")].map(each => each.innerText.trim())
            return [...document.querySelectorAll("#tasks-table tbody tr")].map(row => Object.fromEntries([
                ...[...row.children].map((cell, place) => [heads[place], cell.innerText.trim()]),
                ["link", row.querySelector("a[href*='/task/']")?.href]]))"""
        found: list[dict[str, str]] | None = self.ask(script)
        return [row for row in found or [] if row["link"] is not None]

    def picture(self, name: str, height: int) -> None:
        """A screenshot for the documentation, so many pixels high."""
        folder = os.environ.get("SCREENSHOTS")
        if folder is not None:
            shown = Image.open(io.BytesIO(self.browser.get_screenshot_as_png())).convert("RGB")
            cut = shown.crop((0, 0, shown.width, min(height, shown.height)))
            cut.quantize(128).save(Path(folder) / f"flower-{name}.png", optimize=True)

    def client(self, service: str) -> Any:
        make: Any = boto3.client
        return make(
            service,
            endpoint_url=self.environ["AWS_ENDPOINT_URL"],
            region_name=self.environ["AWS_REGION"],
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )

    def complaints(self) -> list[str]:
        """What the browser has said since the last call, such as a violation of the content security policy."""
        return [str(entry["message"]) for entry in self.browser.get_log("browser")]

    def own_violations(self) -> list[str]:
        """What axe finds in a page but for Flower's navigation, which is not ours."""
        return accessibility_violations(self.browser, "main")

    def celery(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "celery", "-A", "pipeline", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=self.environ, capture_output=True, text=True, check=True, timeout=60
        ).stdout


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    folder = tmp_path_factory.mktemp("browser")
    with chromium(folder / "profile") as browser, (folder / "local.log").open("w+") as log:
        run = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pipeline",
                "local",
                str(SAMPLES),
                "--out",
                str(folder / "out"),
                "--keep",
                "--flower",
            ],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        )
        second = None
        try:
            said = (folder / "local.log").read_text
            wait_until(lambda: "Still running" in said() or run.poll() is not None, "all photos are done", 120)
            assert run.poll() is None, said()
            address = re.search(r"Flower: http://(\S+) \(user (\S+), password (\S+)\)", said())
            variables = re.search(r"source (\S+variables\.sh)", said())
            assert address is not None
            assert variables is not None
            environ = dict(os.environ)
            for line in Path(variables[1]).read_text().splitlines():
                name, _, value = line.removeprefix("export ").partition("=")
                environ[name] = shlex.split(value)[0] if value else ""
            second = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "pipeline", "worker", "-c", "1", "-n", "second@%h"],
                cwd=ROOT,
                env=environ,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            host, user, password = address.groups()
            browser.get(f"http://{user}:{password}@{host}/")  # as if typed into the browser's prompt
            yield Visit(browser, f"http://{host}", environ, second)
        finally:
            if second is not None:
                second.kill()
                second.wait()
            run.send_signal(signal.SIGINT)
            try:
                run.wait(60)
            finally:
                run.kill()
                run.wait()


def test_workers_are_online(visit: Visit) -> None:
    visit.open("/workers")
    visit.wait("#workers-online", "^2$")
    names = visit.texts("#workers-table tbody tr td:first-child")
    assert [name.partition("@")[0] for name in sorted(names)] == ["local", "second"]
    visit.wait("#workers-succeeded", r"^\d+$")
    visit.picture("workers", 640)


def test_tasks_are_listed_with_their_states_and_run_times(visit: Visit) -> None:
    visit.open("/tasks")
    visit.wait("#tasks-table tbody", "rocket.jpg")
    visit.picture("tasks", 1037)
    rows = {(row["NAME"], row["ARGS"]): row for row in visit.rows()}
    done = rows["tasks.resize", f"{INPUT_BUCKET}/rocket.jpg"]
    assert (done["STATE"], done["WORKER"].partition("@")[0]) == ("SUCCESS", "local")
    assert re.fullmatch(r"→ \d+x\d+, [\d.]+ kB", done["RESULT"])
    assert re.fullmatch(r"[\d.]+ m?s", done["RUNTIME"])
    assert rows["tasks.thumbnail", f"{INPUT_BUCKET}/rocket.jpg"]["RESULT"].startswith("→ 192x")
    visit.open(urlsplit(done["link"]).path)
    visit.wait(".detail-list", "SUCCESS")
    visit.picture("task", 1037)


def test_a_failed_task_says_why_in_the_table_and_on_its_page(visit: Visit) -> None:
    visit.open("/tasks")
    visit.click("[data-task-state=FAILURE]")
    wait_until(lambda: len(visit.rows()) == 1, "the failed task alone is listed")
    (failed,) = visit.rows()
    assert (failed["STATE"], failed["ARGS"]) == ("FAILURE", f"{INPUT_BUCKET}/broken-upload.jpg")
    assert failed["RESULT"].startswith("truncated: ")
    visit.open(urlsplit(failed["link"]).path)
    visit.wait(".detail-list", "TruncatedImage")
    shown = " ".join(visit.texts(".detail-list"))
    assert "FAILURE" in shown
    assert f"{INPUT_BUCKET}/broken-upload.jpg" in shown
    assert "etag" not in shown.lower()  # no payload


def test_the_columns_fit_a_window_of_1400_pixels(visit: Visit) -> None:
    size = visit.browser.get_window_size()
    visit.browser.set_window_size(1400, 1180)
    try:
        visit.open("/tasks")
        visit.click("[data-task-state='']")
        visit.wait("#tasks-table tbody", "rocket.jpg")
        script = """const table = document.querySelector(".dataTables_scrollBody");
            return [table.scrollWidth - table.clientWidth, innerWidth]"""
        over, width = visit.ask(script)
        assert width <= 1400
        assert over == 0
        assert set(visit.rows()[0]) >= {"NAME", "ARGS", "KWARGS", "STATE", "RESULT", "RUNTIME", "RECEIVED", "WORKER"}
    finally:
        visit.browser.set_window_size(size["width"], size["height"])


def test_a_row_leads_to_its_object_which_is_made_again(visit: Visit) -> None:
    visit.open("/tasks")
    visit.click("[data-task-state=FAILURE]")
    wait_until(lambda: len(visit.rows()) == 1, "the failed task alone is listed")
    visit.click("#tasks-table tbody td a[href*='/object']")
    visit.wait("#object-verdict", "^Failed: ")
    assert visit.browser.find_element("id", "object-uri").get_attribute("value").endswith("/broken-upload.jpg")
    assert visit.own_violations() == []
    visit.click("#object-make")
    visit.wait("#notice", "is enqueued")

    def failed_again() -> bool:
        visit.browser.refresh()
        states = visit.texts("#object-tasks tbody td:nth-child(2)")
        return states.count("FAILURE") >= 2

    wait_until(failed_again, "the object has failed again")
    assert visit.texts("#notice") == []
    visit.picture("object", 860)
    visit.click("#object-tasks tbody a")
    visit.wait(".detail-list", "TruncatedImage")
    visit.click(".detail-list pre a")  # and back, from the task's arguments
    visit.wait("#object-verdict", "^Failed: ")


def test_a_red_row_leads_to_the_letters_of_hostile_keys_and_their_buttons(visit: Visit) -> None:
    s3, sqs = visit.client("s3"), visit.client("sqs")
    hostile = "<img src=x onerror=alert(1)>\"'.jpg"
    s3.put_object(Bucket=INPUT_BUCKET, Key="lost.jpg", Body=(SAMPLES / "rocket.jpg").read_bytes())
    dead = sqs.get_queue_url(QueueName=f"{visit.environ['QUEUE_PREFIX']}tasks-dlq")["QueueUrl"]
    for key in (hostile, "lost.jpg"):
        sqs.send_message(QueueUrl=dead, MessageBody=task(f"s3://{INPUT_BUCKET}/{key}"))
    visit.open("/broker")
    visit.wait("#queue-table .table-danger", "tasks-dlq")
    assert visit.own_violations() == []
    assert visit.texts("#broker-place")[0].startswith(visit.environ["QUEUE_PREFIX"])
    visit.picture("broker", 520)
    visit.click("#queue-table .table-danger a")
    visit.wait("#letters-table tbody", re.escape(hostile))
    visit.wait("#letters-table tbody", "lost.jpg")
    assert visit.own_violations() == []
    visit.picture("letters", 560)
    row = "//tr[contains(., 'lost.jpg')]"
    visit.browser.find_element("xpath", f"{row}//button[.='Make again']").click()
    visit.wait("#notice", "is enqueued")
    visit.browser.find_element("xpath", f"{row}//button[.='Redrive']").click()
    visit.wait("#notice", "1 dead letter sent back")
    visit.browser.find_element("partial link text", "<img").click()
    visit.wait("#object-verdict", "does not exist")
    assert visit.own_violations() == []
    assert visit.complaints() == []
    sqs.purge_queue(QueueUrl=dead)


def test_no_page_is_hindered_by_the_content_security_policy(visit: Visit) -> None:
    visit.open("/workers")
    visit.wait("#workers-table tbody", "local@")
    (worker,) = (name for name in visit.texts("#workers-table tbody td:first-child") if name.startswith("local@"))
    visit.complaints()
    for path in ("/", "/workers", f"/worker/{worker}", "/tasks", "/broker", "/object", "/dead-letters/events"):
        visit.open(path)
        visit.wait("nav", "Workers")
        assert visit.complaints() == [], path
    visit.click("#theme-toggle")
    visit.click("[data-bs-theme-value=dark]")
    assert visit.ask("return document.documentElement.dataset.bsTheme") == "dark"
    for path in ("/object?uri=rocket.jpg", "/broker", "/dead-letters/events"):
        visit.open(path)
        assert visit.own_violations() == [], path
    visit.picture("dark", 640)
    visit.click("#theme-toggle")
    visit.click("[data-bs-theme-value=light]")


def test_the_pool_grows_by_the_button(visit: Visit) -> None:
    (name,) = (row for row in visit.celery("inspect", "ping").split() if row.startswith("second@"))
    name = name.rstrip(":")
    visit.open(f"/worker/{name}")
    visit.wait("#workername", "second@")
    visit.click("#worker-pool-grow")
    visit.wait(".toast", "Growing")
    wait_until(lambda: pool_size(visit, name) == 2, "the pool has two processes")
    visit.open(f"/worker/{name}")
    visit.wait("#tab-pool", r"Processes\s+\d+, \d+")
    visit.picture("worker", 800)


def pool_size(visit: Visit, name: str) -> int:
    """As the worker says it, through Flower's API."""
    script = """const reply = await fetch(`/api/workers?refresh=1&workername=${arguments[0]}`);
        return (await reply.json())[arguments[0]].stats.pool.processes.length"""
    found = visit.ask(script, name)
    return 0 if found is None else int(found)


def test_the_broker_page_shows_depths_and_a_task_is_revoked(visit: Visit) -> None:
    assert "new rate limit set" in visit.celery("control", "rate_limit", "tasks.resize", "10/m")
    s3 = visit.client("s3")
    photo = (SAMPLES / "rocket.jpg").read_bytes()
    for number in range(24):
        s3.put_object(Bucket=INPUT_BUCKET, Key=f"launch/{number:02}.jpg", Body=photo)

    visit.open("/broker")
    visit.wait("#queue-table tbody", r"events\s.*events-dlq\s.*tasks\s.*tasks-dlq\s")
    visit.wait("#queue-table #tasks", r"tasks\s+workers\s.*[1-9]")

    waiting: list[str] = []

    def task_waits() -> bool:
        visit.open("/tasks")
        visit.click("[data-task-state='']")  # the page remembers the filter
        visit.wait("#tasks-table tbody", "rocket.jpg|launch")
        waiting[:] = [urlsplit(row["link"]).path for row in visit.rows() if row["STATE"] == "RECEIVED"]
        return bool(waiting)

    wait_until(task_waits, "a task waits in a worker")
    visit.open(waiting[0])
    visit.click("#task-revoke")
    visit.wait(".toast", "Revoked")

    def state() -> str:
        visit.open(waiting[0])
        return " ".join(visit.texts(".detail-list .badge"))

    wait_until(lambda: state() == "REVOKED", "its page says that it is revoked", 90)
    visit.picture("revoked", 1037)
    visit.celery("control", "rate_limit", "tasks.resize", "0")


def test_a_worker_is_shut_down_from_its_page(visit: Visit) -> None:
    visit.open("/workers")
    visit.wait("#workers-online", "^2$")
    (name,) = (each for each in visit.texts("#workers-table tbody td:first-child") if each.startswith("second@"))
    visit.open(f"/worker/{name}")
    visit.click("#worker-group")
    visit.click("#worker-shutdown")
    visit.wait(".toast", "Shutting down")
    assert visit.second.wait(60) == 0
    visit.open("/workers")
    visit.wait("#workers-online", "^1$")
    visit.picture("shutdown", 640)

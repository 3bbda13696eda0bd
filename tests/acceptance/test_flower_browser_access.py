"""Flower in a real browser: a login, a path behind a balancer, a restart, a lost worker, and 20,000 tasks.

``make browser`` runs it. The tests share a server and a worker, and run in order.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from celery.events import get_exchange
from kombu import Producer
from kombu.serialization import dumps

from pipeline.aws import clients
from pipeline.celery import make_app
from pipeline.core.settings import Settings
from tests.support.aws_process import AwsServer
from tests.support.browser import chromium
from tests.support.cluster import TOPIC_ARN_PREFIX
from tests.support.flower import Flower
from tests.support.other_servers import free_port
from tests.support.processes import OWNER, owned_processes
from tests.support.waiting import wait_until
from tests.support.worker import Worker

pytestmark = pytest.mark.browser

WORKER = "one@test"
TASKS = 20_000
#: Flower's default here: DEFAULTS of pipeline.sqs.flower.options.
KEPT = 10_000


# --- an OAuth provider ---


class Provider(BaseHTTPRequestHandler):
    """Okta's three addresses, on loopback: it logs in whoever ``server.email`` names, without asking."""

    server: Any

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        if address.path == "/v1/authorize":
            self.send_response(302)
            answer = urlencode({"code": "the-code", "state": asked["state"]})
            self.send_header("Location", f"{asked['redirect_uri']}?{answer}")
            self.end_headers()
        else:
            assert self.headers["Authorization"] == "Bearer the-token"
            self._answer({"email": self.server.email, "email_verified": True})

    def do_POST(self) -> None:
        sent = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        assert (sent["code"], sent["client_secret"]) == (["the-code"], ["the-secret"])
        self._answer({"access_token": "the-token"})

    def _answer(self, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""


@contextmanager
def oauth_provider() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    server.email = "ann@example.org"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# --- where the browser looks ---


@dataclass
class Place:
    server: AwsServer
    browser: Any
    folder: Path
    app: Any
    env: dict[str, str]
    worker: Worker
    exits: ExitStack
    flowers: list[Flower] = field(default_factory=list)

    def flower(self, *options: str, port: int = 0, **env: str) -> Flower:
        log = self.folder / f"flower-{len(self.flowers)}.log"
        made = Flower(log, {**self.env, **env}, "--address=127.0.0.1", *options, app="pipeline", port=port)
        self.flowers.append(self.exits.enter_context(made))
        return made

    def texts(self, selector: str) -> str:
        script = "return [...document.querySelectorAll(arguments[0])].map(each => each.innerText).join(' ')"
        return str(self.browser.execute_script(script, selector))

    def wait(self, selector: str, pattern: str, within_s: float = 60) -> None:
        wait_until(
            lambda: re.search(pattern, self.texts(selector)),
            f"{selector} shows {pattern!r}",
            within_s,
        )

    def complaints(self) -> list[str]:
        return [str(entry["message"]) for entry in self.browser.get_log("browser")]

    def send_events(self, events: list[dict[str, Any]]) -> None:
        """As a worker publishes them."""
        with self.app.connection_for_write() as connection:
            exchange = get_exchange(connection)
            producer = Producer(connection, exchange=exchange, auto_declare=False)
            for start in range(0, len(events), 400):
                kind, encoding, body = dumps(events[start : start + 400], serializer="json")
                headers = {"hostname": WORKER}
                producer.publish(
                    body,
                    content_type=kind,
                    content_encoding=encoding,
                    exchange=exchange.name,
                    routing_key="task.multi",
                    declare=[exchange],
                    headers=headers,
                    compression="zlib",
                )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("access")
    with ExitStack() as exits:
        exits.enter_context(owned_processes())
        browser = exits.enter_context(chromium(folder / "profile"))
        server = exits.enter_context(AwsServer())
        patch = exits.enter_context(pytest.MonkeyPatch.context())
        for name, value in server.env.items():
            patch.setenv(name, value)
        clients.forget_clients()
        prefix = f"b{secrets.token_hex(4)}-"
        for queue in ("events", "tasks"):
            server.make_queue(prefix + queue)
        for topic in ("celeryev", "pidbox"):
            server.client("sns").create_topic(Name=prefix + topic)
        env = {**server.env, "QUEUE_PREFIX": prefix, "TOPIC_ARN_PREFIX": TOPIC_ARN_PREFIX, "EVENTS_INTERVAL_S": "0.1"}
        env[OWNER] = os.environ[OWNER]  # what a test starts outlives that test
        app = make_app(Settings(queue_prefix=prefix, topic_arn_prefix=TOPIC_ARN_PREFIX, poll_wait_s=1))
        worker = Worker(server, folder, "--hostname", WORKER, "--concurrency", "1", env=env | {"HEARTBEAT_S": "2"})
        exits.enter_context(worker)
        worker.wait_ready()
        yield Place(server, browser, folder, app, env, worker, exits)
        app.close()
        clients.forget_clients()


@pytest.fixture(scope="module")
def provider() -> Iterator[Any]:
    with oauth_provider() as server:
        yield server


@pytest.fixture(scope="module")
def behind_login(place: Place, provider: Any) -> Flower:
    """Under a path, with a login, and a file that keeps what it knows."""
    return login_flower(place, provider, free_port())


def login_flower(place: Place, provider: Any, port: int) -> Flower:
    return place.flower(
        "--url-prefix=behind/a/balancer",
        port=port,
        FLOWER_AUTH="ann@example.org",
        FLOWER_AUTH_PROVIDER="flower.views.auth.OktaLoginHandler",
        FLOWER_OAUTH2_KEY="the-key",
        FLOWER_OAUTH2_SECRET="the-secret",
        FLOWER_OAUTH2_REDIRECT_URI=f"http://127.0.0.1:{port}/behind/a/balancer/login",
        FLOWER_OAUTH2_OKTA_BASE_URL=f"http://127.0.0.1:{provider.server_address[1]}",
        FLOWER_COOKIE_SECRET="of a test, and long enough",
        FLOWER_DB=str(place.folder / "flower-db"),
    )


def test_a_login_is_for_those_who_may(place: Place, provider: Any, behind_login: Flower) -> None:
    provider.email = "mallory@example.com"
    place.browser.get(f"{behind_login.url}/tasks")
    place.wait("main", "Access denied")
    provider.email = "ann@example.org"
    place.browser.get(f"{behind_login.url}/workers")
    place.wait("#workers-table tbody", WORKER)
    assert urlsplit(place.browser.current_url).path.startswith("/behind/a/balancer/")
    assert place.texts("nav").startswith("Flower")


def test_behind_a_path_all_pages_and_buttons_work(place: Place, behind_login: Flower) -> None:
    place.complaints()
    for path in ("/workers", "/tasks", "/broker", "/object", "/dead-letters/tasks"):
        place.browser.get(behind_login.url + path)
        place.wait("nav", "Object")
        assert place.complaints() == [], path
    for link in place.browser.find_elements("css selector", "nav a[href^='/']"):
        assert link.get_attribute("href").startswith(behind_login.url + "/")
    place.browser.get(f"{behind_login.url}/worker/{WORKER}")
    place.wait("#workername", WORKER)
    place.browser.find_element("id", "worker-pool-grow").click()
    place.wait(".toast", "Growing")
    place.browser.get(f"{behind_login.url}/object?uri=s3://photos/a.jpg")
    place.wait("#error", "OUTPUT_BUCKET")


def test_a_button_of_a_session_needs_its_token(place: Place, behind_login: Flower) -> None:
    """As a page of another site on the same host would press it: with the cookie, and without the token."""
    place.browser.get(f"{behind_login.url}/object")
    script = """const body = new URLSearchParams({action: "make", uri: "a.jpg"});
        return (await fetch(location.pathname, {method: "POST", body})).status"""
    assert place.browser.execute_script(script) == 403


def test_a_flower_that_is_full_of_tasks_answers(place: Place, behind_login: Flower) -> None:
    now = time.time()
    common = {"hostname": WORKER, "utcoffset": 0, "pid": 1}
    events = []
    for number in range(TASKS):
        known = {"uuid": f"{number:08}-0000-4000-8000-000000000000", "timestamp": now, "clock": number + 1, **common}
        shown = {"name": "tasks.resize", "args": f"photos/{number:05}.jpg", "kwargs": "{}"}
        events.append({"type": "task-received", **shown, **known})
        events.append({"type": "task-succeeded", "result": "→ 4x3", "runtime": 0.1, **known})
    place.send_events(events)
    wait_until(lambda: is_known(place, str(events[-1]["uuid"])), "all are received", 120)
    place.browser.get(f"{behind_login.url}/tasks")
    place.wait("#tasks-table_info", f"of {KEPT:,} tasks")
    box = place.browser.find_element("css selector", "#tasks-table_filter input")
    box.send_keys("args:photos/15000.jpg")
    place.wait("#tasks-table tbody", "photos/15000.jpg")
    place.wait("#tasks-table_info", "Showing 1 to 1 of 1 tasks")
    box.clear()
    box.send_keys("args:photos/00001.jpg")  # the oldest are forgotten
    place.wait("#tasks-table tbody", "No tasks match")


def is_known(place: Place, task_id: str) -> bool:
    """To the Flower whose page is open."""
    script = """const start = document.querySelector("nav a").getAttribute("href");
        return (await fetch(start + "api/task/info/" + arguments[0])).status"""
    return bool(place.browser.execute_script(script, task_id) == 200)


def test_a_restart_forgets_neither_tasks_nor_logins(place: Place, provider: Any, behind_login: Flower) -> None:
    port = urlsplit(behind_login.url).port
    assert port is not None
    assert behind_login.stop() == 0
    provider.email = "nobody@example.com"  # who logs in again is refused
    again = login_flower(place, provider, port)
    place.browser.get(f"{again.url}/tasks")
    place.wait("#tasks-table_info", f"{KEPT:,} ")
    place.browser.get(f"{again.url}/logout")
    place.browser.get(f"{again.url}/tasks")
    place.wait("main", "Access denied")


def test_a_killed_worker_is_shown_as_offline(place: Place) -> None:
    flower = place.flower(FLOWER_BASIC_AUTH="user:secret")
    place.browser.get(flower.url.replace("://", "://user:secret@"))
    place.browser.get(f"{flower.url}/workers")
    place.wait("#workers-table tbody", "Online")
    place.worker.kill()
    place.wait("#workers-table tbody", "Offline")
    place.wait("#workers-online", "^0$")


def test_basic_auth_refuses_a_wrong_password(place: Place) -> None:
    flower = place.flowers[-1]
    assert flower.get("/tasks", password="user:wrong").status == 401
    place.browser.get(flower.url.replace("://", "://user:wrong@").replace("127.0.0.1", "localhost"))
    assert "Access denied" in place.texts("body") or place.texts("body") == ""

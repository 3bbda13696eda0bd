"""The pipeline's pages in Flower: what they show of an object and of dead letters, and who may press their buttons."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest

from pipeline.aws import clients
from pipeline.celery import make_app
from pipeline.core.settings import Settings
from pipeline.local.stack import INPUT_BUCKET
from tests.integration.test_explain import KEY, URI, dead_letter, fail, render, upload
from tests.support.flower_app import FlowerApp, Page, installed_flower
from tests.support.queues import depth, headers, take_all
from tests.unit.test_dead_letters import task

HOSTILE = "<img src=x onerror=alert(1)>\"' &amp; \u202egpj.\x01\r\n.jpg"
MAKE = {"action": "make", "uri": URI}


@pytest.fixture
def flower(stack: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlowerApp]:
    monkeypatch.setattr("pipeline.operations.deadletters.queue.POLL_S", 0)
    with installed_flower(make_app(stack)) as app:
        yield app


def shown(page: Page) -> str:
    """The text of a page, without its mark-up."""
    assert page.status == 200, page.text
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page.text.partition("<main")[2])).split())


def object_page(flower: FlowerApp, text: str = URI, **sent: str) -> Page:
    return flower.get(f"/object?{urlencode({'uri': text})}", **sent)


def queued() -> list[str]:
    """The objects of the messages in the tasks queue, which is empty afterwards."""
    return [headers(message)["argsrepr"] for message in take_all("local-tasks")]


# --- an object ---


def test_without_an_object_the_page_asks_for_one(flower: FlowerApp) -> None:
    page = flower.get("/object")
    assert page.status == 200
    assert 'name="uri"' in page.text
    assert "object-status" not in page.text


def test_a_done_object_shows_its_renditions_and_its_tasks_and_needs_no_button(
    flower: FlowerApp, stack: Settings
) -> None:
    render(stack, upload())
    flower.tasks["1-2"] = SimpleNamespace(
        args=f"{INPUT_BUCKET}/{KEY}", name="tasks.resize", state="SUCCESS", result="→ 4x3", uuid="1-2", received=1.0
    )
    flower.tasks["1-3"] = SimpleNamespace(args=f"{INPUT_BUCKET}/other", uuid="1-3", received=2.0)
    for text in (URI, KEY):  # a key is one of the input bucket
        page = object_page(flower, text)
        assert "Status done Verdict Done: all that it leads to is stored" in shown(page)
        assert f"resized/{KEY} 4x3 1" in shown(page)
        assert "the current version, by the current recipe" in shown(page)
        assert "tasks.resize SUCCESS → 4x3" in shown(page)
        assert "1-3" not in page.text
        assert "Make again" not in page.text


def test_a_failed_object_is_made_again_by_the_button(flower: FlowerApp) -> None:
    fail(upload())
    page = object_page(flower)
    assert "Failed: It ends early. Upload it again." in shown(page)
    assert 'id="object-make"' in page.text
    done = flower.post("/object", MAKE)
    assert (done.status, done.headers["Location"]) == (303, f"/object?{urlencode({'uri': URI})}")
    assert queued() == [f"{INPUT_BUCKET}/{KEY}"]
    cookie = f"notice={done.cookies['notice']}"
    after = object_page(flower, Cookie=cookie)
    assert "The object is enqueued" in shown(after)
    assert after.cookies["notice"] == ""  # said once


def test_a_lost_object_is_redriven_by_the_button(flower: FlowerApp) -> None:
    upload()
    dead_letter(task(URI), "rejected by tasks.resize: no")
    dead_letter(task(f"s3://{INPUT_BUCKET}/other.jpg"), "rejected")
    page = object_page(flower)
    assert "Given up: rejected by tasks.resize: no" in shown(page)
    assert depth("local-tasks-dlq") == (2, 0)  # read, and released
    assert flower.post("/object", {"action": "redrive", "uri": URI}).status == 303
    assert (depth("local-tasks-dlq"), len(take_all("local-tasks"))) == ((1, 0), 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("s3://elsewhere/a.jpg", "bucket elsewhere is not INPUT_BUCKET"),
        ("s3://", "does not name an object"),
        ("a" * 1025, "more than S3's 1024"),
        ("never.jpg", "does not exist, and nothing is stored of it"),
    ],
)
def test_what_can_not_be_shown_is_said(flower: FlowerApp, text: str, says: str) -> None:
    assert says in shown(object_page(flower, text))


def test_a_hostile_key_is_shown_escaped_and_meant_literally(flower: FlowerApp) -> None:
    upload_hostile = clients.s3().put_object(Bucket=INPUT_BUCKET, Key=HOSTILE, Body=b"x")
    assert upload_hostile["ETag"]
    uri = f"s3://{INPUT_BUCKET}/{HOSTILE}"
    dead_letter(task(uri), f"rejected: {HOSTILE}")
    flower.tasks["1-2"] = SimpleNamespace(
        args=f"{INPUT_BUCKET}/{HOSTILE}", name=HOSTILE, state="<b>", result=HOSTILE, uuid="1-2", received=1.0
    )
    for page in (object_page(flower, uri), flower.get("/dead-letters/tasks")):
        assert page.status == 200
        assert "<img" not in page.text.partition("<main")[2]
        assert "\u202e" not in shown(page)
        assert r"\u202egpj.\x01\r\n.jpg" in shown(page)
    assert f"{uri!r}"[1:20] in shown(object_page(flower, uri))
    (link,) = re.findall(r'href="(/object\?uri=[^"]+)"', flower.get("/dead-letters/tasks").text)
    assert "rejected: <img" in shown(flower.get(html.unescape(link)))
    assert flower.post("/object", {"action": "make", "uri": uri}).status == 303
    assert queued() == [f"{INPUT_BUCKET}/{HOSTILE}"]


def test_text_that_is_not_utf_8_is_refused(flower: FlowerApp) -> None:
    assert flower.get("/object?uri=%ff").status == 400


def test_a_failed_action_says_why(flower: FlowerApp, stack: Settings) -> None:
    clients.sqs().delete_queue(QueueUrl=clients.sqs().get_queue_url(QueueName="local-tasks")["QueueUrl"])
    done = flower.post("/object", MAKE)
    assert done.status == 303
    after = object_page(flower, Cookie=f"notice={done.cookies['notice']}")
    assert "alert-danger" in after.text
    # The first where the app has not looked the queue up yet.
    assert re.search("queue local-tasks does not exist|NonExistentQueue to SendMessage", shown(after))


# --- dead letters ---


def test_the_broker_page_leads_to_the_letters_and_their_buttons_redrive_or_make_again(flower: FlowerApp) -> None:
    for number in range(3):
        dead_letter(task(f"s3://{INPUT_BUCKET}/{number}.jpg"), f"rejected: number {number}")
    dead_letter("no task", "malformed")
    assert 'class="table-danger"' in flower.get("/broker").text
    assert 'href="/dead-letters/tasks"' in flower.get("/broker").text
    page = flower.get("/dead-letters/tasks")
    assert shown(page).count("rejected: number") == 3
    assert "malformed" in shown(page)
    ids = dict(re.findall(r'id="letter-([^"]+)".*?(\d\.jpg|message)', page.text, re.DOTALL))
    (first,) = (each for each, key in ids.items() if key == "0.jpg")
    assert flower.post("/dead-letters/tasks", {"action": "redrive", "id": first}).status == 303
    assert (depth("local-tasks-dlq"), len(take_all("local-tasks"))) == ((3, 0), 1)
    gone = flower.post("/dead-letters/tasks", {"action": "redrive", "id": first})
    assert "No such dead letter" in shown(flower.get("/dead-letters/tasks", Cookie=f"notice={gone.cookies['notice']}"))
    again = {"action": "make", "uri": f"s3://{INPUT_BUCKET}/1.jpg"}
    assert flower.post("/dead-letters/tasks", again).status == 303
    assert (depth("local-tasks-dlq"), queued()) == ((3, 0), [f"{INPUT_BUCKET}/1.jpg"])


def test_without_letters_the_page_says_so(flower: FlowerApp) -> None:
    assert "SQS counts no dead letter in this queue" in shown(flower.get("/dead-letters/events"))
    assert flower.get("/dead-letters/other").status == 404


# --- who may press ---


@pytest.mark.parametrize("basic_auth", [["user:secret"], None])
def test_another_site_can_not_press_a_button(stack: Settings, basic_auth: list[str] | None) -> None:
    """Also where no login is configured, which Flower's own buttons do not look at."""
    foreign = [{"Sec_Fetch_Site": site} for site in ("cross-site", "same-site", "none")]
    foreign += [{"Origin": origin} for origin in ("http://evil.example", "null")]
    with installed_flower(make_app(stack), basic_auth=basic_auth) as flower:
        for sent in foreign:
            assert flower.post("/object", MAKE, **sent).status == 403
            assert flower.post("/dead-letters/tasks", MAKE, **sent).status == 403
        assert queued() == []
        assert flower.post("/object", MAKE, Sec_Fetch_Site="same-origin").status == 303


def test_without_the_password_nothing_is_shown_or_done(flower: FlowerApp) -> None:
    for path in ("/object", "/dead-letters/tasks"):
        assert flower.get(path, Authorization="").status == 401
        assert flower.post(path, MAKE, Authorization="").status == 401
    assert queued() == []


def test_a_login_s_form_needs_its_token(stack: Settings) -> None:
    with installed_flower(make_app(stack), basic_auth=None, auth=".*@example.org") as flower:
        assert flower.get("/object", Authorization="").status == 302  # to the login
        assert flower.post("/object", MAKE, Authorization="").status == 403
    assert queued() == []


def test_a_read_only_flower_has_no_buttons(stack: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.operations.deadletters.queue.POLL_S", 0)
    fail(upload())
    dead_letter(task(URI), "rejected")
    with installed_flower(make_app(stack), read_only=True) as flower:
        for path in ("/dead-letters/tasks", f"/object?{urlencode({'uri': URI})}"):
            page = flower.get(path)
            assert page.status == 200
            assert "Make again" not in page.text
            assert "<button class" not in page.text.partition("<main")[2].replace(
                '<button class="btn btn-outline-primary">Show', ""
            )
        assert flower.post("/object", MAKE).status == 403
        assert flower.post("/dead-letters/tasks", MAKE).status == 403
    assert queued() == []


# --- what every response has ---


def test_every_response_has_the_headers(flower: FlowerApp) -> None:
    for path in ("/tasks", "/object", "/static/js/flower.js", "/added/layer.css", "/nowhere", "/"):
        for page in (flower.get(path), flower.get(path, Authorization="")):
            policy = page.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe-eval" not in policy
            assert page.headers["X-Content-Type-Options"] == "nosniff"
            assert page.headers["Referrer-Policy"] == "same-origin"


def test_inline_scripts_carry_the_nonce_of_their_response(flower: FlowerApp) -> None:
    seen = set()
    for _ in range(2):
        page = flower.get("/workers")
        (nonce,) = re.findall(r"'nonce-([^']+)'", page.headers["Content-Security-Policy"])
        inline = [tag for tag in re.findall(r"<script[^>]*>", page.text) if "src=" not in tag]
        assert inline
        assert all(f'nonce="{nonce}"' in tag for tag in inline)
        seen.add(nonce)
    assert len(seen) == 2


def test_under_a_prefix_all_links_have_it(stack: Settings) -> None:
    with installed_flower(make_app(stack), url_prefix="behind/it") as flower:
        start = flower.get("/behind/it")
        assert (start.status, start.headers["Location"]) == (302, "/behind/it/")
        page = flower.get("/behind/it/object")
        assert page.status == 200
        added = re.findall(r'"(/[^"]*added/[^"]*)"', page.text)
        assert len(added) == 3
        for each in added:
            assert each.startswith("/behind/it/added/")
            assert flower.get(each).headers["Cache-Control"].endswith("immutable")
        assert 'href="/behind/it/object"' in page.text

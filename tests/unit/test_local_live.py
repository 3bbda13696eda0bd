"""The server of a run that goes on: what it answers, and what it refuses to whom."""

from __future__ import annotations

import html
import io
import json
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from PIL import Image

from pipeline.local.board import Phase
from pipeline.local.page_server import MAX_REQUEST_BYTES
from pipeline.local.results import FileResult, FileState
from pipeline.local.workbench import MAX_PICTURES, MAX_TRIALS, Refused
from tests.support.live_page import KEY, LivePage, live_page

ASKED = {"key": KEY, "name": "resized", "box": "50x50", "fit": "contain", "format": "webp", "quality": "40"}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePage]:
    with live_page(tmp_path_factory.mktemp("live") / "out") as found:
        yield found


def request(
    page: LivePage, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[HTTPResponse, bytes]:
    address = urlsplit(page.url)
    connection = HTTPConnection(address.netloc, timeout=30)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, address.path + path, body, named)
        reply = connection.getresponse()
        return reply, reply.read()
    finally:
        connection.close()


def post(page: LivePage, path: str, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    own = {"Origin": page.url.partition("/")[0] + "//" + urlsplit(page.url).netloc, "Content_Type": "application/json"}
    reply, said = request(page, "POST", path, json.dumps(body).encode(), **own | headers)
    return reply.status, json.loads(said)


def test_the_page_shows_the_board_and_its_files(page: LivePage) -> None:
    reply, text = request(page, "GET", "")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "connect-src 'self'" in html.unescape(text.decode())
    news = json.loads(request(page, "GET", "news?since=0")[1])
    (entry,) = news["changed"]
    assert (entry["key"], news["phase"], news["may_use"]) == (KEY, "waiting for more files", True)
    assert json.loads(request(page, "GET", f"news?since={news['revision']}")[1])["changed"] == []
    for address, kind in ((entry["original"], "image/png"), (entry["outputs"][0]["href"], "image/png")):
        reply, data = request(page, "GET", address)
        assert (reply.status, reply.headers["Content-Type"]) == (200, kind)
        assert "sandbox" in reply.headers["Content-Security-Policy"]
        Image.open(io.BytesIO(data)).load()


def test_only_files_that_a_result_names_can_be_had(page: LivePage) -> None:
    for path in (
        "../../etc/passwd",
        quote("../" * 9 + "etc/passwd", safe=""),
        "index.html",
        "original?key=x",
        "trial/99",
    ):
        assert request(page, "GET", path)[0].status == 404, path


@pytest.mark.parametrize("host", ["attacker.example", "127.0.0.1", "127.0.0.1:1", ""])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_name_of_this_address_is_refused(page: LivePage, host: str, method: str) -> None:
    assert request(page, method, "", Host=host)[0].status == 403


def test_without_the_secret_there_is_nothing(page: LivePage) -> None:
    address = urlsplit(page.url)
    for path in ("/", "/news", "/" + "x" * len(address.path), address.path[:-2]):
        connection = HTTPConnection(address.netloc, timeout=30)
        connection.request("GET", path)
        assert connection.getresponse().status == 404
        connection.close()


@pytest.mark.parametrize("origin", ["http://attacker.example", "null", "", "https://127.0.0.1"])
def test_a_request_of_another_sites_page_changes_nothing(page: LivePage, origin: str) -> None:
    for path in ("try", "use"):
        assert post(page, path, {"setting": "resized=9x9"}, Origin=origin)[0] == 403
    assert page.orders.empty()


def test_a_form_of_another_site_and_a_large_request_are_refused(page: LivePage) -> None:
    assert post(page, "use", {}, Content_Type="text/plain")[0] == 400
    assert post(page, "try", {"key": "x" * MAX_REQUEST_BYTES})[0] == 400
    assert post(page, "try", ["no object"])[0] == 400
    assert post(page, "elsewhere", {})[0] == 422


def test_nothing_of_it_may_be_shown_inside_of_another_page(page: LivePage) -> None:
    reply, _ = request(page, "GET", "")
    assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]
    assert reply.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in reply.headers


def test_a_photo_is_tried_with_other_settings(page: LivePage) -> None:
    status, said = post(page, "try", ASKED)
    assert status == 200, said
    assert (said["size"], said["type"], said["setting"]) == ([50, 38], "image/webp", "resized=50x50:webp:q40")
    reply, data = request(page, "GET", said["href"])
    assert (reply.headers["Content-Type"], len(data)) == ("image/webp", said["bytes"])
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.size) == ("WEBP", (50, 38))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"box": "huge"}, "'huge' is no box"),
        ({"box": "50x50, more=9x9"}, "no box"),
        ({"quality": "101"}, "q1 to q100"),
        ({"format": "tiff"}, "'tiff'"),
        ({"name": "other"}, "no rendition 'other'"),
        ({"key": "other.jpg"}, "only a photo that is done"),
        ({"box": 5}, "as text"),
    ],
)
def test_what_cannot_be_tried_is_said_plainly(page: LivePage, changed: dict[str, Any], says: str) -> None:
    status, said = post(page, "try", ASKED | changed)
    assert (status, says in said["error"]) == (422, True), said


def test_an_image_that_fails_is_said_with_its_advice(page: LivePage) -> None:
    page.board.put(FileResult("gone.jpg", FileState.DONE))
    try:
        assert "has been removed" in post(page, "try", ASKED | {"key": "gone.jpg"})[1]["error"]
    finally:
        page.board.remove("gone.jpg")


def test_only_a_few_photos_are_tried_at_once_and_few_pictures_kept(page: LivePage) -> None:
    for _ in range(MAX_TRIALS):
        page.workbench._free.acquire()
    try:
        with pytest.raises(Refused, match="try again in a moment"):
            page.workbench.attempt(ASKED)
    finally:
        for _ in range(MAX_TRIALS):
            page.workbench._free.release()
    numbers = [page.workbench._keep(b"-", "image/png") for _ in range(MAX_PICTURES + 1)]
    assert page.workbench.picture(numbers[0]) is None
    assert page.workbench.picture(numbers[-1]) == (b"-", "image/png")


def test_the_settings_are_used_only_while_the_run_waits(page: LivePage) -> None:
    page.board.phase = Phase.RUNNING
    assert "busy" in post(page, "use", {"setting": "resized=50x50"})[1]["error"]
    page.board.phase = Phase.WAITING
    for wrong, says in (("resized=", "box"), ("other=9x9", "only the settings of the present renditions"), (5, "text")):
        assert says in post(page, "use", {"setting": wrong})[1]["error"]
    assert page.orders.empty()
    assert post(page, "use", {"setting": "resized=50x50:webp"}) == (200, {})
    assert "busy" in post(page, "use", {"setting": "resized=9x9"})[1]["error"]
    assert page.orders.get_nowait() == "resized=50x50:webp"

"""The containers' health check, as they run it: isolated, and without anything of ours loaded."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from pipeline.core.role import Role
from pipeline.sqs import health_check
from pipeline.sqs.health import Heartbeat, heartbeat_path
from tests.support.waiting import DEADLINE_S

SCRIPT = Path(health_check.__file__)


def run(role: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-SI", *options, str(SCRIPT), role]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={"HEALTH_FOLDER": str(folder)}, timeout=DEADLINE_S
    )


def age(path: Path, seconds: float) -> None:
    past = time.time() - seconds
    os.utime(path, (past, past))


@pytest.mark.parametrize("role", Role)
def test_it_goes_by_the_limit_of_the_process_itself(tmp_path: Path, role: Role) -> None:
    ended = run(role.value, tmp_path)
    assert (ended.returncode, "not running" in ended.stdout) == (1, True)
    beat = Heartbeat(tmp_path, role, stale_s=200)
    beat.touch()
    age(heartbeat_path(tmp_path, role), 150)
    assert run(role.value, tmp_path).returncode == 0
    age(heartbeat_path(tmp_path, role), 250)
    ended = run(role.value, tmp_path)
    assert (ended.returncode, "no progress for 25" in ended.stdout) == (1, True)
    beat.touch()
    assert run(role.value, tmp_path).returncode == 0


def test_a_half_written_file_is_judged_by_the_default(tmp_path: Path) -> None:
    path = heartbeat_path(tmp_path, Role.WORKER)
    path.write_text("")
    assert run("worker", tmp_path).returncode == 0
    age(path, health_check.STALE_S + 10)
    assert run("worker", tmp_path).returncode == 1


def test_a_file_that_was_removed_meanwhile_is_written_again(tmp_path: Path) -> None:
    beat = Heartbeat(tmp_path, Role.WORKER, stale_s=7)
    beat.touch()
    heartbeat_path(tmp_path, Role.WORKER).unlink()
    beat.touch()
    assert health_check.age_and_limit_s(str(heartbeat_path(tmp_path, Role.WORKER)))[1] == 7


def test_it_loads_next_to_nothing(tmp_path: Path) -> None:
    Heartbeat(tmp_path, Role.WORKER).touch()
    ended = run("worker", tmp_path, "-v")  # tells each import
    loaded = {line.split("'")[1] for line in ended.stderr.splitlines() if line.startswith("import '")}
    assert "time" in loaded
    assert not {"site", "pipeline", "pydantic", "botocore", "re", "json", "typing", "pathlib"} & loaded


class _Page(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:  # the name is http.server's
        self.send_response(self.status if self.path == "/healthcheck" else 404)
        self.end_headers()
        self.wfile.write(b"OK")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def flower() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "wrong"), [(200, None), (500, "it answers b'HTTP/1.0 500")])
def test_flower_is_asked_for_its_health(
    flower: HTTPServer, monkeypatch: pytest.MonkeyPatch, status: int, wrong: str | None
) -> None:
    monkeypatch.setattr(_Page, "status", status)
    found = health_check.flower_problem(("127.0.0.1", flower.server_port))
    assert (found is None) if wrong is None else (found or "").startswith(wrong)


def test_no_flower_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and nobody listens
        monkeypatch.setattr(health_check, "FLOWER", closed.getsockname())
        assert health_check.main("flower") == 1

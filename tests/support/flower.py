"""A real Flower as a process, for tests that need its pages, its buttons and its restart."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.aws_process import ROOT
from tests.support.waiting import DEADLINE_S, wait_until

PASSWORD = "user:secret"  # noqa: S105 - of a Flower that lives for a test


@dataclass(frozen=True)
class Answer:
    status: int
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


class Flower:
    """``celery -A <app> flower`` on a free port, ended at the end of the ``with`` block."""

    def __init__(
        self,
        log_path: Path,
        env: Mapping[str, str],
        *options: str,
        app: str = "tests.support.tiny",
        port: int = 0,
        cwd: Path = ROOT,
    ) -> None:
        self.log_path = log_path
        self._cwd = cwd
        self._env = {**os.environ, **env}
        self._command = [sys.executable, "-m", "celery", "-A", app, "flower", f"--port={port}", *options]
        self.url = ""

    def __enter__(self) -> Self:
        with self.log_path.open("a") as log:
            already = log.tell()
            self.process = subprocess.Popen(
                self._command,
                cwd=self._cwd,
                env=self._env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(lambda: "Visit me at" in self.log()[already:] or self._ended(), "Flower listens")
        found = re.search(r"Visit me at (http://\S+)", self.log()[already:])
        assert found is not None, f"Flower did not start:\n{self.log()}"
        self.url = found[1].rstrip("/")  # with its prefix, if it has one
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._ended():
            self.stop()
        if exc is not None:
            print(f"--- {self.log_path.name}\n{self.log()[-5000:]}")  # pytest shows it with the failure

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def stop(self, within_s: float = DEADLINE_S) -> int:
        """SIGTERM, as ECS sends it; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(within_s)
        finally:
            self.process.kill()
            self.process.wait()

    def get(self, path: str, *, password: str | None = PASSWORD) -> Answer:
        return self._ask(urllib.request.Request(self.url + path), password)

    def post(self, path: str, *, password: str | None = PASSWORD) -> Answer:
        return self._ask(urllib.request.Request(self.url + path, data=b"", method="POST"), password)

    def task(self, task_id: str) -> dict[str, Any]:
        """What it knows of a task; empty when it does not know it."""
        answer = self.get(f"/api/task/info/{task_id}")
        found: dict[str, Any] = answer.json() if answer.status == 200 else {}
        return found

    def state(self, task_id: str) -> str | None:
        return self.task(task_id).get("state")

    def online(self) -> set[str]:
        """Workers that it takes for alive."""
        return {name for name, alive in self.get("/api/workers?status=1").json().items() if alive}

    def _ask(self, request: urllib.request.Request, password: str | None) -> Answer:
        if password is not None:
            request.add_header("Authorization", "Basic " + base64.b64encode(password.encode()).decode())
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S) as reply:
                return Answer(reply.status, reply.read().decode())
        except urllib.error.HTTPError as exc:
            with exc:
                return Answer(exc.code, exc.read().decode())

    def _ended(self) -> bool:
        return self.process.poll() is not None

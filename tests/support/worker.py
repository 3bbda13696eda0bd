"""A real Celery worker as a process, for tests that need its signals, its log and its death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.aws_process import ROOT, AwsServer
from tests.support.waiting import DEADLINE_S, text_of, wait_until

READY = "ready."


class Worker:
    """``celery -A <app> worker`` with its output in a file, killed at the end of the ``with`` block."""

    def __init__(
        self,
        server: AwsServer,
        folder: Path,
        *options: str,
        app: str = "tests.support.tiny",
        env: Mapping[str, str] | None = None,
        name: str = "worker",
        cwd: Path = ROOT,
        python: str = sys.executable,
    ) -> None:
        self._cwd = cwd
        self.trace_path = folder / "trace"
        self.log_path = folder / f"{name}.log"
        self._env = {
            **os.environ,
            **server.env,
            "TRACE": str(self.trace_path),
            "POLL_WAIT_S": "2",
            "HEALTH_FOLDER": str(folder),
            **(env or {}),
        }
        self._command = [python, "-m", "celery", "-A", app, "worker", "--loglevel", "INFO", *options]

    def __enter__(self) -> Self:
        with self.log_path.open("a") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=self._cwd,
                env=self._env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if exc is not None:
            print(f"--- {self.log_path.name}\n{self.log()[-20000:]}")  # pytest shows it with the failure

    def wait_ready(self, within_s: float = DEADLINE_S) -> Self:
        wait_until(lambda: READY in self.log() or self._ended(), "the worker is ready", within_s)
        assert not self._ended(), "the worker ended while it started"
        return self

    def log(self) -> str:
        return text_of(self.log_path)

    def trace(self) -> list[str]:
        return text_of(self.trace_path).splitlines()

    def done(self) -> Counter[str]:
        """How often each named task was finished, by all workers that share the folder."""
        return Counter(line.split()[1] for line in self.trace() if line.startswith("done "))

    def started(self) -> Counter[str]:
        return Counter(line.split()[1] for line in self.trace() if line.startswith("started "))

    def pid_of(self, task: str) -> int:
        """The pool process that a ``hold`` task runs in."""
        return next(int(line.split()[2]) for line in reversed(self.trace()) if line.startswith(f"started {task} "))

    def send_signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait_exit(self, within_s: float = DEADLINE_S) -> int:
        wait_until(self._ended, "the worker has ended", within_s)
        return self.process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The worker, not its pool, does nothing: it takes and answers no command."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """kill -9 of the worker and its pool."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _ended(self) -> bool:
        return self.process.poll() is not None

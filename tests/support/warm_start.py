"""Python programs that start from a process which has imported, once, what they all import.

An interpreter with boto3, Celery and its first clients needs a second of CPU, and most commands far less for their
work. What is imported before is foreign code only, and what botocore reads from its files: this project's own modules,
the environment, the folder and the streams are those of each program. Linux only.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import select
import shlex
import signal
import socket
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

IMPORTED = (
    "boto3",
    "celery.bin.celery",
    "celery.bin.worker",
    "click",
    "kombu",
    "PIL.Image",
    "pydantic",
    "rich.console",
)
SERVICES = (
    "cloudformation",
    "cloudwatch",
    "ec2",
    "ecr",
    "ecs",
    "events",
    "iam",
    "logs",
    "secretsmanager",
    "s3",
    "service-quotas",
    "sns",
    "sqs",
    "sts",
)
#: What the process says when it has imported all.
READY = "ready\n"


class WarmStart:
    """A context manager: the process, and the command line that starts programs from it."""

    def __enter__(self) -> WarmStart:
        import subprocess

        self._folder = tempfile.TemporaryDirectory()
        self._socket = str(Path(self._folder.name) / "socket")
        self._process = subprocess.Popen(
            [sys.executable, __file__, "serve", self._socket],
            stdin=subprocess.PIPE,  # which ends with this process, however that ends
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == READY
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._folder.cleanup()

    @property
    def command(self) -> list[str]:
        """What takes the place of the interpreter in ``python -m module arguments…``; other options it doesn't take."""
        return [sys.executable, "-I", "-S", __file__, "run", self._socket]

    @property
    def line(self) -> str:
        """The same, for a shell: programs that are not ``-m`` start as ever."""
        warm, cold = shlex.join(self.command), shlex.quote(sys.executable)
        return f'if [ "$1" = -m ]; then exec {warm} "$@"; else exec {cold} "$@"; fi'


def serve(path: str) -> None:
    """Forks for each program, and returns in it, where the program then runs as a main program does."""
    _import()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for who waits for a program
        sys.stdout.write(READY)
        sys.stdout.flush()
        while True:
            readable, *_ = select.select([listener, sys.stdin], [], [])
            if listener not in readable:
                sys.exit()  # nobody is left who could ask
            asked, _ = listener.accept()
            if not os.fork():
                break
            asked.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    given, streams, *_ = socket.recv_fds(asked, 1 << 20, 3)
    while not given.endswith(b"\n"):
        given += asked.recv(1 << 20)
    program = os.fork()
    if program:
        _wait(asked, program)
    asked.close()
    _become(streams, **json.loads(given))


def _import() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    import boto3
    from botocore import loaders

    loaders.JSONFileLoader.load_file = staticmethod(cache(loaders.JSONFileLoader().load_file))  # type: ignore[method-assign]
    session: Any = boto3.Session(aws_access_key_id="x", aws_secret_access_key="x", region_name="us-east-1")
    for service in SERVICES:
        session.client(service)
    gc.freeze()  # a collection in a program would copy what it looks at


def _wait(asked: socket.socket, program: int) -> None:
    """Tells its status to who asked for it; the program ends when that one is gone."""
    ended = os.pidfd_open(program)
    readable, *_ = select.select([asked, ended], [], [])
    if ended not in readable:
        os.kill(program, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
    asked.sendall(str(status if status >= 0 else 128 - status).encode())
    os._exit(0)


def _become(streams: list[int], words: list[str], folder: str, environ: dict[str, str]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # type: ignore[misc] # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # type: ignore[misc] # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", 1, errors="backslashreplace", closefd=False)  # type: ignore[misc] # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.path[:1] = [folder, *environ.get("PYTHONPATH", "").split(":")]
    sys.argv[:] = words[1:]


def run(path: str, words: list[str]) -> int:
    """The exit status of ``python -m …``, with this process's folder, environment and streams."""
    given = {"words": words, "folder": os.getcwd(), "environ": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(path)
        socket.send_fds(asked, [b" "], [0, 1, 2])
        asked.sendall(json.dumps(given).encode() + b"\n")
        return int(asked.recv(16) or 70)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.exit(run(sys.argv[2], sys.argv[3:]))

"""The commands of the pages: found, and run as a person would who types them in a shell."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tests.docs import looks
from tests.docs.pages import PAGES, ROOT, Code, blocks, spans
from tests.support.waiting import DEADLINE_S, wait_until
from tests.support.warm_start import WarmStart

#: Span between backticks that begin so are commands; whatever stands in a ``sh`` block is one.
PROGRAMS = re.compile(r"(\.venv/bin/\S+|python -m|celery|make|aws|docker|git|npm|pip|jq|export) \S")
#: See ``tests.support.one_server``.
ONE_SERVER = '[ "$1 $2" = "-m pipeline" ] && shift && set -- -m tests.support.one_server "$@"'


@dataclass(frozen=True)
class Command:
    """One command line of a page, as it stands there, but for the path of the virtual environment."""

    where: str  # page and line
    text: str
    setup: str = ""  # what the block has exported before

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


def commands() -> list[Command]:
    """Of all pages, each text once, where it comes first."""
    first: dict[str, Command] = {}
    for page in PAGES:
        for command in (*_of_blocks(page), *_of_spans(page)):
            first.setdefault(command.text, command)
    return list(first.values())


def _of_blocks(page: str) -> Iterator[Command]:
    for block in blocks(page):
        if block.language == "sh":
            yield from _lines(block)


def _lines(block: Code) -> Iterator[Command]:
    line = block.line
    setup = ""
    for text in block.text.replace("\\\n", "\0").splitlines():
        line += 1
        for command in _each(f"{block.page}:{line}", re.sub(r"(^|\s+)# .*", "", text).replace("\0", " ")):
            yield replace(command, setup=setup)
            if command.text.startswith("export "):
                setup += f"{command.text}; "
        line += text.count("\0")


def _of_spans(page: str) -> Iterator[Command]:
    for span in spans(page):
        if PROGRAMS.match(span.text):
            yield from _each(str(span), span.text)


def _each(where: str, text: str) -> Iterator[Command]:
    for part in text.split("&&"):
        words = " ".join(part.split()).replace(".venv/bin/", "")
        if words:
            yield Command(where, words)


def made(command: Command) -> Command:
    """``make worker`` as the command that it runs."""
    last = looks.recipe(command.text.split()[1])[-1]
    return replace(command, text=last.replace(".venv/bin/", ""))


class Shell:
    """A shell in a folder of its own, with this interpreter, and the variables of whatever is to be talked to."""

    def __init__(self, folder: Path, environ: Mapping[str, str], warm: WarmStart) -> None:
        self.folder = folder
        programs, warm_programs = folder / "bin", folder / "warm"
        for each in (programs, warm_programs):
            each.mkdir()
            _write(each / "celery", 'exec python -m celery "$@"')
        _write(programs / "python", f'exec "{sys.executable}" "$@"')
        _write(warm_programs / "python", f"{ONE_SERVER}\n{warm.line}")
        if shutil.which("jq") is None:  # the one foreign program: `jq -r .name` is all that the pages use
            code = "import json, sys; [print(json.loads(l)[sys.argv[2][1:]]) for l in sys.stdin]"
            _write(programs / "jq", f'exec "{sys.executable}" -c \'{code}\' "$@"')
        self.environ = {
            **environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            "HEALTH_FOLDER": str(folder),
            "FLOWER_PORT": "0",  # a free one
        }
        self._warm = {"PATH": f"{warm_programs}:{self.environ['PATH']}"}
        self._staying: list[tuple[Command, subprocess.Popen[bytes]]] = []

    def run(self, text: str, answer: str = "") -> tuple[int, str]:
        """Exit status, and all that was printed. Python's programs start from what is imported already."""
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", text],  # noqa: S607
            cwd=self.folder,
            env=self.environ | self._warm,
            input=answer,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        return done.returncode, done.stdout

    def stay(self, command: Command, ready: str) -> None:
        """Starts it, and returns when it says that it is ready. Raises ``AssertionError`` when it doesn't."""
        log = self.folder / f"{len(self._staying)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["bash", "-c", f"{command.setup}exec {command.text}"],  # noqa: S607
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._staying.append((command, process))

        def is_ready() -> bool:
            printed = log.read_text(errors="replace")
            assert process.poll() is None, f"{command} ended by itself:\n{printed}"
            return re.search(ready, printed) is not None

        wait_until(is_ready, f"{command} is ready (says {ready!r})")

    def printed(self) -> list[str]:
        """The lines of all that stays."""
        return [
            line for log in sorted(self.folder.glob("*.log")) for line in log.read_text(errors="replace").splitlines()
        ]

    def stop(self) -> dict[Command, int]:
        """Ends all that stays as Ctrl-C, or ECS, would; their exit statuses."""
        found = {}
        for _, process in reversed(self._staying):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for command, process in reversed(self._staying):
            try:
                found[command] = process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                found[command] = process.wait()
        self._staying.clear()
        return found


def _write(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)

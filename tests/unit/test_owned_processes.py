"""No test leaves a process behind, however it ends and wherever the process has gone."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tasks.images import apart
from tasks.images.render import Limits, Recipe
from tests.support.processes import OWNER, marked, owned_processes
from tests.support.waiting import text_of, wait_until

#: A daemon: the process that was started is gone, and what it has left is in a session of its own.
DAEMON = """
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
open(sys.argv[1], "w").write("x\\n")
time.sleep(600)
"""


def test_a_daemon_ends_with_the_test_that_has_started_it_also_when_that_fails(tmp_path: Path) -> None:
    before, marks = os.environ[OWNER], []

    def failing() -> None:
        with owned_processes():
            marks.append(os.environ[OWNER])
            subprocess.run([sys.executable, "-c", DAEMON, str(tmp_path / "begun")], check=True)
            wait_until(lambda: text_of(tmp_path / "begun"), "the daemon has begun")
            assert len(marked(marks[0])) == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert marked(marks[0]) == []
    assert os.environ[OWNER] == before != marks[0]


def test_what_others_have_started_is_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        with owned_processes():
            subprocess.run([sys.executable, "-c", ""], check=True)
        assert other.poll() is None
        other.communicate(b"\n")
    assert other.returncode == 0


def test_the_process_that_renders_for_this_one_stays_for_the_next_test() -> None:
    recipe, limits = Recipe((8, 8)), Limits()
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "PNG")
    apart.stop()
    with owned_processes():
        apart.render(out.getvalue(), recipe, limits)
        first = apart._running
    apart.render(out.getvalue(), recipe, limits)
    assert first is not None
    assert apart._running is first

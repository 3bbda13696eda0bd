"""Rendering in a process of its own: the same comes out, and a file that costs too much ends that process only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core.errors import DamagedImage, TooCostly, TransientError
from tasks.images import apart
from tasks.images.render import Limits, Recipe, render
from tests.support.bmps import bmp
from tests.support.pictures import encoded, png, quadrants
from tests.support.processes import owned_processes
from tests.support.waiting import wait_until
from tests.unit.test_images_dangerous import FILES

BOX = Recipe((40, 40))
GOOD = encoded(quadrants(), "JPEG")


#: Tests that leave the process as it was: they share one, since a start costs more than they do.
SHARING = ("test_the_same_picture_comes_out", "test_the_same_error_comes_out")


@pytest.fixture(scope="module")
def shared() -> Iterator[None]:
    with owned_processes():  # it outlives the test that it is started for
        apart.render(GOOD, BOX)
        yield
        apart.stop()


@pytest.fixture(autouse=True)
def no_process_is_left(shared: None, request: pytest.FixtureRequest) -> Iterator[None]:
    if request.node.originalname in SHARING:
        yield
        return
    apart.stop()
    yield
    apart.stop()


def slow() -> bytes:
    """Runs of one pixel: Python needs seconds for them."""
    return bmp((4000, 2400), 8, bytes((1, 0)) * 9_600_000, compression=1, palette=[(0, 0, 0)])


def child_pid() -> int:
    assert apart._running is not None
    return apart._running._process.pid


@pytest.mark.parametrize("name", FILES)
def test_the_same_picture_comes_out(name: str) -> None:
    assert apart.render(FILES[name], BOX) == render(FILES[name], BOX)


def test_it_lives_on_for_the_next_image() -> None:
    apart.render(GOOD, BOX)
    first = child_pid()
    big = encoded(quadrants(3000, 2000), "BMP")
    assert apart.render(big, BOX) == render(big, BOX)
    assert apart.render(GOOD, BOX) == render(GOOD, BOX), "nothing of a longer file is left"
    assert child_pid() == first


@pytest.mark.parametrize("data", [b"", b"text", b"8BPS" + bytes(99), GOOD[:500], png(0, 1, 8, 2, [])])
def test_the_same_error_comes_out(data: bytes) -> None:
    with pytest.raises(Exception) as there:  # noqa: PT011 - whatever it is, it must be the same here
        render(data, BOX)
    with pytest.raises(type(there.value)) as here:
        apart.render(data, BOX)
    assert str(here.value) == str(there.value)
    assert here.value.advice == there.value.advice  # type: ignore[attr-defined]


def test_too_much_cpu_time_is_a_permanent_error_and_the_next_image_is_fine() -> None:
    apart.render(GOOD, BOX)
    with pytest.raises(TooCostly, match="more than 1 s of CPU time, the limit MAX_CPU_S") as caught:
        apart.render(slow(), BOX, Limits(max_cpu_s=1))
    assert caught.value.reason == "too-large"
    assert apart.render(GOOD, BOX) == render(GOOD, BOX)


def test_cpu_time_is_counted_for_each_image() -> None:
    for _ in range(3):
        apart.render(FILES["avif"], BOX, Limits(max_cpu_s=1))


def test_too_much_memory_is_a_permanent_error() -> None:
    large = png(20_000, 10_000, 8, 0, [bytes(20_000)] * 10_000)
    with pytest.raises(TooCostly, match="memory") as caught:
        apart.render(large, Recipe((9, 9)), Limits(max_pixels=500_000_000, max_memory_mb=100))
    assert caught.value.reason == "too-large"
    assert apart.render(GOOD, BOX) == render(GOOD, BOX)


@pytest.mark.parametrize(
    ("number", "error", "said"),
    [
        (signal.SIGSEGV, DamagedImage, r"crashed on the file \(SIGSEGV\)"),
        (signal.SIGABRT, DamagedImage, r"crashed on the file \(SIGABRT\)"),
        (signal.SIGKILL, TransientError, r"ended from outside \(status -9\)"),
    ],
)
def test_how_it_ended_says_whose_fault_it_was(
    number: signal.Signals, error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash comes again with the same file; what ended it from outside says nothing about the file."""
    share = apart._Child._share

    def share_and_end(child: apart._Child, data: bytes) -> None:
        share(child, data)
        os.kill(child._process.pid, number)
        child._process.wait()

    with monkeypatch.context() as patch:
        patch.setattr(apart._Child, "_share", share_and_end)
        with pytest.raises(error, match=said):
            apart.render(GOOD, BOX)
    assert apart.render(GOOD, BOX) == render(GOOD, BOX)


def test_a_process_that_ended_between_two_images_is_replaced() -> None:
    apart.render(GOOD, BOX)
    assert apart._running is not None
    os.kill(child_pid(), signal.SIGKILL)
    apart._running._process.wait()
    assert apart.render(GOOD, BOX) == render(GOOD, BOX)


def test_it_is_replaced_after_many_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "_IMAGES_EACH", 2)
    pids = []
    for _ in range(4):
        apart.render(GOOD, BOX)
        pids.append(child_pid())
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_what_interrupts_the_waiting_ends_the_work() -> None:
    """The soft time limit is an exception from a signal: in a decoder's C code nothing could raise it."""

    class SoftTimeLimitExceeded(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise SoftTimeLimitExceeded

    apart.render(GOOD, BOX)
    pid, data = child_pid(), slow()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(SoftTimeLimitExceeded):
            apart.render(data, BOX)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert apart.render(GOOD, BOX) == render(GOOD, BOX)


def test_a_forked_process_has_its_own() -> None:
    apart.render(GOOD, BOX)
    first = child_pid()
    forked = os.fork()
    if forked == 0:
        try:
            same = apart.render(GOOD, BOX) == render(GOOD, BOX)
            os._exit(0 if same and child_pid() != first else 1)
        finally:
            os._exit(2)
    assert os.waitpid(forked, 0)[1] == 0
    assert apart.render(GOOD, BOX) == render(GOOD, BOX)
    assert child_pid() == first


def test_nobodys_keys_are_where_files_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    monkeypatch.setenv("ECS_CONTAINER_METADATA_URI_V4", "http://169.254.170.2/a-secret")
    apart.render(GOOD, BOX)
    assert b"a-secret" not in Path(f"/proc/{child_pid()}/environ").read_bytes()


def test_it_ends_when_its_worker_is_killed() -> None:
    code = (
        "import sys\n"
        "from tasks.images import apart\n"
        "from tasks.images.render import Recipe\n"
        "apart.render(sys.stdin.buffer.read(), Recipe((9, 9)))\n"
        "print(apart._running._process.pid, flush=True)\n"
        "while True: signal.pause()\n"
    ).replace("import sys\n", "import signal, sys\n", 1)
    worker = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        worker.stdin.write(GOOD)
        worker.stdin.close()
        pid = int(worker.stdout.readline())
        os.kill(pid, 0)
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()
    wait_until(lambda: not Path(f"/proc/{pid}/exe").exists(), "the end of the other process")

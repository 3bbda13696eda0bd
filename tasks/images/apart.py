"""Runs ``render`` in a child process, which is used for many images; a new child replaces one that has ended.

A file that would use up a worker's memory, or block it for minutes, ends the child instead. The first try then gives a
permanent error, and nothing else in the worker is affected. docs/images.md has the costs.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict
from typing import Any

from pipeline.core import errors
from pipeline.core.errors import DamagedImage, PermanentError, TooCostly, TransientError
from tasks.images.limits import Limits
from tasks.images.render import Recipe, Rendition

#: Number of images after which a new child replaces the old one, which frees memory that libraries have leaked.
_IMAGES_EACH = 1000
#: Bytes that the shared file keeps between images, so that the kernel need not allocate its pages for each photo.
_KEPT_BYTES = 16_000_000
#: The size of ``tasks.images.child.ANSWER``; only the child imports that module.
_HEAD_BYTES = 8

#: Makes glibc keep the memory of one image for the next. Otherwise new pages cost 3 ms for a web photo, and 20 ms for
#: 12 megapixels.
_KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "100000000", "MALLOC_MMAP_THRESHOLD_": "33554432"}

_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)


def render(data: bytes, recipe: Recipe, limits: Limits = Limits()) -> Rendition:  # noqa: B008 - frozen
    """Does what ``tasks.images.render.render`` does, within the limits' ``max_memory_mb`` and ``max_cpu_s``.

    Raises the same errors, and ``TooCostly`` when the child reaches a limit, ``DamagedImage`` when the decoder crashes,
    and ``TransientError`` when something else ends the child.
    """
    limits.check_bytes(len(data))
    with _using:
        return _child(limits.max_memory_mb).render(data, recipe, limits)


class _Ended(Exception):
    """The child had ended before it could answer."""


class _Child:
    def __init__(self, memory_mb: int) -> None:
        self.memory_mb = memory_mb
        self.owner = os.getpid()  # a process forked from this one needs its own child
        self._left = _IMAGES_EACH
        self._closed = False
        if hasattr(os, "memfd_create"):
            self._shared = os.memfd_create("image", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as file:
                self._shared = os.dup(file.fileno())
        path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
        # The process that decodes untrusted uploads gets no credentials.
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ECS_"))}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tasks.images.child", str(self._shared), str(memory_mb)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(self._shared,),
                env=environ | _KEEP_MEMORY | {"PYTHONPATH": path},
            )
            if self._process.stdin is None or self._process.stdout is None:
                raise TypeError("both were asked to be pipes")
            self._requests, self._answers = self._process.stdin, self._process.stdout
        except OSError as exc:
            os.close(self._shared)
            raise TransientError(f"The process that decodes images could not be started: {exc.strerror}") from exc

    @property
    def usable(self) -> bool:
        return self._left > 0 and not self._closed and self._process.poll() is None

    def render(self, data: bytes, recipe: Recipe, limits: Limits) -> Rendition:
        self._left -= 1
        try:
            said, picture = self._ask(data, recipe, limits)
        except _Ended:
            raise self._why_it_ended(limits) from None
        except BaseException:  # usually the soft time limit: the answer is no longer wanted
            self.close()
            raise
        if "rendition" in said:
            return Rendition(**said["rendition"] | {"data": picture})
        if said["error"] is None:
            raise RuntimeError(said["message"])
        kind = getattr(errors, said["error"], PermanentError)
        error: PermanentError = kind(said["message"], advice=said["advice"])
        raise error

    def close(self) -> None:
        """Kills the child, unless it has ended."""
        if self._closed:
            return
        self._closed = True
        self._process.kill()
        self._process.communicate()
        os.close(self._shared)

    def disown(self) -> None:
        """In a forked process: closes the pipes, and leaves the parent's child alone."""
        self._process.returncode = 0
        self._requests.close()
        self._answers.close()
        os.close(self._shared)

    def _ask(self, data: bytes, recipe: Recipe, limits: Limits) -> tuple[dict[str, Any], bytes]:
        self._share(data)
        request = {"size": len(data), "recipe": asdict(recipe), "limits": asdict(limits)}
        try:
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.flush()
        except BrokenPipeError:
            raise _Ended from None
        head = self._read(_HEAD_BYTES)
        said = self._read(int.from_bytes(head[:4], "big"))
        return json.loads(said), self._read(int.from_bytes(head[4:], "big"))

    def _share(self, data: bytes) -> None:
        view, at = memoryview(data), 0
        while at < len(data):
            at += os.pwrite(self._shared, view[at:], at)
        if len(data) <= _KEPT_BYTES < os.fstat(self._shared).st_size:
            os.ftruncate(self._shared, _KEPT_BYTES)

    def _read(self, size: int) -> bytes:
        found = self._answers.read(size)
        if len(found) < size:
            raise _Ended
        return found

    def _why_it_ended(self, limits: Limits) -> Exception:
        code = self._process.wait()
        self.close()
        if code == -signal.SIGXCPU:
            return TooCostly(
                f"Decoding the image costs too much: it took more than {limits.max_cpu_s} s of CPU time, "
                "the limit MAX_CPU_S."
            )
        if -code in _CRASHES:
            return DamagedImage(f"The decoder crashed on the file ({signal.Signals(-code).name}).")
        return TransientError(f"The process that decodes images was ended from outside (status {code}).")


_using = threading.Lock()
_running: _Child | None = None


def _child(memory_mb: int) -> _Child:
    global _running  # noqa: PLW0603 - one for each process, for as long as that lives
    if _running is not None and _running.owner != os.getpid():
        _running.disown()
        _running = None
    if _running is not None and not (_running.usable and _running.memory_mb == memory_mb):
        stop()
    if _running is None:
        _running = _Child(memory_mb)
    return _running


def stop() -> None:
    """Ends the child, if there is one; the next image starts a new one."""
    global _running
    ending, _running = _running, None
    if ending is not None and ending.owner == os.getpid():
        ending.close()


atexit.register(stop)

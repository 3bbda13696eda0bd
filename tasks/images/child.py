"""The child process that decodes and renders untrusted uploads, so that its parent can end it.

It limits its memory once (RLIMIT_AS), and its CPU time for each image (RLIMIT_CPU). It reads requests from standard
input, one line of JSON each, and the file from a descriptor that it shares with the parent. It writes answers to
standard output, and ends when the parent does.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import struct
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import Any, BinaryIO

from pipeline.core.errors import PermanentError
from tasks.images.limits import Limits
from tasks.images.render import Recipe, render

#: Precedes each answer: the length of its JSON, and of the picture that follows the JSON.
ANSWER = struct.Struct(">II")


def main() -> None:
    shared = int(sys.argv[1])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries print to standard output too
    for ignored in (signal.SIGINT, signal.SIGTERM):  # the whole process group gets them when the worker shuts down
        signal.signal(ignored, signal.SIG_IGN)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, _address_space() + int(sys.argv[2]) * 1_000_000)
    for line in sys.stdin.buffer:
        _answer(answers, *_rendered(json.loads(line), shared))


def _rendered(request: dict[str, Any], shared: int) -> tuple[dict[str, Any], bytes]:
    limits = Limits(**request["limits"])
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime) + limits.max_cpu_s)
    recipe = Recipe(**request["recipe"] | {"box": tuple(request["recipe"]["box"])})
    try:
        rendition = render(os.pread(shared, request["size"], 0), recipe, limits)
    except PermanentError as exc:
        return {"error": type(exc).__name__, "message": str(exc), "advice": exc.advice}, b""
    except Exception as exc:  # a defect in this code: the parent raises it
        return {"error": None, "message": f"{type(exc).__name__}: {exc}"}, b""
    return {"rendition": asdict(rendition) | {"data": None}}, rendition.data


def _answer(answers: BinaryIO, said: dict[str, Any], picture: bytes) -> None:
    text = json.dumps(said).encode()
    answers.write(ANSWER.pack(len(text), len(picture)) + text + picture)
    answers.flush()


def _limit(what: int, value: int) -> None:
    """Sets the soft limit, which can be raised again; does nothing if the system has no such limit."""
    with suppress(ValueError, OSError):
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _address_space() -> int:
    """The number of bytes that this process has mapped."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 500_000_000


if __name__ == "__main__":
    main()

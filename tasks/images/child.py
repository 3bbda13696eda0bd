"""The process that renders for another one: what strangers upload is decoded where it can be ended.

Its memory is limited once (RLIMIT_AS), its CPU time for each image (RLIMIT_CPU). Requests come by its standard input,
a line of JSON each, and the file by a descriptor that both have; answers go to its standard output. It ends when
the other process does.
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

#: Before each answer: the bytes of its JSON, and of the picture behind that.
ANSWER = struct.Struct(">II")


def main() -> None:
    shared = int(sys.argv[1])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    for ignored in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group when the work in hand is to be finished
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
    except Exception as exc:  # a defect of ours: the other process raises it
        return {"error": None, "message": f"{type(exc).__name__}: {exc}"}, b""
    return {"rendition": asdict(rendition) | {"data": None}}, rendition.data


def _answer(answers: BinaryIO, said: dict[str, Any], picture: bytes) -> None:
    text = json.dumps(said).encode()
    answers.write(ANSWER.pack(len(text), len(picture)) + text + picture)
    answers.flush()


def _limit(what: int, value: int) -> None:
    """The soft limit, so that it can be moved; where the system knows no such limit, there is none."""
    with suppress(ValueError, OSError):
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _address_space() -> int:
    """Bytes that this process has mapped already."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 500_000_000


if __name__ == "__main__":
    main()

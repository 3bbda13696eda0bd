"""A route of a user's own with two tasks in a chain, and one that is chosen by content."""

from __future__ import annotations

from typing import Any

from pipeline import app
from pipeline.core.errors import PermanentError
from pipeline.core.outputs import Output
from pipeline.core.routes import Route
from pipeline.s3.content import begins_with
from tasks import ObjectTask, derive

UPPER = Output(folder="upper/", append_suffix=".txt", content_type="text/plain", recipe="u1")
LENGTH = Output(folder="length/", recipe="l1")
MAGIC = Output(folder="magic/", append_suffix=".txt")


class NoText(PermanentError):
    """The test's own kind of bad file."""

    reason = "no-text"
    advice = "Upload text."


def upper(data: bytes) -> bytes:
    if b"\0" in data:
        raise NoText("It has a NUL.")
    if data == b"defect":
        raise ValueError("a defect")
    return data.upper()


def length(data: bytes) -> bytes:
    return str(len(data)).encode()


@app.task(name="own.upper", bind=True, base=ObjectTask, shared=False)
def make_upper(self: ObjectTask, source: str | dict[str, Any]) -> dict[str, Any]:
    return derive(self, source, UPPER, upper)


@app.task(name="own.length", bind=True, base=ObjectTask, shared=False)
def make_length(self: ObjectTask, source: str | dict[str, Any]) -> dict[str, Any]:
    return derive(self, source, LENGTH, length)


@app.task(name="own.magic", bind=True, base=ObjectTask, shared=False)
def make_magic(self: ObjectTask, source: str | dict[str, Any]) -> dict[str, Any]:
    return derive(self, source, MAGIC, upper)


ROUTES = (
    Route(name="own", match_suffixes=(".own",), tasks=(make_upper.name, make_length.name), outputs=(UPPER, LENGTH)),
    Route(
        name="magic",
        prefix="any/",
        content=begins_with(b"MAGIC", b"magic"),
        tasks=(make_magic.name,),
        outputs=(MAGIC,),
    ),
)
NAMES = "tests.support.own_route,pipeline.images"

"""A route one of whose outputs no task writes, and a rule that goes by the size."""

from __future__ import annotations

from typing import Any

from pipeline import app
from pipeline.core.outputs import Output
from pipeline.core.routes import Route
from pipeline.core.source import Source
from tasks import ObjectTask, derive

WRITTEN, FORGOTTEN = Output(folder="written/"), Output(folder="forgotten/")


def is_long(source: Source) -> bool:
    return source.size > 3  # type: ignore[operator]  # what users write


@app.task(name="unwritten.copy", bind=True, base=ObjectTask, shared=False)
def copy(self: ObjectTask, source: str | dict[str, Any]) -> dict[str, Any]:
    return derive(self, source, WRITTEN, lambda data: data)


ROUTES = [
    Route(name="half", match_suffixes=[".half"], tasks=[copy.name], outputs=[WRITTEN, FORGOTTEN], content=is_long)
]

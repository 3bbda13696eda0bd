"""The result of the pipeline's tasks, and the parts of it that people see and metrics count."""

from __future__ import annotations

import json
from collections import UserDict
from collections.abc import Mapping
from typing import Any

from rich.filesize import decimal

from pipeline.sqs.installation import Number, ResultFacts


class TaskResult(UserDict[str, Any]):
    """A task's result: on the wire the same JSON object, but a ``repr`` of a few facts.

    Celery puts the ``repr`` into its log line and into the event; a plain dict would be dumped whole.
    """

    def __json__(self) -> dict[str, Any]:
        return self.data

    def __repr__(self) -> str:
        return json.dumps(facts(self.data))


def facts(result: dict[str, Any]) -> dict[str, Any]:
    """The outcome, the size of the rendition, and the numbers of ``FACTS``, if they are known."""
    read, rendition = result.get("read", {}), result.get("rendition", {})
    found = {
        "outcome": result.get("outcome"),
        "width": rendition.get("width"),
        "height": rendition.get("height"),
        "bytes_in": read.get("bytes"),
        "bytes_out": rendition.get("bytes"),
        "pixels_in": read["width"] * read["height"] if "width" in read else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def describe(known: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a task's event, from the facts of its result."""
    fields = {name: value for name, value in known.items() if name == "outcome" or name in FACTS.numbers}
    if known["outcome"] != "done":
        fields.pop("bytes_out", None)  # the rendition was stored before: metrics count only new ones
    return fields | {"result": _sentence(known)}


def _sentence(known: Mapping[str, Any]) -> str:
    is_sized = bool(known.get("width"))
    if not is_sized and (known["outcome"] != "done" or "bytes_out" not in known):
        return str(known["outcome"])
    size = f"{known['width']}x{known['height']}, " if is_sized else ""
    made = f"→ {size}{decimal(known['bytes_out'])}"
    return made if known["outcome"] == "done" else f"{known['outcome']} {made}"


FACTS = ResultFacts(
    numbers={
        "bytes_in": Number("BytesIn", "Bytes", "read_bytes", "Bytes of the images that were read"),
        "bytes_out": Number("BytesOut", "Bytes", "written_bytes", "Bytes of the renditions that were made"),
        "pixels_in": Number("PixelsIn", "Count", "read_pixels", "Pixels of the images that were read"),
    },
    describe=describe,
)

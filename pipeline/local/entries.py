"""What the contact sheet's script is told of each file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipeline.local.results import FileResult, FileState

#: Names of formats whose files have several endings; the others are called as their ending.
FORMATS = {"jpg": "JPEG", "jpe": "JPEG", "jfif": "JPEG", "tif": "TIFF", "heif": "HEIC", "hif": "HEIC"}

#: From a file's key to the address of its original, relative to the page; None: there is none to show.
Original = Callable[[str], str | None]


def entry(result: FileResult, original: Original, *, version: int | None = None) -> dict[str, Any]:
    """A file as JSON. ``saved``: bytes that the largest picture has less than the original; null if there is none.

    ``version``: for a page that stays open while files are made again, whose addresses must change then.
    """
    query = "" if version is None else f"?v={version}"
    largest = result.largest
    ending = result.key.rpartition("/")[2].rpartition(".")[2] if "." in result.key else ""
    return {
        "key": result.key,
        "state": result.state.value,
        "format": FORMATS.get(ending.lower(), ending.upper()),
        "reason": result.reason,
        "advice": result.advice,
        "salvaged": result.salvaged,
        "original": original(result.key),
        "size": result.source_size,
        "bytes": result.source_bytes if result.state is FileState.DONE else None,
        "saved": None if largest is None else result.source_bytes - largest.bytes,
        "largest": None if largest is None else result.outputs.index(largest),
        "preview": None if result.preview is None else result.outputs.index(result.preview),
        "outputs": [
            {
                "name": output.folder,
                "path": output.path,
                "href": quote(output.path) + query,
                "bytes": output.bytes,
                "size": list(output.size),
                "picture": output.is_picture,
            }
            for output in result.outputs
        ],
    }


def beside(out: Path, originals: Mapping[str, Path]) -> Original:
    """The originals where they are on disk, for a page in ``out`` that is opened from there."""
    here = out.resolve()

    def original(key: str) -> str | None:
        path = originals.get(key)
        return None if path is None else quote(os.fsencode(os.path.relpath(path.absolute(), here)))

    return original

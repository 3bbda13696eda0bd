"""The JSON that the contact sheet's script gets for each file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipeline.local.results import FileResult, FileState

#: Formats that have several file endings; all others are named by their ending.
FORMATS = {"jpg": "JPEG", "jpe": "JPEG", "jfif": "JPEG", "tif": "TIFF", "heif": "HEIC", "hif": "HEIC"}

#: Returns the address of a key's original, relative to the page; None if there is none to show.
Original = Callable[[str], str | None]


def entry(result: FileResult, original: Original, *, version: int | None = None) -> dict[str, Any]:
    """A file as JSON. ``saved``: the original's bytes minus those of the largest picture; null without a picture.

    ``version``: added to the addresses, so that an open page loads pictures again that have changed.
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
    """Addresses of the originals on disk, for a page that is opened from ``out``."""
    here = out.resolve()

    def original(key: str) -> str | None:
        path = originals.get(key)
        return None if path is None else quote(os.fsencode(os.path.relpath(path.absolute(), here)))

    return original

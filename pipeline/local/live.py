"""Answers the requests of the live contact sheet."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipeline.local import sheet
from pipeline.local.board import Board, Phase
from pipeline.local.entries import entry
from pipeline.local.page_server import Answer
from pipeline.local.workbench import Refused, Workbench

#: Content types that some versions of Python do not know.
TYPES = {
    ".avif": "image/avif",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".hif": "image/heif",
    ".webp": "image/webp",
}


class Live:
    """``read``: returns a key's original as bytes, None if it was deleted."""

    def __init__(self, board: Board, workbench: Workbench, out: Path, read: Callable[[str], bytes | None]) -> None:
        self._board = board
        self._workbench = workbench
        self._out = out
        self._read = read

    def get(self, path: str, query: dict[str, str]) -> Answer | None:
        """The page, changed results, or a file. Serves only files that a result names."""
        match path.partition("/")[0]:
            case "":
                return Answer(sheet.live_page().encode(), "text/html; charset=utf-8")
            case "news":
                since = query.get("since", "")
                return Answer.json(self._news(int(since) if since.isdecimal() else 0))
            case "original":
                return self._original(query.get("key", ""))
            case "trial":
                number = path.partition("/")[2]
                found = self._workbench.picture(int(number)) if number.isdecimal() else None
                return None if found is None else Answer(*found, is_file=True)
        return self._output(path)

    def post(self, path: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Raises ``Refused``."""
        if path == "try":
            return self._workbench.attempt(asked)
        if path == "use":
            self._workbench.use(asked)
            return {}
        raise Refused("there is no such thing here")

    def _news(self, since: int) -> dict[str, Any]:
        news = self._board.news(since)
        return {
            "revision": news.revision,
            "phase": self._board.phase.value,
            "wanted": self._board.wanted,
            "may_use": self._board.phase is Phase.WAITING,
            "renditions": self._workbench.renditions(),
            "changed": [entry(result, _original_address, version=news.revision) for result in news.changed],
            "removed": news.removed,
        }

    def _original(self, key: str) -> Answer | None:
        data = None if self._board.get(key) is None else self._read(key)
        ending = Path(key).suffix.lower()
        kind = TYPES.get(ending) or mimetypes.types_map.get(ending, "")
        is_picture = kind.startswith("image/")
        return None if data is None else Answer(data, kind if is_picture else "application/octet-stream", is_file=True)

    def _output(self, path: str) -> Answer | None:
        output = self._board.output(path)
        if output is None:
            return None
        try:
            return Answer((self._out / output.path).read_bytes(), output.content_type, is_file=True)
        except OSError:
            return None  # removed meanwhile


def _original_address(key: str) -> str:
    return f"original?key={quote(key, safe='')}"

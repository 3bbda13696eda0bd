"""The page of a run that goes on, without the run: a board, a workbench with one photo, and the real server."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from PIL import Image

from pipeline.core.settings import Settings
from pipeline.local.board import Board, Phase
from pipeline.local.live import Live
from pipeline.local.page_server import PageServer
from pipeline.local.results import FileResult, FileState, OutputFile
from pipeline.local.workbench import Workbench

KEY = "holidays/ü <b>.png"


@dataclass
class LivePage:
    url: str
    board: Board
    workbench: Workbench
    orders: SimpleQueue[str]
    original: bytes


def encoded(size: tuple[int, int], form: str) -> bytes:
    out = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(out, form)
    return out.getvalue()


@contextmanager
def live_page(out: Path, **variables: str) -> Iterator[LivePage]:
    """Serves the page of one photo that is done, and waits for more. ``variables``: settings."""
    original, board, orders = encoded((200, 150), "PNG"), Board(1), SimpleQueue[str]()
    (out / "resized").mkdir(parents=True)
    made = encoded((100, 75), "PNG")
    (out / "resized" / "a.png").write_bytes(made)
    output = OutputFile("resized/a.png", "resized", len(made), "image/png", (100, 75))
    board.put(FileResult(KEY, FileState.DONE, "", "", "200x150", len(original), outputs=(output,)))
    board.phase = Phase.WAITING
    settings = Settings.from_env({"RENDITIONS": "resized=100x100"} | variables)
    read = {KEY: original}.get
    workbench = Workbench(board, lambda: settings, read, orders)
    with PageServer(Live(board, workbench, out, read)) as server:
        yield LivePage(server.url, board, workbench, orders, original)

"""sharp as a judge, if npm has installed it; otherwise only the others judge."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from PIL import Image

from benchmarks.referee.comparing import JUDGED_SIDE

#: The folder where `make referee` and `make bench` install sharp with npm.
FOLDER = Path(__file__).parents[1] / "contenders"


class Sharp:
    def __init__(self, process: subprocess.Popen[str], requests: IO[str], answers: IO[str], folder: Path) -> None:
        self._process, self._requests, self._answers, self._folder = process, requests, answers, folder
        self.version: str = self._answer()["version"]

    def draw(self, data: bytes, *, strict: bool) -> Image.Image:
        """The picture as RGBA. Raises ``ValueError`` with sharp's message; with ``strict``, also for any fault."""
        file, out = self._folder / "file", self._folder / "out.png"
        file.write_bytes(data)
        request = {"file": str(file), "out": str(out), "side": JUDGED_SIDE, "strict": strict}
        print(json.dumps(request), file=self._requests, flush=True)
        answer = self._answer()
        if "error" in answer:
            raise ValueError(answer["error"])
        with Image.open(out) as image:
            return image.convert("RGBA")

    def _answer(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            raise ChildProcessError(f"sharp ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def sharp() -> Iterator[Sharp | None]:
    """The judge; None if sharp is not installed."""
    node = shutil.which("node")
    if node is None or not (FOLDER / "node_modules" / "sharp").is_dir():
        yield None
        return
    command = [node, str(Path(__file__).with_suffix(".mjs")), str(FOLDER)]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
    ):
        if process.stdin is None or process.stdout is None:
            raise ChildProcessError("node has no pipes")
        try:
            yield Sharp(process, process.stdin, process.stdout, Path(folder))
        finally:
            process.kill()

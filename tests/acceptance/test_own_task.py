"""The example of a task of one's own, and routes by content, in the real processes, beside photos."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from examples.pdf_pages import NotAPdf, first_page
from tests.support import own_route
from tests.support.waiting import DEADLINE_S

ROOT = Path(__file__).parents[2]
RED = (200, 30, 40)


def pdf(size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, RED).save(out, "PDF")
    return out.getvalue()


def test_every_file_goes_its_own_way(tmp_path: Path) -> None:
    files = tmp_path / "files"
    for name, data in {
        "a b/ü.PDF": pdf((400, 300)),
        "broken.pdf": b"%PDF-1.7 nothing",
        "any/magic": b"MAGIC word",
        "any/other": b"something else",
        "note.txt": b"-",
    }.items():
        files.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        files.joinpath(name).write_bytes(data)
    Image.new("RGB", (64, 48), RED).save(files / "photo.jpg")
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "local", files, "--out", out],
        env=os.environ | {"ROUTES": f"examples.pdf_pages,{own_route.NAMES}"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, ""), done.stdout
    assert "3 done, 1 failed, 2 skipped" in done.stdout
    assert "failed: broken.pdf: Its first page can't be drawn" in done.stdout

    stored = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    page = "pages/a b/ü.PDF.png"
    assert stored == {"index.html", page, "magic/any/magic.txt", "resized/photo.jpg", "thumbs/photo.jpg"}
    assert (out / "magic/any/magic.txt").read_bytes() == b"MAGIC WORD"
    with Image.open(out / page) as image:
        assert image.size == (1024, 768)
        assert all(abs(found - wanted) < 6 for found, wanted in zip(image.getpixel((500, 400)), RED, strict=True))  # type: ignore[arg-type]
    sheet = (out / "index.html").read_text()
    for text in ('src="pages/a%20b/%C3%BC.PDF.png"', "magic/any/magic.txt", NotAPdf.advice.partition(",")[0]):
        assert text in sheet, text
    assert "magic: its content is something else" in sheet


@pytest.mark.parametrize("data", [b"", b"%PDF-1.7", pdf((400, 300))[:300]])
def test_what_is_no_pdf_is_the_file_s_own_fault(data: bytes) -> None:
    with pytest.raises(NotAPdf, match="can't be drawn"):
        first_page(data)

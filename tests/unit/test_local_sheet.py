"""What the contact sheet says of a file beside its pictures."""

from __future__ import annotations

from pathlib import Path

from pipeline.local import sheet
from pipeline.local.results import FileResult, FileState, OutputFile


def test_a_salvaged_picture_is_marked_and_a_whole_one_is_not(tmp_path: Path) -> None:
    picture = OutputFile("thumbs/a.jpg", "thumbs", 10, "image/jpeg", (200, 150))
    wrong = "the checksum of the chunk <tEXt> is wrong"
    salvaged = FileResult("a.jpg", FileState.DONE, salvaged=wrong, outputs=(picture,))
    whole = FileResult("b.jpg", FileState.DONE, outputs=(picture,))
    page = sheet.write(tmp_path, [whole, salvaged], seconds=1).read_text(encoding="utf-8")
    assert page.count("salvaged: ") == 1
    assert "salvaged: the checksum of the chunk &lt;tEXt&gt; is wrong" in page
    assert page.index("a.jpg") < page.index("salvaged: ") < page.index("b.jpg")

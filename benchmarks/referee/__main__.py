"""Pictures of a public corpus, rendered here and by libvips: ``make referee``.

The corpus is the test pictures in Pillow's source archive, pinned. libvips decodes with code of its own or with other
versions of the libraries. Writes a page to look through, and the table of docs/images.md. Fails when a picture differs
that is not in ``accepted.txt``, or when one that is listed differs no more: the list may only shrink.
"""

from __future__ import annotations

import base64
import html
import io
import subprocess
import sys
import tarfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyvips
from PIL import Image, ImageChops, ImageStat

from pipeline.core.errors import PermanentError
from tasks.images import apart
from tasks.images.render import Recipe

CORPUS = "pillow==12.0.0"
BOX = (128, 128)
#: Mean difference of samples that nobody sees: other upsampling of chroma, other rounding, another CMYK formula.
SAME_WITHIN = 6.0
HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "images.md"
BEGINS, ENDS = "<!-- referee: make referee -->\n", "<!-- end of referee -->\n"


@dataclass(frozen=True, slots=True)
class Verdict:
    name: str
    verdict: str  # "right", "differs", "refused: unsupported", "only here"…
    seconds: float
    detail: str = ""
    ours: bytes = b""
    theirs: bytes = b""


def corpus(folder: Path) -> dict[str, bytes]:
    """The archive's pictures by name; downloaded once."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    if not list(folder.glob("*.tar.gz")):
        subprocess.run([*pip, "--no-binary", "pillow", "--dest", folder, CORPUS], check=True)
    (archive,) = folder.glob("*.tar.gz")
    found = {}
    with tarfile.open(archive) as files:
        for member in files:
            _, _, name = member.name.partition("/Tests/images/")
            content = files.extractfile(member) if name and member.isfile() else None
            if content is not None:
                found[name] = content.read()
    return dict(sorted(found.items()))


def judge(name: str, data: bytes) -> Verdict:
    began = time.perf_counter()
    try:
        ours = apart.render(data, Recipe(BOX, "PNG")).data
        refused = ""
    except PermanentError as exc:
        ours, refused = b"", f"refused: {exc.reason}|{exc}"
    seconds = time.perf_counter() - began
    try:
        theirs = _by_vips(data)
    except pyvips.Error as exc:
        said = str(exc).strip().splitlines()[-1:] or [""]
        verdict, _, detail = (refused or f"only here|{said[0]}").partition("|")
        return Verdict(name, verdict, seconds, detail, ours)
    if refused:
        verdict, _, detail = refused.partition("|")
        return Verdict(name, verdict, seconds, detail, theirs=theirs)
    a, b = (_on_white(picture) for picture in (ours, theirs))
    if a.size != b.size:
        return Verdict(name, "differs", seconds, f"{a.size} and {b.size}", ours, theirs)
    difference = max(ImageStat.Stat(ImageChops.difference(a, b)).mean)
    return Verdict(
        name, "right" if difference <= SAME_WITHIN else "differs", seconds, f"{difference:.1f}", ours, theirs
    )


def _by_vips(data: bytes) -> bytes:
    picture = pyvips.Image.thumbnail_buffer(data, BOX[0], height=BOX[1], size="down", export_profile="srgb")
    return bytes(picture.write_to_buffer(".png", keep="none"))


def _on_white(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        shown = image.convert("RGBA")
    white = Image.new("RGBA", shown.size, "white")
    white.alpha_composite(shown)
    return white.convert("RGB")


def table(verdicts: list[Verdict]) -> str:
    counted = Counter(found.verdict for found in verdicts)
    slowest = max(verdicts, key=lambda found: found.seconds)
    rows = [f"| {verdict} | {count} |\n" for verdict, count in sorted(counted.items())]
    return (
        f"| {len(verdicts)} files of {CORPUS}, against libvips {pyvips.version(0)}.{pyvips.version(1)} | files |\n"
        f"|---|---|\n{''.join(rows)}\nThe slowest took {slowest.seconds:.1f} s ({slowest.name}).\n"
    )


def page(verdicts: list[Verdict]) -> str:
    def picture(data: bytes) -> str:
        return f'<img src="data:image/png;base64,{base64.b64encode(data).decode()}">' if data else "–"

    rows = "".join(
        f"<tr><td>{html.escape(found.name)}<td>{found.verdict}<td>{picture(found.ours)}<td>{picture(found.theirs)}"
        f"<td>{html.escape(found.detail)}"
        for found in sorted(verdicts, key=lambda found: (found.verdict, found.name))
    )
    style = "<style>body{font:14px sans-serif}td{border-bottom:1px solid #ccc;padding:4px}img{background:#e8e}</style>"
    head = f"<!doctype html><meta charset=utf-8><title>Referee</title>{style}"
    return f"{head}<table><tr><th>file<th><th>here<th>libvips<th>{rows}</table>"


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    verdicts = [judge(name, data) for name, data in corpus(folder).items()]
    (folder / "index.html").write_text(page(verdicts), encoding="utf-8")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGINS)
    PAGE.write_text(before + BEGINS + table(verdicts) + ENDS + rest.partition(ENDS)[2], encoding="utf-8")
    print(table(verdicts), f"Look through {folder / 'index.html'}", sep="\n")
    accepted = (HERE / "accepted.txt").read_text(encoding="utf-8").splitlines()
    listed = {line.partition(": ")[0] for line in accepted}  # behind the name: why
    differing = {found.name for found in verdicts if found.verdict == "differs"}
    for name in sorted(differing - listed):
        print(f"differs, and is not accepted: {name}")
    for name in sorted(listed - differing):
        print(f"differs no more, take it out of accepted.txt: {name}")
    return 1 if differing != listed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""One file: what is made of it here, what it costs, what libvips and Chromium make of it, and what follows."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyvips
from PIL import Image, ImageChops, ImageStat

from benchmarks.referee.chromium import Chromium
from benchmarks.referee.ledger import NEEDS_ACCEPTANCE, verdict_of
from pipeline.core.errors import PermanentError
from tasks.images import apart
from tasks.images.decode import fit
from tasks.images.identify import identify
from tasks.images.render import Recipe

BOX = (192, 192)
#: Mean difference of samples that nobody sees: other upsampling of chroma, other rounding, another filter.
SAME_MEAN = 6.0
#: The same of the worst part of the picture, of this many pixels on a side.
SAME_PART, PART_SIDE = 48.0, 16
#: What a judge gives is no larger; then all are made smaller alike.
_JUDGED_SIDE = 1024
#: What is behind transparent pixels: white would hide that they are.
_BEHIND = (255, 0, 255, 255)

CPU_BOUND_S, MEMORY_BOUND_MB = 10.0, 500.0
VIPS, CHROMIUM = "libvips", "Chromium"


@dataclass(frozen=True, slots=True)
class Case:
    corpus: str
    name: str
    verdict: str  # of `verdict_of`
    reason: str = ""  # why it was refused: one of the five
    detail: str = ""
    cpu_s: float = 0.0
    memory_mb: float = 0.0
    pictures: Mapping[str, Image.Image] = field(default_factory=dict)  # by who made it

    @property
    def needs_acceptance(self) -> bool:
        return self.verdict in NEEDS_ACCEPTANCE


def judge(corpus: str, name: str, data: bytes, browser: Chromium) -> Case:
    apart.render(_WARM, Recipe(BOX, "PNG"))  # a process is there, and it is warm
    pid = apart._running._process.pid if apart._running is not None else 0
    before_s, before_mb = _cpu_s(pid), _memory_mb(pid, forget=True)
    ours: Image.Image | None = None
    refusal: PermanentError | None = None
    try:
        ours = _opened(apart.render(data, Recipe(BOX, "PNG")).data)
    except PermanentError as exc:
        refusal = exc
    alive = apart._running is not None and apart._running._process.pid == pid and apart._running.usable
    cpu_s, memory_mb = (_cpu_s(pid) - before_s, _memory_mb(pid) - before_mb) if alive else (0.0, 0.0)
    judged: dict[str, Image.Image] = {}
    said: list[str] = [] if refusal is None else [f"here: {refusal}"]
    for who in (VIPS, CHROMIUM):
        try:
            drawn = browser.draw(data) if who == CHROMIUM else _by_vips(data, strict=refusal is not None)
            judged[who] = _opened(drawn)
        except (ValueError, OSError, pyvips.Error, Image.DecompressionBombError) as exc:
            said.append(f"{who}: {(str(exc).strip().splitlines() or ['?'])[-1][:200]}")
    if ours is None:
        foreign = _is_foreign(data)
        both = VIPS in judged and CHROMIUM in judged and _difference(*_alike(judged[VIPS], judged[CHROMIUM])) is None
        verdict = "another format" if foreign else "refused, and shown whole by both" if both else "refused"
    else:
        differences = {who: _compared(ours, picture) for who, picture in judged.items()}
        said += [f"{who}: {what}" for who, what in differences.items() if what is not None]
        verdict = verdict_of([what is None for what in differences.values()])
    reason = "" if refusal is None else refusal.reason
    shown = ({} if ours is None else {"here": ours}) | {who: _small(picture) for who, picture in judged.items()}
    return Case(corpus, name, verdict, reason, "; ".join(said), cpu_s, memory_mb, shown)


def _compared(ours: Image.Image, theirs: Image.Image) -> str | None:
    """What is different, if anything is."""
    size = fit(theirs.size, BOX)
    if max(abs(a - b) for a, b in zip(size, ours.size, strict=True)) > 1 + _slack(theirs.size):
        return f"{ours.width}x{ours.height} here, {size[0]}x{size[1]} there"
    return _difference(ours, theirs.resize(ours.size, Image.Resampling.LANCZOS))


def _slack(size: tuple[int, int]) -> int:
    """A judge has rounded before: by up to a pixel of what it gave."""
    return 1 if max(size) >= _JUDGED_SIDE and min(size) < 64 else 0


def _alike(one: Image.Image, other: Image.Image) -> tuple[Image.Image, Image.Image]:
    size = fit(one.size, BOX)
    if fit(other.size, BOX) != size:
        return one, Image.new("RGBA", (1, 1))
    return one.resize(size, Image.Resampling.LANCZOS), other.resize(size, Image.Resampling.LANCZOS)


def _difference(one: Image.Image, other: Image.Image) -> str | None:
    if one.size != other.size:
        return "another size"
    a, b = (Image.alpha_composite(Image.new("RGBA", i.size, _BEHIND), i).convert("RGB") for i in (one, other))
    difference = ImageChops.difference(a, b)
    mean = max(ImageStat.Stat(difference).mean)
    parts = max(1, a.width // PART_SIDE), max(1, a.height // PART_SIDE)
    part = max(high for _, high in difference.resize(parts, Image.Resampling.BOX).getextrema())  # type: ignore[misc]
    return None if mean <= SAME_MEAN and part <= SAME_PART else f"{mean:.1f} off, {part} in one part"


def _small(picture: Image.Image) -> Image.Image:
    return picture.resize(fit(picture.size, BOX), Image.Resampling.LANCZOS)


def _by_vips(data: bytes, *, strict: bool) -> bytes:
    """``strict``: only what libvips finds no fault with."""
    picture = pyvips.Image.thumbnail_buffer(
        data,
        _JUDGED_SIDE,
        height=_JUDGED_SIDE,
        size="down",
        export_profile="srgb",
        fail_on="warning" if strict else "none",
    )
    return bytes(picture.write_to_buffer(".png", keep="none", compression=1, bitdepth=8))


def _opened(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGBA")


def _is_foreign(data: bytes) -> bool:
    try:
        identify(data)
    except PermanentError:
        return True
    return False


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_mb(pid: int, *, forget: bool = False) -> float:
    """The most that the process has had; ``forget``: what it has now, and what it had before is forgotten."""
    try:
        if forget:
            Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return next(int(line.split()[1]) * 1024 / 1e6 for line in status.splitlines() if line.startswith("VmHWM"))


def _warm() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 64)).save(out, "JPEG")
    return out.getvalue()


_WARM = _warm()

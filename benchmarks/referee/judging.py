"""Judges one file: our rendition and its cost, each judge's picture, and the verdict."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from benchmarks.referee.comparing import BOX, alike, compared, small
from benchmarks.referee.ledger import NEEDS_ACCEPTANCE, verdict_of
from pipeline.core.errors import PermanentError
from tasks.images import apart
from tasks.images.identify import identify
from tasks.images.render import Recipe

CPU_BOUND_S, MEMORY_BOUND_MB = 10.0, 500.0
CHROMIUM = "Chromium"


@dataclass(frozen=True, slots=True)
class Judge:
    name: str
    version: str
    #: The picture of a file, as RGBA. With True, raises ``ValueError`` for a file with any fault.
    draw: Callable[[bytes, bool], Image.Image]


@dataclass(frozen=True, slots=True)
class Case:
    corpus: str
    name: str
    verdict: str  # from `verdict_of`
    reason: str = ""  # why it was refused: a reason of an error
    detail: str = ""
    cpu_s: float = 0.0
    memory_mb: float = 0.0
    pictures: Mapping[str, Image.Image] = field(default_factory=dict)  # by who made it

    @property
    def needs_acceptance(self) -> bool:
        return self.verdict in NEEDS_ACCEPTANCE


def judge(corpus: str, name: str, data: bytes, judges: Sequence[Judge]) -> Case:
    apart.render(_WARM, Recipe(BOX, "PNG"))  # starts the process if there is none, and warms it up
    pid = apart._running._process.pid if apart._running is not None else 0
    before_s, before_mb = _cpu_s(pid), _memory_mb(pid, forget=True)
    ours: Image.Image | None = None
    refusal: PermanentError | None = None
    try:
        ours = _opened(apart.render(data, Recipe(BOX, "PNG")).data)
    except PermanentError as exc:
        refusal = exc
    reason = "" if refusal is None else refusal.reason
    alive = apart._running is not None and apart._running._process.pid == pid and apart._running.usable
    cpu_s, memory_mb = (_cpu_s(pid) - before_s, _memory_mb(pid) - before_mb) if alive else (0.0, 0.0)
    judged: dict[str, Image.Image] = {}
    said: list[str] = [] if refusal is None else [f"here: {refusal}"]
    for each in judges:
        try:
            judged[each.name] = each.draw(data, refusal is not None)
        except (ValueError, OSError, Image.DecompressionBombError) as exc:
            said.append(f"{each.name}: {(str(exc).strip().splitlines() or ['?'])[-1][:200]}")
    if ours is None:
        foreign = _is_foreign(data)
        whole = reason != "too-large" and _shown_whole(judged)  # limits are settings, and the judges have other limits
        verdict = "another format" if foreign else "refused, and shown whole" if whole else "refused"
    else:
        differences = {who: compared(ours, picture) for who, picture in judged.items()}
        said += [f"{who}: {what}" for who, what in differences.items() if what is not None]
        verdict = verdict_of([what is None for what in differences.values()])
    shown = ({} if ours is None else {"here": ours}) | {who: small(picture) for who, picture in judged.items()}
    return Case(corpus, name, verdict, reason, "; ".join(said), cpu_s, memory_mb, shown)


def _shown_whole(judged: Mapping[str, Image.Image]) -> bool:
    """Whether Chromium and another judge show the same picture. (libvips and sharp share their decoders.)"""
    browser = judged.get(CHROMIUM)
    return browser is not None and any(alike(browser, other) for who, other in judged.items() if who != CHROMIUM)


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
    """The process's peak memory in MB; with ``forget``, resets the peak, and returns what it uses now."""
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

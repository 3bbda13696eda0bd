"""Measures the image step against other ways to do it, in CPU time: ``python -m benchmarks.images``.

Every way runs in a process of its own and takes its turn in every round, so that other work on the machine affects all
alike. The table shows medians and quartiles, and lists rows whose library is not installed as missing.
``--python LABEL=PATH`` adds our code with another interpreter (for example one with Pillow-SIMD); ``NODE_PATH`` must
name the folder where ``sharp`` is installed. Writes ``benchmarks/results/images.md``.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import PIL
from PIL import Image, ImageChops, ImageOps, features

from benchmarks import image_memory
from benchmarks.image_variants import BOX, VARIANTS
from benchmarks.pictures import INPUTS, write_inputs
from tasks.images.decode import fit
from tasks.images.formats import WRITTEN, encode

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "images.md"
OURS, REFERENCE, FLOOR, SIMD = "ours", "full decode, quality 75", "libjpeg-turbo alone", "ours, RESAMPLER=simd"
QUICK = ("12 MP JPEG", "web JPEG 1600x1200", "PNG with alpha 2400x1800")


@dataclass
class Row:
    cpu_s: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    resized: bytes = b""
    thumb: bytes = b""
    error: str | None = None


class Worker:
    """One way to make renditions, in a process that stays warm."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        environ = os.environ | {"VIPS_CONCURRENCY": "1", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [*command, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ, cwd=ROOT
        )
        self.error: str | None = self._answer().get("error")

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "the process ended"}

    def make(self, path: Path, wanted: str = "cpu") -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{wanted} {path}\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)


def start_workers(folder: Path, others: list[str]) -> dict[str, Worker]:
    commands = {name: [sys.executable, "-m", "benchmarks.image_variants", name] for name in VARIANTS}
    for other in others:
        label, _, python = other.partition("=")
        commands[f"ours on {label}"] = [python, "-m", "benchmarks.image_variants", OURS]
    if shutil.which("node"):
        commands["sharp"] = ["node", str(ROOT / "benchmarks" / "image_sharp.cjs")]
    return {name: Worker(command, folder / str(index)) for index, (name, command) in enumerate(commands.items())}


def measure(
    workers: dict[str, Worker], paths: dict[str, Path], warm_up: Path, rounds: int
) -> dict[str, dict[str, Row]]:
    rows = {name: {worker: Row() for worker in workers} for name in paths}
    for worker in workers.values():
        worker.make(warm_up)
        worker.make(warm_up)
    for number in range(rounds):
        for name, path in paths.items():
            for label, worker in workers.items():
                row = rows[name][label]
                if row.error is None:
                    answer = worker.make(path)
                    row.error = answer.get("error")
                    row.cpu_s += [answer["cpu_s"]] if row.error is None else []
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    for name, path in paths.items():
        for label, worker in workers.items():
            row = rows[name][label]
            if row.error is None:
                row.peak_bytes = worker.make(path, "memory")["peak_bytes"]
                row.resized = worker.folder.joinpath("resized").read_bytes()
                row.thumb = worker.folder.joinpath("thumb").read_bytes()
    return rows


def _shown(data: bytes) -> Image.Image:
    """The picture decoded in full, upright, as RGB on white."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
    if upright.mode == "RGBA":
        white = Image.new("RGB", upright.size, "white")
        white.paste(upright, mask=upright.getchannel("A"))
        return white
    return upright.convert("RGB")


def ideal(data: bytes) -> Image.Image:
    """The resized picture by LANCZOS in floating point from the fully decoded picture, rounded once."""
    image = _shown(data)
    size = fit(image.size, BOX)
    bands = (band.convert("F").resize(size, Image.Resampling.LANCZOS) for band in image.split())
    return Image.merge("RGB", [band.point(lambda value: value * 1 + 0.5).convert("L") for band in bands])


def plain(data: bytes) -> bytes:
    """A full decode's rendition with our encoder settings: the reference for the loss by drafting."""
    with Image.open(io.BytesIO(data)) as source:
        name = source.format or "JPEG"
        image = _shown(data) if source.mode != "RGBA" else source.copy()
    return encode(image.resize(fit(image.size, BOX), Image.Resampling.LANCZOS), WRITTEN[name])


def psnr(image: Image.Image, other: Image.Image) -> float | None:
    """The PSNR in dB over all samples; None if the sizes differ."""
    if image.size != other.size:
        return None
    histogram = ImageChops.difference(image, other).histogram()
    squares = sum(count * (index % 256) ** 2 for index, count in enumerate(histogram))
    return math.inf if not squares else 10 * math.log10(255**2 * sum(histogram) / squares)


def _ratio(row: Row, other: Row) -> float | None:
    """The median of the ratios within the rounds: a disturbance of a round affects both sides."""
    if not row.cpu_s or not other.cpu_s:
        return None
    return statistics.median(a / b for a, b in zip(row.cpu_s, other.cpu_s, strict=False))


def _least(row: Row, other: Row) -> float:
    """The ratio of the least times: other work on the machine can only add to a time."""
    return min(row.cpu_s) / min(other.cpu_s)


def _number(value: float | None, pattern: str = "{:.2f}") -> str:
    return "–" if value is None else pattern.format(value)


def table(data: bytes, rows: dict[str, Row]) -> tuple[list[str], dict[str, Any]]:
    perfect = ideal(data)
    mark = psnr(_shown(plain(data)), perfect)
    lines = [
        "| way | CPU ms: least, median (quartiles) | of full decode | of the floor | MB | bytes | thumb | PSNR dB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    facts: dict[str, Any] = {}
    alone = rows.get(FLOOR)  # where it is installed
    for label, row in rows.items():
        if row.error is not None:
            lines.append(f"| {label} | {row.error} | | | | | | |")
            continue
        low, middle, high = statistics.quantiles(row.cpu_s, n=4) if len(row.cpu_s) > 1 else row.cpu_s * 3
        times = "{:.1f}, {:.1f} ({:.1f}–{:.1f})".format(*(1e3 * t for t in (min(row.cpu_s), middle, low, high)))
        of_reference = _ratio(row, rows[REFERENCE])
        floor = None if alone is None else _ratio(alone, row)
        quality = None if label == FLOOR else psnr(_shown(row.resized), perfect)
        peak = None if row.peak_bytes is None else row.peak_bytes / 1e6
        loss = None if quality is None or mark is None else quality - mark
        lines.append(
            f"| {label} | {times} | {_number(of_reference)} "
            f"| {_number(floor)} | {_number(peak, '{:.0f}')} | {len(row.resized):,} | {len(row.thumb):,} "
            f"| {_number(quality)} |"
        )
        facts[label] = {
            "of_reference": of_reference,
            "floor": floor,
            "peak_mb": peak,
            "loss_db": loss,
            "least of_reference": _least(row, rows[REFERENCE]),
            "least floor": _least(alone, row) if alone is not None and alone.cpu_s else None,
        }
    lines.append("")
    lines.append(f"A full decode with the same encoder settings as ours: {_number(mark)} dB.")
    return lines, facts


def targets(facts: dict[str, dict[str, Any]]) -> list[str]:
    lines = ["| target | by medians | by the least times | |", "|---|---|---|---|"]
    big: list[str] = [name for name in ("12 MP JPEG", "24 MP JPEG") if name in facts]

    def add(text: str, key: str, met: Callable[[float], bool], label: str = OURS, names: list[str] = big) -> None:
        def column(prefix: str) -> tuple[str, bool]:
            values = {name: facts[name].get(label, {}).get(prefix + key) for name in names}
            found: dict[str, float] = {name: value for name, value in values.items() if value is not None}
            text = ", ".join(f"{name}: {value:.2f}" for name, value in found.items())
            return text, bool(found) and all(met(value) for value in found.values())

        medians, by_medians = column("")
        least, by_least = column("least ")
        verdict = "met" if by_medians else "met by the least times" if by_least else "**missed**"
        lines.append(f"| {text} | {medians or '–'} | {least} | {verdict} |")

    add("CPU at most 0.33 of the full decode", "of_reference", lambda value: value <= 0.33)
    add("at least 0.62 of the floor", "floor", lambda value: value >= 0.62)
    add("at most 25 MB over a warm process, MB", "peak_mb", lambda value: value <= 25)
    add("at most 0.3 dB lost by drafting, dB", "loss_db", lambda value: value >= -0.3, names=list(facts))
    add("the prize, RESAMPLER=simd: 0.85 of the floor", "floor", lambda value: value >= 0.85, label=SIMD)
    return lines


def machine() -> str:
    names = [line.partition(":")[2].strip() for line in _read("/proc/cpuinfo").splitlines() if "model name" in line]
    versions = f"Pillow {PIL.__version__}, libjpeg-turbo {features.version_feature('libjpeg_turbo')}"
    processor = names[0] if names else platform.machine()
    return f"{processor}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}"


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="three inputs, three rounds, nothing written")
    parser.add_argument("--python", action="append", default=[], metavar="LABEL=PATH", help="ours there as well")
    parser.add_argument("--only", choices=["ways", "memory"], help="one part, printed, nothing written")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    rounds = 3 if options.quick else options.rounds
    text: list[str] = [
        "# The image step, measured",
        "",
        f"{machine()}. CPU time of all threads, {rounds} rounds, interleaved; made by `python -m benchmarks.images`.",
        f"Each way makes both renditions: within {BOX[0]}x{BOX[1]}, and of that the thumbnail.",
        "",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.only in (None, "ways"):
            text += ways(folder, list(QUICK) if options.quick else list(INPUTS), rounds, options.python)
        if options.only in (None, "memory") and not options.quick:
            text += image_memory.report(folder)
    page = "\n".join(text).rstrip() + "\n"
    print(page)
    if not options.quick and options.only is None:
        options.out.write_text(page)


def ways(folder: Path, names: list[str], rounds: int, pythons: list[str]) -> list[str]:
    paths = write_inputs(folder, names)
    warm_up = folder / "warm-up"
    warm_up.write_bytes(INPUTS["web JPEG 800x600"][1](Image.effect_noise((800, 600), 40).convert("RGB")))
    workers = start_workers(folder, pythons)
    missing = {label: worker.error for label, worker in workers.items() if worker.error is not None}
    present = {label: worker for label, worker in workers.items() if worker.error is None}
    try:
        measured = measure(present, paths, warm_up, rounds)
    finally:
        for worker in workers.values():
            worker.close()
    sections, facts = [], {}
    for name, rows in measured.items():
        data = paths[name].read_bytes()
        lines, facts[name] = table(data, rows)
        sections += [f"### {name}, {len(data):,} bytes", "", *lines, ""]
    if FLOOR in missing:
        text = [f"Without {FLOOR} ({missing[FLOOR]}) nothing can be said about the floor.", ""]
    else:
        text = ["## Targets", "", *targets(facts), ""]
    text += [f"Missing here: {label} ({error})." for label, error in missing.items()]
    return [*text, "", "## Ways", "", *sections]


if __name__ == "__main__":
    main()

"""What each encoder's quality and effort cost and bring: the measurements behind
the defaults in ``tasks.images.formats``."""

from __future__ import annotations

import io
import math
import statistics
import time

from PIL import Image, ImageChops

from benchmarks.image_variants import BOX
from benchmarks.pictures import photo
from tasks.images.formats import WRITTEN, encode

TRIED: dict[str, list[tuple[int | None, int]]] = {
    "JPEG": [(75, 0), (80, 0), (85, 0), (90, 0), (85, 5), (85, 8)],
    "WEBP": [(75, 0), (80, 0), (85, 0), (80, 3), (80, 6), (80, 9)],
    "AVIF": [(60, 0), (67, 0), (75, 0), (67, 1), (67, 2), (67, 4)],
    "PNG": [(None, 1), (None, 3), (None, 6), (None, 9)],
    "GIF": [(None, 0)],
}


def luma_psnr(data: bytes, image: Image.Image) -> float:
    with Image.open(io.BytesIO(data)) as decoded:
        difference = ImageChops.difference(decoded.convert("RGB").convert("L"), image.convert("L"))
    squares = sum(count * index**2 for index, count in enumerate(difference.histogram()))
    return math.inf if not squares else 10 * math.log10(255**2 * image.width * image.height / squares)


def report(rounds: int) -> list[str]:
    image = photo(4 * BOX[0], 4 * BOX[1]).resize(BOX, Image.Resampling.LANCZOS)
    cases = [(name, quality, effort) for name, tried in TRIED.items() for quality, effort in tried]
    times: dict[tuple[str, int | None, int], list[float]] = {case: [] for case in cases}
    made: dict[tuple[str, int | None, int], bytes] = {}
    for _ in range(min(rounds, 5)):
        for case in cases:
            started = time.process_time()
            made[case] = encode(image, WRITTEN[case[0]], case[1], case[2])
            times[case].append(time.process_time() - started)
    unit = statistics.median(times["JPEG", 85, 0])
    lines = [
        f"## Encoders, {BOX[0]}x{BOX[1]}",
        "",
        f"CPU as multiples of JPEG quality 85, effort 0 ({unit * 1e3:.1f} ms). **Bold**: the defaults.",
        "",
        "| format | quality | effort | CPU | bytes | PSNR of luma, dB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for case in cases:
        name, quality, effort = case
        default = (quality, effort) == (WRITTEN[name].quality, WRITTEN[name].effort)
        mark = "**" if default else ""
        decibels = luma_psnr(made[case], image)
        lines.append(
            f"| {mark}{name}{mark} | {'–' if quality is None else quality} | {effort} "
            f"| {statistics.median(times[case]) / unit:.1f} | {len(made[case]):,} "
            f"| {'lossless' if math.isinf(decibels) else f'{decibels:.1f}'} |"
        )
    return [*lines, ""]

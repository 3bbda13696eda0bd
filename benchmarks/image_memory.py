"""Measures the memory that the largest allowed image of each kind needs, above a warm process (Linux only)."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.pictures import encoded
from tasks.images.render import Limits

#: The documented limit of memory for one image; the limit on pixels is chosen for it.
BOUND_MB = 500


def _plain(mode: str, side: int) -> Image.Image:
    """A gradient: cheap to encode, and decoding it needs as much memory as any other picture."""
    gradient = Image.linear_gradient("L").resize((side, side))
    return Image.merge(mode, [gradient] * len(Image.new(mode, (1, 1)).getbands()))


def _turned(format: str) -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x0112] = 6
    return {"exif": exif}


#: Kind: side in pixels of the largest square allowed by the default of MAX_PIXELS, and how to make it.
KINDS: dict[str, tuple[int, Callable[[int], bytes]]] = {
    "JPEG": (14_140, lambda side: encoded(_plain("RGB", side), "JPEG")),
    "JPEG, turned": (14_140, lambda side: encoded(_plain("RGB", side), "JPEG", **_turned("JPEG"))),
    "JPEG, CMYK": (14_140, lambda side: encoded(_plain("CMYK", side), "JPEG")),
    "progressive JPEG 4:4:4": (
        7_070,
        lambda side: encoded(_plain("RGB", side), "JPEG", progressive=True, subsampling=0),
    ),
    "progressive JPEG, CMYK": (7_070, lambda side: encoded(_plain("CMYK", side), "JPEG", progressive=True)),
    "PNG, RGB": (10_000, lambda side: encoded(_plain("RGB", side), "PNG", compress_level=1)),
    "PNG, RGBA": (10_000, lambda side: encoded(_plain("RGBA", side), "PNG", compress_level=1)),
    "PNG, palette": (10_000, lambda side: encoded(_plain("L", side).convert("P"), "PNG", compress_level=1)),
    "PNG, 16 bits": (10_000, lambda side: encoded(Image.new("I;16", (side, side), 777), "PNG", compress_level=1)),
    "GIF": (10_000, lambda side: encoded(Image.new("P", (side, side), 3), "GIF")),
    "BMP": (5_700, lambda side: encoded(_plain("RGB", side), "BMP")),
    "TIFF, LZW": (10_000, lambda side: encoded(_plain("RGB", side), "TIFF", compression="tiff_lzw")),
    "TIFF, turned": (
        7_070,
        lambda side: encoded(_plain("RGB", side), "TIFF", compression="tiff_lzw", **_turned("TIFF")),
    ),
    "WebP": (5_000, lambda side: encoded(_plain("RGB", side), "WEBP", method=0, quality=30)),
    "WebP, alpha": (5_000, lambda side: encoded(_plain("RGBA", side), "WEBP", method=0, quality=30)),
    "AVIF": (5_770, lambda side: encoded(_plain("RGB", side), "AVIF", speed=10, quality=30)),
    "AVIF, alpha": (5_770, lambda side: encoded(_plain("RGBA", side), "AVIF", speed=10, quality=30)),
}


def _heic(side: int) -> bytes:
    """Needs an encoder, which the project itself neither needs nor wants (x265 is under the GPL)."""
    import pillow_heif

    out = io.BytesIO()
    pillow_heif.from_pillow(_plain("RGB", side)).save(out, quality=30)
    return out.getvalue()


def _heic_of_10_bits(side: int) -> bytes:
    import pillow_heif

    out = io.BytesIO()
    pillow_heif.from_bytes(mode="RGB;16", size=(side, side), data=bytes(6 * side * side)).save(out, quality=30)
    return out.getvalue()


if find_spec("pillow_heif") is not None:
    KINDS["HEIC"] = (7_070, _heic)
    KINDS["HEIC, 10 bits"] = (5_720, _heic_of_10_bits)


def _measured(path: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.image_memory", str(path)], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def report(folder: Path) -> list[str]:
    lines = [
        "## The largest image of each kind",
        "",
        f"Default limits: {Limits().max_pixels:,} pixels (counted by kind) and {Limits().max_bytes:,} bytes. "
        "Peak above the warm process, with the file itself."
        + ("" if "HEIC" in KINDS else " Missing here: HEIC (no encoder is installed to make one)."),
        "",
        "| kind | pixels | file MB | peak MB | CPU s |",
        "|---|---:|---:|---:|---:|",
    ]
    worst = 0.0
    for kind, (side, make) in KINDS.items():
        path = folder / "largest"
        path.write_bytes(make(side))
        found = _measured(path)
        if "error" in found:
            lines.append(f"| {kind} | {side}x{side} | {found['error']} | | |")
            continue
        worst = max(worst, found["peak_mb"])
        lines.append(
            f"| {kind} | {side}x{side} | {path.stat().st_size / 1e6:.1f} | {found['peak_mb']:.0f} "
            f"| {found['cpu_s']:.2f} |"
        )
    verdict = "holds" if worst <= BOUND_MB else "**does not hold**"
    return [*lines, "", f"The bound of {BOUND_MB} MB {verdict}: the most was {worst:.0f} MB.", ""]


if __name__ == "__main__":
    import time

    from benchmarks.image_variants import _memory, ours, start_peak

    make = ours()
    make(encoded(_plain("RGB", 800), "JPEG"))
    before = start_peak() or 0
    data = Path(sys.argv[1]).read_bytes()
    started = time.process_time()
    try:
        make(data)
        result: dict[str, Any] = {
            "peak_mb": (_memory("VmHWM") - before) / 1e6,
            "cpu_s": time.process_time() - started,
        }
    except Exception as exc:  # shown in the table
        result = {"error": f"{type(exc).__name__}: {exc}"}
    print(json.dumps(result))

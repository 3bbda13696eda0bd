"""Bytes and SSIM of WebP and AVIF at several qualities, beside sharp's defaults: ``python -m benchmarks.image_ssim``.

``NODE_PATH`` must name the folder where ``sharp`` is installed; needs numpy. Uses the photos of ``samples/``, fitted in
800x600. SSIM is of the luma, over a Gaussian window of 11x11 with a deviation of 1.5 (Wang et al., 2004).
"""

from __future__ import annotations

import io
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tasks.images.formats import WRITTEN, encode

ROOT = Path(__file__).parents[1]
TRIED = {"WEBP": (78, 80, 81, 82), "AVIF": (50, 54, 55, 56, 60, 67)}
SHARP = (
    "const sharp = require('sharp'), fs = require('fs'); (async () => { for (const file of process.argv.slice(1))"
    " for (const kind of ['webp', 'avif'])"
    " fs.writeFileSync(file + '.' + kind, await sharp(file)[kind]().toBuffer()) })()"
)


def photos() -> list[Image.Image]:
    found = []
    for path in sorted(path for path in (ROOT / "samples").rglob("*") if path.suffix in (".jpg", ".png", ".tiff")):
        if path.name != "broken-upload.jpg":
            with Image.open(path) as opened:
                image = opened.convert("RGB")
            image.info.clear()
            image.thumbnail((800, 600), Image.Resampling.LANCZOS)
            found.append(image)
    return found


def _blurred(samples: np.ndarray) -> np.ndarray:
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window /= window.sum()
    for axis in (0, 1):
        samples = np.apply_along_axis(lambda line: np.convolve(line, window, "valid"), axis, samples)
    return samples


def ssim(one: Image.Image, other: Image.Image) -> float:
    """The SSIM of two pictures of the same size; 1: they are the same."""
    a, b = (np.asarray(image.convert("L"), float) for image in (one, other))
    mean_a, mean_b = _blurred(a), _blurred(b)
    of_a, of_b = _blurred(a * a) - mean_a**2, _blurred(b * b) - mean_b**2
    both = _blurred(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return float((luminance * (2 * both + c2) / (of_a + of_b + c2)).mean())


def line(name: str, originals: list[Image.Image], made: list[bytes], cpu_s: float | None) -> str:
    found = [ssim(original, Image.open(io.BytesIO(data))) for original, data in zip(originals, made, strict=True)]
    time_ms = "–" if cpu_s is None else f"{cpu_s * 1000 / len(made):.0f}"
    return f"| {name} | {sum(found) / len(found):.4f} | {sum(map(len, made)):,} | {time_ms} |"


def main() -> None:
    originals = photos()
    print("| | SSIM | bytes | CPU, ms each |\n|---|---:|---:|---:|")
    for name, qualities in TRIED.items():
        for quality in qualities:
            started = time.process_time()
            made = [encode(image.copy(), WRITTEN[name], quality) for image in originals]
            default = " (the default)" if quality == WRITTEN[name].quality else ""
            print(line(f"{name} {quality}{default}", originals, made, time.process_time() - started))
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{number}.png") for number in range(len(originals))]
        for image, file in zip(originals, files, strict=True):
            image.save(file)
        command = ["node", "-e", SHARP, *map(str, files)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            print(f"sharp: {done.stderr.strip().splitlines()[0]}")
            return
        for kind in ("webp", "avif"):
            made = [Path(f"{file}.{kind}").read_bytes() for file in files]
            print(line(f"sharp's {kind}, by default", originals, made, None))


if __name__ == "__main__":
    main()

"""The ways to make a rendition that the image benchmark compares; each runs in a process of its own.

A process reads lines with ``cpu`` or ``memory`` and the path of an input. It makes the resized rendition and its
thumbnail, leaves them in its folder, and answers with one line of JSON: the CPU seconds of all its threads, or the peak
memory above that of the warm process. Not both at once, since giving memory back costs time later.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BOX = (1024, 768)
THUMB = (192, 192)
QUALITY = 85

Made = tuple[bytes, bytes]


def ours(resampler: str = "pillow") -> Callable[[bytes], Made]:
    from tasks.images.render import Recipe, render

    large, small = Recipe(BOX, resampler=resampler), Recipe(THUMB, resampler=resampler)

    def make(data: bytes) -> Made:
        resized = render(data, large).data
        return resized, render(resized, small).data

    return make


def full_decode(quality: int, *, draft: bool = False) -> Callable[[bytes], Made]:
    """The simple way: decode everything once, resize that twice with LANCZOS, save both.

    With ``draft`` it does what ``Image.thumbnail`` did before Pillow 7: draft to the target, without a margin.
    """
    from PIL import Image

    def fitted(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
        scale = min(1.0, box[0] / size[0], box[1] / size[1])
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

    def saved(image: Any, format: str) -> bytes:
        out = io.BytesIO()
        image.save(out, format, **({} if format == "PNG" else {"quality": quality}))
        return out.getvalue()

    def make(data: bytes) -> Made:
        with Image.open(io.BytesIO(data)) as source:
            format = source.format or "JPEG"
            size = fitted(source.size, BOX)
            if draft:
                source.draft(None, size)
            image = source.resize(size, Image.Resampling.LANCZOS)
            thumb = source.resize(fitted(size, THUMB), Image.Resampling.LANCZOS)
        return saved(image, format), saved(thumb, format)

    return make


def turbojpeg() -> Callable[[bytes], Made]:
    """The floor: only what libjpeg-turbo must do: decode at the scale that our code uses, and encode."""
    name = ctypes.util.find_library("turbojpeg")
    if name is None:
        raise ImportError("libturbojpeg is not installed")
    library = ctypes.CDLL(name)
    library.tjInitDecompress.restype = library.tjInitCompress.restype = ctypes.c_void_p
    library.tjAlloc.restype = ctypes.c_void_p
    decompressor, compressor = (ctypes.c_void_p(init()) for init in (library.tjInitDecompress, library.tjInitCompress))
    rgbx, subsampling_420 = 2, 2
    from tasks.images.decode import draft_scale, fit

    def decode(data: bytes, box: tuple[int, int]) -> tuple[Any, tuple[int, int]]:
        width, height, subsampling, space = (ctypes.c_int() for _ in range(4))
        library.tjDecompressHeader3(
            decompressor,
            data,
            ctypes.c_ulong(len(data)),
            *(ctypes.byref(value) for value in (width, height, subsampling, space)),
        )
        if space.value >= 3:
            raise ValueError("CMYK is not encoded again by this one")
        size = width.value, height.value
        turned = b"\1\x12\0\3\0\0\0\1\0\6" in data[:200]  # the EXIF orientation as in these inputs
        target = fit(size, box[::-1] if turned else box)
        scale = draft_scale(size, target)
        scaled = -(-size[0] // scale), -(-size[1] // scale)
        pixels = ctypes.create_string_buffer(scaled[0] * scaled[1] * 4)
        failed = library.tjDecompress2(
            decompressor, data, ctypes.c_ulong(len(data)), pixels, scaled[0], 0, scaled[1], rgbx, 0
        )
        if failed:
            raise ValueError("libjpeg-turbo refuses this input")
        return (pixels, scaled[0]), target

    def encode(source: Any, size: tuple[int, int]) -> bytes:
        pixels, row = source  # encodes the top left of the decoded picture instead of a resized one
        out, length = ctypes.c_void_p(), ctypes.c_ulong()
        library.tjCompress2(
            compressor,
            pixels,
            size[0],
            row * 4,
            size[1],
            rgbx,
            ctypes.byref(out),
            ctypes.byref(length),
            subsampling_420,
            QUALITY,
            0,
        )
        data = ctypes.string_at(out, length.value)
        library.tjFree(out)
        return data

    def make(data: bytes) -> Made:
        resized = encode(*decode(data, BOX))
        return resized, encode(*decode(resized, THUMB))

    return make


def pyvips() -> Callable[[bytes], Made]:
    import pyvips

    def thumbnail(data: bytes, box: tuple[int, int], loader: str) -> bytes:
        image = pyvips.Image.thumbnail_buffer(data, box[0], height=box[1], size="down")
        if "png" in loader:
            return bytes(image.pngsave_buffer(compression=3, keep="none"))
        if "webp" in loader:
            return bytes(image.webpsave_buffer(Q=80, effort=0, keep="none"))
        return bytes(image.jpegsave_buffer(Q=QUALITY, keep="none"))

    def make(data: bytes) -> Made:
        loader = pyvips.Image.new_from_buffer(data, "").get("vips-loader")
        resized = thumbnail(data, BOX, loader)
        return resized, thumbnail(resized, THUMB, loader)

    return make


def opencv() -> Callable[[bytes], Made]:
    """OpenCV's own reduced decode and area average: JPEG only, and ignores profiles."""
    import cv2
    import numpy as np

    from tasks.images.decode import fit

    cv2.setNumThreads(1)
    reduced = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}

    def small(data: bytes, size: tuple[int, int], box: tuple[int, int]) -> bytes:
        target = fit(size, box)
        scale = max(s for s in (1, 2, 4) if size[0] // s >= target[0] and size[1] // s >= target[1])
        image = cv2.imdecode(np.frombuffer(data, np.uint8), reduced[scale])
        target = fit((image.shape[1], image.shape[0]), box)
        image = cv2.resize(image, target, interpolation=cv2.INTER_AREA)
        return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1])

    def make(data: bytes) -> Made:
        from PIL import Image

        with Image.open(io.BytesIO(data)) as header:
            if header.format != "JPEG" or header.mode != "RGB":
                raise ValueError("RGB JPEG only")
            size = header.size
        resized = small(data, size, BOX)
        return resized, small(resized, BOX, THUMB)

    return make


VARIANTS: dict[str, Callable[[], Callable[[bytes], Made]]] = {
    "ours": ours,
    "ours, RESAMPLER=simd": lambda: ours("simd"),
    "full decode, quality 100": lambda: full_decode(100),
    "full decode, quality 75": lambda: full_decode(75),
    "draft as in old Pillow": lambda: full_decode(75, draft=True),
    "libjpeg-turbo alone": turbojpeg,
    "pyvips": pyvips,
    "OpenCV": opencv,
}


def _memory(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(field)


def start_peak() -> int | None:
    """Gives free memory back, resets the peak, and returns the bytes in use; None if this is not Linux."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        return _memory("VmRSS")
    except (OSError, AttributeError):
        return None


def serve(make: Callable[[bytes], Made], folder: Path) -> None:
    for line in sys.stdin:
        wanted, _, path = line.rstrip("\n").partition(" ")
        data = Path(path).read_bytes()
        before = start_peak() if wanted == "memory" else None
        started = time.process_time()
        try:
            made = make(data)
        except Exception as exc:  # the table shows why this row is missing
            print(json.dumps({"error": f"{type(exc).__name__}: {exc}"}), flush=True)
            continue
        cpu_s = time.process_time() - started
        for name, rendition in zip(("resized", "thumb"), made, strict=True):
            folder.joinpath(name).write_bytes(rendition)
        answer = {"peak_bytes": None if before is None else _memory("VmHWM") - before}
        print(json.dumps({"cpu_s": cpu_s} if wanted == "cpu" else answer), flush=True)


if __name__ == "__main__":
    try:
        maker = VARIANTS[sys.argv[1]]()
    except (ImportError, OSError) as exc:
        print(json.dumps({"error": f"{type(exc).__name__}: {exc}"}), flush=True)
        raise SystemExit(1) from None
    print(json.dumps({"ready": True}), flush=True)
    serve(maker, Path(sys.argv[2]))

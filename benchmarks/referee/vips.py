"""libvips as a judge: the library in the wheel ``pyvips-binary``, called through ctypes.

The wheel has libvips with its decoders for JPEG, PNG, WebP, GIF, TIFF and AVIF, but not for BMP and not for HEVC, the
codec of most HEICs. Its companion ``pyvips`` is not available as a wheel, and only two functions are needed.
"""

from __future__ import annotations

import ctypes
import io
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_void_p
from functools import lru_cache
from importlib.metadata import files, version
from pathlib import Path

from PIL import Image

from benchmarks.referee.comparing import JUDGED_SIDE

PACKAGE = "pyvips-binary"

_SIZE_DOWN = 2  # VipsSize
_FAIL_ON_NONE, _FAIL_ON_WARNING = 0, 3  # VipsFailOn
_KEEP_NONE = 0  # VipsForeignKeep
_WARNING = 1 << 4  # GLogLevelFlags
_Log = ctypes.CFUNCTYPE(None, c_char_p, c_int, c_char_p, c_void_p)


def vips_version() -> str:
    return version(PACKAGE)


def by_vips(data: bytes, *, strict: bool = False) -> Image.Image:
    """The picture upright, in sRGB, as RGBA.

    Raises ``ValueError`` with libvips' message; with ``strict``, for any fault that libvips finds.
    """
    vips = _library()
    picture, out, size = c_void_p(), c_void_p(), c_size_t()
    failed = vips.vips_thumbnail_buffer(
        *(data, c_size_t(len(data)), byref(picture), c_int(JUDGED_SIDE)),
        *(b"height", c_int(JUDGED_SIDE), b"size", c_int(_SIZE_DOWN), b"output_profile", b"srgb"),
        *(b"fail_on", c_int(_FAIL_ON_WARNING if strict else _FAIL_ON_NONE), None),
    )
    if not failed:
        failed = vips.vips_image_write_to_buffer(
            *(picture, b".png", byref(out), byref(size)),
            *(b"keep", c_int(_KEEP_NONE), b"compression", c_int(1), b"bitdepth", c_int(8), None),
        )
        vips.g_object_unref(picture)
    if failed:
        said = vips.vips_error_buffer().decode(errors="replace").strip()
        vips.vips_error_clear()
        raise ValueError((said.splitlines() or ["?"])[-1][:200])
    try:
        with Image.open(io.BytesIO(ctypes.string_at(out, size.value))) as image:
            return image.convert("RGBA")
    finally:
        vips.g_free(out)


@_Log
def _silent(*_: object) -> None:
    """Drops libvips' warnings: they are in the error, or of no interest."""


@lru_cache
def _library() -> ctypes.CDLL:
    """The loaded library. Raises ``PackageNotFoundError`` if the wheel is not installed."""
    found = [file for file in files(PACKAGE) or () if Path(file.name).name.startswith("libvips")]
    vips = ctypes.CDLL(str(found[0].locate()))
    vips.vips_thumbnail_buffer.argtypes = (c_char_p, c_size_t, POINTER(c_void_p), c_int)
    vips.vips_image_write_to_buffer.argtypes = (c_void_p, c_char_p, POINTER(c_void_p), POINTER(c_size_t))
    vips.g_object_unref.argtypes = vips.g_free.argtypes = (c_void_p,)
    vips.g_object_unref.restype = vips.g_free.restype = vips.vips_error_clear.restype = None
    vips.vips_error_buffer.restype = c_char_p
    if vips.vips_init(b"referee"):
        raise ImportError("libvips can't be used here")
    vips.g_log_set_handler.argtypes = (c_char_p, c_int, _Log, c_void_p)
    vips.g_log_set_handler(b"VIPS", _WARNING, _silent, None)
    vips.vips_concurrency_set(1)
    return vips

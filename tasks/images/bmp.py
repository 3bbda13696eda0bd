"""Reads Windows bitmaps: Pillow reads only some kinds, and misreads others as those.

If the format leaves something undefined, this reader does what Chromium does, since people view such files in browsers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from PIL import Image, ImageMath

from pipeline.core.errors import DamagedImage, ImageTooLarge, TruncatedImage, UnsupportedImage
from tasks.images.bmp_rle import RLE4, RLE8, unpack

_RAW, _BITFIELDS, _ALPHABITFIELDS = 0, 3, 6
_OTHER_COMPRESSIONS = {4: "JPEG inside BMP", 5: "PNG inside BMP"}
_OS2_COMPRESSIONS = {3: "OS/2 Huffman", 4: "OS/2 RLE24"}

#: Header sizes of Windows. An OS/2 2.x header may end after any of its fields.
_WINDOWS_HEADERS = (40, 52, 56, 108, 124)

#: Red, green, blue and alpha, as Pillow names them in memory.
_RAW_MODES = {
    (16, (0x7C00, 0x3E0, 0x1F, 0)): "BGR;15",
    (16, (0xF800, 0x7E0, 0x1F, 0)): "BGR;16",
    (24, (0xFF0000, 0xFF00, 0xFF, 0)): "BGR",
    (32, (0xFF0000, 0xFF00, 0xFF, 0)): "BGRX",
    (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)): "BGRA",
    (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)): "RGBA",
    (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)): "ABGR",
}
_DEFAULT_MASKS = {16: (0x7C00, 0x3E0, 0x1F, 0), 24: (0xFF0000, 0xFF00, 0xFF, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}

#: Limit of run-length encoded data: Python unpacks about 4 million runs a second.
_MAX_RLE_BYTES = 20_000_000
#: Rows converted at a time, for samples that no Pillow mode describes.
_STRIP_ROWS = 64


@dataclass(frozen=True, slots=True)
class Header:
    width: int
    height: int
    top_down: bool
    bits: int
    compression: int
    masks: tuple[int, int, int, int]  # red, green, blue, alpha; meaningless with up to 8 bits a pixel
    colours_at: int  # offset of the palette
    colours: int  # number of its entries
    colour_bytes: int  # size of each entry
    pixels_at: int

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height

    @property
    def cost(self) -> str:
        """The kind for ``Limits.check_pixels``."""
        if self.compression in (RLE8, RLE4):
            return "BMP of runs"
        return "BMP" if self.bits <= 8 or (self.bits, self.masks) in _RAW_MODES else "BMP with odd masks"

    @property
    def row_bytes(self) -> int:
        return (self.width * self.bits + 31) // 32 * 4


def read_header(data: bytes) -> Header:
    """Raises ``TruncatedImage``, ``DamagedImage`` or ``UnsupportedImage``."""
    try:
        pixels_at, header_bytes = struct.unpack_from("<II", data, 10)
        os2_1 = header_bytes == 12
        if os2_1:
            width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        else:
            width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
        header = data[14 : 14 + header_bytes].ljust(124, b"\0")
        if len(data) < 14 + header_bytes:
            raise TruncatedImage("The BMP file ends within its header.")
        compression, colours = (0, 0) if os2_1 else struct.unpack_from("<I12xI", header, 16)
        after = 14 + header_bytes
        masks = (0, 0, 0, 0)
        if header_bytes == 40 and compression in (_BITFIELDS, _ALPHABITFIELDS):
            count = 3 if compression == _BITFIELDS else 4
            masks = (*struct.unpack_from(f"<{count}I", data, after), 0)[:4]
            after += 4 * count
        elif header_bytes >= 52:
            masks = struct.unpack_from("<IIII", header, 40)
            masks = masks if header_bytes >= 56 else (*masks[:3], 0)
    except struct.error as exc:
        raise TruncatedImage("The BMP file ends within its header.") from exc
    os2_2 = header_bytes not in (12, *_WINDOWS_HEADERS)
    _check_kind(header_bytes, bits, compression, os2_2)
    if width <= 0 or height == 0:
        raise DamagedImage(f"The BMP file says that it has {width}x{height} pixels.")
    if compression not in (_BITFIELDS, _ALPHABITFIELDS) or not all(masks[:3]):
        masks = _DEFAULT_MASKS.get(bits, masks)
    colours = 0 if bits > 8 else min(colours or 1 << bits, 1 << bits)
    entry_bytes = 3 if os2_1 else 4
    pixels_at = pixels_at or after + colours * entry_bytes
    if pixels_at > after:
        colours = min(colours, (pixels_at - after) // entry_bytes)
    top_down = not os2_1 and height < 0
    return Header(width, abs(height), top_down, bits, compression, masks, after, colours, entry_bytes, pixels_at)


def _check_kind(header_bytes: int, bits: int, compression: int, os2_2: bool) -> None:
    if not (header_bytes == 12 or 16 <= header_bytes <= 64 or header_bytes in _WINDOWS_HEADERS):
        raise UnsupportedImage(f"The BMP file has a header of {header_bytes} bytes, which is not read.")
    allowed = {
        _RAW: (1, 2, 4, 8, 16, 24, 32),
        RLE8: (8,),
        RLE4: (4,),
        _BITFIELDS: () if os2_2 else (16, 24, 32),
        _ALPHABITFIELDS: (16, 32),
    }
    if bits not in allowed.get(compression, ()):
        names = _OTHER_COMPRESSIONS | (_OS2_COMPRESSIONS if os2_2 else {})
        name = f" ({names[compression]})" if compression in names else ""
        raise UnsupportedImage(
            f"The BMP file has {bits} bits a pixel with the compression {compression}{name}, which is not read."
        )


def read_pixels(data: bytes, header: Header) -> Image.Image:
    """Mode 1, L, P, RGB or RGBA. Raises ``TruncatedImage``, ``ImageTooLarge`` or ``DamagedImage``."""
    if header.compression in (RLE8, RLE4):
        return _read_runs(data, header)
    used = (header.width * header.bits + 7) // 8
    needed = header.row_bytes * (header.height - 1) + used  # some encoders omit the last row's padding
    if len(data) < header.pixels_at + needed:
        raise TruncatedImage(
            f"The BMP file needs {header.pixels_at + needed:,} bytes for its pixels, and has {len(data):,}."
        )
    pixels = memoryview(data)[header.pixels_at : header.pixels_at + header.row_bytes * header.height]
    if len(pixels) < header.row_bytes * header.height:
        pixels = memoryview(bytes(pixels).ljust(header.row_bytes * header.height, b"\0"))
    if header.bits <= 8:
        return _with_palette(header, pixels, data)
    mode = _RAW_MODES.get((header.bits, header.masks))
    if mode is not None:
        image = _frombuffer("RGBA" if "A" in mode else "RGB", header.size, pixels, mode, header)
    else:
        image = _by_masks(header, pixels)
    if image.mode == "RGBA" and image.getchannel("A").getbbox() is None:
        return image.convert("RGB")  # a fully transparent picture is an encoder's mistake
    return image


def _frombuffer(mode: str, size: tuple[int, int], pixels: memoryview, raw_mode: str, header: Header) -> Image.Image:
    return Image.frombuffer(mode, size, bytes(pixels), "raw", raw_mode, header.row_bytes, 1 if header.top_down else -1)


def _palette(data: bytes, header: Header) -> list[tuple[int, int, int]]:
    table = data[header.colours_at : header.colours_at + header.colours * header.colour_bytes]
    blue, green, red = (table[part :: header.colour_bytes] for part in range(3))
    return list(zip(red, green, blue, strict=False))


def _with_palette(header: Header, pixels: memoryview, data: bytes) -> Image.Image:
    palette = _palette(data, header)
    if header.bits == 1 and palette == [(0, 0, 0), (255, 255, 255)]:
        return _frombuffer("1", header.size, pixels, "1", header)
    if header.bits == 8 and all(colour == (index,) * 3 for index, colour in enumerate(palette)):
        return _frombuffer("L", header.size, pixels, "L", header)
    image = _frombuffer("P", header.size, pixels, "P" if header.bits == 8 else f"P;{header.bits}", header)
    image.putpalette([sample for colour in palette for sample in colour] or [0, 0, 0])
    return image


def _read_runs(data: bytes, header: Header) -> Image.Image:
    runs = memoryview(data)[header.pixels_at :]
    if len(runs) > _MAX_RLE_BYTES:
        raise ImageTooLarge(f"The BMP has {len(runs):,} bytes of runs; the limit is {_MAX_RLE_BYTES:,}, and fixed.")
    unpacked = unpack(bytes(runs), header.width, header.height, header.compression)
    if unpacked is None:
        raise TruncatedImage("The BMP data ends early: the end of the picture is missing.")
    indices, covered = unpacked
    # The format forbids runs with the top row first, but browsers show them.
    step = 1 if header.top_down else -1
    image = Image.frombuffer("P", header.size, indices, "raw", "P", 0, step)
    image.putpalette([sample for colour in _palette(data, header) for sample in colour] or [0, 0, 0])
    if covered is None:
        return image
    shown = image.convert("RGB")
    shown.putalpha(Image.frombuffer("L", header.size, covered, "raw", "L", 0, step))
    return shown


def _by_masks(header: Header, pixels: memoryview) -> Image.Image:
    """Reads samples with any number of bits at any position."""
    bands = 4 if header.masks[3] else 3
    whole = Image.new("RGBA" if bands == 4 else "RGB", header.size)
    raw_mode = {16: "I;16", 32: "I;32"}.get(header.bits)
    if raw_mode is None:
        raise UnsupportedImage(f"The BMP file has {header.bits} bits a pixel with the masks {_hex(header.masks)}.")
    for top in range(0, header.height, _STRIP_ROWS):
        rows = min(_STRIP_ROWS, header.height - top)
        part = pixels[top * header.row_bytes : (top + rows) * header.row_bytes]
        words = Image.frombytes("I", (header.width, rows), bytes(part), "raw", raw_mode, header.row_bytes)
        strip = Image.merge(whole.mode, [_sample(words, mask, header.masks) for mask in header.masks[:bands]])
        if header.top_down:
            whole.paste(strip, (0, top))
        else:
            whole.paste(strip.transpose(Image.Transpose.FLIP_TOP_BOTTOM), (0, header.height - top - rows))
    return whole


def _sample(words: Image.Image, mask: int, masks: tuple[int, ...]) -> Image.Image:
    shift = (mask & -mask).bit_length() - 1
    white = mask >> shift
    if white & (white + 1):
        raise UnsupportedImage(f"The BMP file has the masks {_hex(masks)}: one has a gap.")
    while white > 0xFF:  # drop the bits beyond eight
        shift, white = shift + 1, white >> 1
    scaled: Image.Image = ImageMath.lambda_eval(
        lambda args: (((args["words"] >> shift) & white) * 255 + white // 2) / white, words=words
    )
    return scaled.convert("L")


def _hex(masks: tuple[int, ...]) -> str:
    return ", ".join(f"{mask:08X}" for mask in masks)

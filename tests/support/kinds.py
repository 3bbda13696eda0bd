"""One small picture in every kind of file that is read, by the name of the kind, for tests of the renderer."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image, ImageChops, ImageDraw

from tests.support.bmps import bmp, rows
from tests.support.icc import P3, cmyk_profile, grey_profile, rgb_profile
from tests.support.pictures import encoded, png, quadrants
from tests.support.tiffs import tiff

SIZE = (75, 50)
_RAMP = Image.linear_gradient("L").resize(SIZE)


def picture(mode: str = "RGB") -> Image.Image:
    """No two rows, columns or channels agree, so that none can be taken for another; alpha has every value."""
    across = Image.linear_gradient("L").rotate(90).resize(SIZE)
    colours = Image.merge("RGB", (across, _RAMP, ImageChops.invert(across)))
    image = Image.blend(quadrants(*SIZE), colours, 0.5)
    ImageDraw.Draw(image).ellipse((10, 5, 30, 40), outline=(255, 255, 255), width=3)
    if mode.endswith("A"):
        image.putalpha(_RAMP)
    return image.convert(mode)


def _file(format: str, mode: str = "RGB", **options: Any) -> Callable[[], bytes]:
    return lambda: encoded(picture(mode), format, **options)


def _turned(format: str, orientation: int, **options: Any) -> Callable[[], bytes]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return _file(format, exif=exif, **options)


def _frames(format: str, **options: Any) -> Callable[[], bytes]:
    others = [Image.new("RGB", SIZE, colour) for colour in ("red", "blue")]
    return _file(format, save_all=True, append_images=others, **options)


def _samples(mode: str, bits: int, order: str, planar: bool) -> list[bytes]:
    """16 bits: the lower byte is another than the upper one, which a careless reader would see."""
    bands = [band.tobytes() for band in picture(mode).split()]
    units = bands if planar else [bytes(sample for pixel in zip(*bands, strict=True) for sample in pixel)]
    if bits == 8:
        return units
    return [struct.pack(f"{order}{len(unit)}H", *(sample << 8 | (sample ^ 0xFF) for sample in unit)) for unit in units]


def _tiff(mode: str, bits: int = 8, order: str = "<", planar: bool = False, **options: Any) -> Callable[[], bytes]:
    count = Image.getmodebands(mode)
    tags = {284: (1 + planar,)} | ({338: (2,)} if mode.endswith("A") else {}) | options.pop("tags", {})
    photometric = options.pop("photometric", {1: 1, 2: 1}.get(count, 5 if mode == "CMYK" else 2))
    return lambda: tiff(
        SIZE,
        _samples(mode, bits, order, planar),
        bits=(bits,) * count,
        photometric=photometric,
        order=order,
        tags=tags,
        **options,
    )


def _palette_tiff(scale: int) -> Callable[[], bytes]:
    indexed = picture().quantize(64)
    palette = (indexed.getpalette() or []) + [0] * 768
    colours = [palette[3 * index + channel] * scale for channel in range(3) for index in range(256)]
    return lambda: tiff(SIZE, [indexed.tobytes()], photometric=3, tags={320: colours})


def _png16(mode: str, **chunks: bytes) -> Callable[[], bytes]:
    count = Image.getmodebands(mode)
    (samples,) = _samples(mode, 16, ">", False)
    stride = SIZE[0] * count * 2
    lines = [samples[at : at + stride] for at in range(0, len(samples), stride)]
    return lambda: png(*SIZE, 16, {1: 0, 2: 4, 3: 2, 4: 6}[count], lines, **chunks)


def _described_png(**chunks: bytes) -> Callable[[], bytes]:
    samples = picture().tobytes()
    stride = SIZE[0] * 3
    return lambda: png(*SIZE, 8, 2, [samples[at : at + stride] for at in range(0, len(samples), stride)], **chunks)


def _bmp(bits: int, masks: tuple[int, ...] = (), header: int = 40, compression: int = 0) -> Callable[[], bytes]:
    def made() -> bytes:
        image = picture("RGBA")
        lines = []
        for y in reversed(range(SIZE[1])):
            line = b""
            for x in range(SIZE[0]):
                pixel = image.getpixel((x, y))
                assert isinstance(pixel, tuple)
                word = 0
                for sample, mask in zip(pixel, (masks or (0xFF0000, 0xFF00, 0xFF)), strict=False):
                    shift = (mask & -mask).bit_length() - 1
                    word |= round(sample * (mask >> shift) / 255) << shift
                line += word.to_bytes(bits // 8, "little")
            lines.append(line)
        return bmp(SIZE, bits, rows(lines), header=header, compression=compression, masks=masks)

    return made


def _gif_with_a_margin() -> bytes:
    """A canvas of twice the width: the first frame covers its left half (GIF89a, 18)."""
    data = encoded(picture().quantize(64), "GIF")
    return data[:6] + struct.pack("<H", 2 * SIZE[0]) + data[8:]


KINDS: Mapping[str, Callable[[], bytes]] = {
    "JPEG": _file("JPEG", quality=90),
    "JPEG 4:4:4": _file("JPEG", quality=90, subsampling="4:4:4"),
    "JPEG 4:2:2": _file("JPEG", quality=90, subsampling="4:2:2"),
    "JPEG progressive": _file("JPEG", quality=90, progressive=True),
    "JPEG restart markers": _file("JPEG", quality=90, restart_marker_blocks=2),
    "JPEG RGB": _file("JPEG", quality=90, keep_rgb=True),
    "JPEG grey": _file("JPEG", "L", quality=90),
    "JPEG grey with profile": _file("JPEG", "L", quality=90, icc_profile=grey_profile(1.0)),
    "JPEG CMYK": _file("JPEG", "CMYK", quality=90),
    "JPEG CMYK with profile": _file("JPEG", "CMYK", quality=90, icc_profile=cmyk_profile()),
    "JPEG P3": _file("JPEG", quality=90, icc_profile=rgb_profile(P3, 1.8)),
    "MPO": _frames("MPO", quality=90),
    **{f"JPEG turned {turn}": _turned("JPEG", turn, quality=90) for turn in range(2, 9)},
    "PNG": _file("PNG"),
    "PNG RGBA": _file("PNG", "RGBA"),
    "PNG grey": _file("PNG", "L"),
    "PNG grey alpha": _file("PNG", "LA"),
    "PNG palette": lambda: encoded(picture().quantize(64), "PNG"),
    "PNG palette transparent": lambda: encoded(picture().quantize(64), "PNG", transparency=3),
    "PNG 2 bits": lambda: encoded(picture().quantize(4), "PNG", bits=2),
    "PNG 1 bit": _file("PNG", "1"),
    "PNG 16 bits": _png16("RGB"),
    "PNG 16 bits grey": _png16("L"),
    "PNG 16 bits grey alpha": _png16("LA"),
    "PNG 16 bits RGBA": _png16("RGBA"),
    "PNG colour key": _file("PNG", transparency=picture().getpixel((3, 3))),
    "PNG P3": _file("PNG", icc_profile=rgb_profile(P3, 1.8)),
    "PNG cICP P3": _described_png(cICP=bytes((12, 13, 0, 1))),
    "PNG gAMA": _described_png(gAMA=struct.pack(">I", 100_000)),
    "PNG turned": _turned("PNG", 6),
    "APNG": _frames("PNG"),
    "WebP": _file("WEBP", quality=90),
    "WebP lossless": _file("WEBP", lossless=True),
    "WebP alpha": _file("WEBP", "RGBA", lossless=True, exact=True),
    "WebP P3": _file("WEBP", lossless=True, icc_profile=rgb_profile(P3, 1.8)),
    "WebP turned": _turned("WEBP", 5, lossless=True),
    "WebP animated": _frames("WEBP", lossless=True),
    "GIF": lambda: encoded(picture().quantize(64), "GIF"),
    "GIF transparent": lambda: encoded(picture().quantize(64), "GIF", transparency=3),
    "GIF animated": _frames("GIF"),
    "GIF with a margin": _gif_with_a_margin,
    "AVIF": _file("AVIF", quality=95, speed=10),
    "AVIF 4:4:4": _file("AVIF", quality=95, speed=10, subsampling="4:4:4"),
    "AVIF alpha": _file("AVIF", "RGBA", quality=95, speed=10),
    "AVIF P3": _file("AVIF", quality=95, speed=10, icc_profile=rgb_profile(P3, 1.8)),
    "AVIF turned": _turned("AVIF", 6, quality=95, speed=10),
    "AVIF sequence": _frames("AVIF", quality=95, speed=10),
    **{
        f"TIFF {mode} {bits}{' big-endian' * (order == '>')}{' planes' * planar}": _tiff(mode, bits, order, planar)
        for mode in ("L", "LA", "RGB", "RGBA")
        for bits, order in ((8, "<"), (16, "<"), (16, ">"))
        for planar in ((False,) if mode == "L" else (False, True))
    },
    "TIFF white is zero": _tiff("L", photometric=0),
    "TIFF Deflate planes": _tiff("RGB", 16, planar=True, deflate=True),
    "TIFF LZW": _file("TIFF", compression="tiff_lzw"),
    "TIFF JPEG": _file("TIFF", compression="jpeg", quality=90),
    "TIFF PackBits": _file("TIFF", compression="packbits"),
    "TIFF fax": _file("TIFF", "1", compression="group4"),
    "TIFF CMYK": _file("TIFF", "CMYK"),
    "TIFF CMYK with profile": _file("TIFF", "CMYK", icc_profile=cmyk_profile()),
    "TIFF Lab": lambda: encoded(_lab(), "TIFF"),
    "TIFF P3": _file("TIFF", icc_profile=rgb_profile(P3, 1.8)),
    "TIFF palette": _palette_tiff(257),
    "TIFF palette of 8-bit values": _palette_tiff(1),
    "TIFF turned": _turned("TIFF", 8),
    "BigTIFF": _tiff("RGB", 16, big=True),
    "BigTIFF big-endian": _tiff("RGB", 16, ">", big=True),
    "BMP": _file("BMP"),
    "BMP palette": lambda: encoded(picture().quantize(64), "BMP"),
    "BMP 1 bit": _file("BMP", "1"),
    "BMP 16 bits": _bmp(16, (0xF800, 0x7E0, 0x1F), compression=3),
    "BMP 15 bits": _bmp(16, (0x7C00, 0x3E0, 0x1F)),
    "BMP alpha": _bmp(32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), header=124, compression=3),
    "BMP 32 bits": _bmp(32, (0xFF0000, 0xFF00, 0xFF)),
    "BMP OS/2": _bmp(24, header=12),
}


def _lab() -> Image.Image:
    from PIL import ImageCms

    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    made = ImageCms.profileToProfile(picture(), srgb, lab, outputMode="LAB")
    assert made is not None
    return made

"""Checks the tags of a TIFF before Pillow opens it, because Pillow confuses some kinds, and would show noise.

Pillow gets such a file in a form that it reads correctly; or the file is refused, with the tag and its value.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from PIL import Image, ImageFile, TiffImagePlugin

from pipeline.core.errors import DamagedImage, UnsupportedImage
from tasks.images import directory
from tasks.images.directory import Directory
from tasks.images.limits import Limits

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIPS, _ORIENTATION, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANAR, _PREDICTOR = 273, 274, 277, 278, 279, 284, 317
_COLOURS, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _EXTRA, _FORMAT = 320, 322, 323, 324, 325, 338, 339
_SUBSAMPLING, _KIND, _SUB, _DNG = 530, 254, 330, 50706

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK, _YCBCR = 0, 1, 2, 5, 6
_RAW, _WEBP = 1, 50001
#: The photometric interpretations of raw photos: a sensor's filters, and linear raw.
_SENSOR = (32803, 34892)
_ASSOCIATED = 1

_NAMES = {
    _BITS: "BitsPerSample",
    _COMPRESSION: "Compression",
    _PHOTOMETRIC: "PhotometricInterpretation",
    _FILL_ORDER: "FillOrder",
    _SAMPLES: "SamplesPerPixel",
    _PLANAR: "PlanarConfiguration",
    _PREDICTOR: "Predictor",
    _EXTRA: "ExtraSamples",
    _FORMAT: "SampleFormat",
}
_opening = threading.Lock()


@dataclass(frozen=True, slots=True)
class Tiff:
    """A TIFF that may be decoded, and how."""

    data: bytes
    found: Directory
    way: str  # "pillow", "libtiff", "planes" or "grey-alpha-16"
    levels: tuple[int, int]  # the 16-bit samples that are shown as black and as white


def read(data: bytes, limits: Limits) -> Tiff:
    """Raises ``ImageTooLarge``, ``UnsupportedImage``, ``TruncatedImage`` or ``DamagedImage``."""
    found = directory.read(data, limits.max_frames)
    if found.more_pages:
        raise limits.too_many_frames("TIFF")
    _refuse_raw_photos(data, found)
    width, height = found.one(_WIDTH, 0), found.one(_HEIGHT, 0)
    if width <= 0 or height <= 0:
        raise DamagedImage(f"The TIFF says that it has {width}x{height} pixels.")
    if not (found.tags.get(_STRIPS) or found.tags.get(_TILES) or found.tags.get(513)):
        raise DamagedImage("The TIFF does not say where its pixels are (StripOffsets and TileOffsets are missing).")
    formats = set(found.tags.get(_FORMAT, (1,)))
    if formats - {1, 4}:  # 2: with a sign, 3: floating point, 5 and 6: complex
        raise _unsupported(found, _FORMAT, "only samples without a sign say what is black and what is white")
    if found.one(_COMPRESSION, 1) == _WEBP and not _webp_inside():
        raise _unsupported(found, _COMPRESSION, "WebP inside TIFF")
    tiff = _way(data, found)
    limits.check_pixels((width, height), *_weight(tiff))
    return tiff


def load(tiff: Tiff) -> Image.Image:
    """The upright picture. Raises Pillow's errors."""
    if tiff.way == "planes":
        image = _from_planes(tiff)
    elif tiff.way == "grey-alpha-16":
        image = _grey_alpha_16(tiff)
    else:
        with _opened(tiff.data, by_libtiff=tiff.way == "libtiff") as image:
            image.load()
    colours = tiff.found.tags.get(_COLOURS, ())
    if image.mode in ("P", "PA") and colours and max(colours) < 256:  # libtiff: "Assuming 8-bit colormap"
        third = len(colours) // 3
        image.putpalette([colours[band * third + index] for index in range(min(third, 256)) for band in range(3)])
    return image


def is_cut(found: Directory, size: int) -> bool:
    """Whether pixels lie beyond the end of the file."""
    for offsets, counts in ((_STRIPS, _STRIP_BYTES), (_TILES, _TILE_BYTES)):
        where, how_many = found.tags.get(offsets, ()), found.tags.get(counts, ())
        if any(at >= size for at in where):
            return True
        if any(at + count > size for at, count in zip(where, how_many, strict=False)):
            return True
    if found.one(_COMPRESSION, 1) != _RAW or not found.tags.get(_STRIPS):
        return False
    return sum(found.tags.get(_STRIP_BYTES, ())) == 0 and found.tags[_STRIPS][-1] + _strip_bytes(found) > size


def unreadable(found: Directory) -> UnsupportedImage:
    """The error for a combination of tags that Pillow does not know, although each may be valid."""
    tags = (_PHOTOMETRIC, _BITS, _SAMPLES, _EXTRA, _COMPRESSION, _PLANAR, _FILL_ORDER)
    said = ", ".join(_said(found, tag) for tag in tags if tag in found.tags)
    return UnsupportedImage(f"The TIFF is of a kind that is not read: {said}.")


def _way(data: bytes, found: Directory) -> Tiff:
    bits, photometric = _bits(found), found.one(_PHOTOMETRIC, 0)
    extra, compression = tuple(found.tags.get(_EXTRA, ())), found.one(_COMPRESSION, 1)
    white = (1 << min(bits[0], 16)) - 1
    levels = (white, 0) if photometric == _WHITE_IS_ZERO else (0, white)
    tiff = Tiff(data, found, "pillow", levels)
    if found.one(_PLANAR, 1) == 2 and len(bits) > 1:
        if photometric == _RGB and set(bits) == {8} and len(bits) == 3:
            return _plain(tiff)
        colours = {_BLACK_IS_ZERO: 1, _RGB: 3, _CMYK: 4}.get(photometric, 0)
        bands = colours + (1 if extra and extra[0] in (1, 2) else 0)
        if not colours or set(bits) not in ({8}, {16}) or (photometric == _CMYK and bands > colours):
            raise unreadable(found)
        return replace(tiff, way="planes")
    if photometric == _BLACK_IS_ZERO and bits == (16, 16):
        if found.one(_PREDICTOR, 1) != 1:
            raise _unsupported(found, _PREDICTOR, "not with 16-bit grey and alpha")
        return replace(tiff, way="grey-alpha-16")
    if photometric == _YCBCR and compression == _RAW and tuple(found.tags.get(_SUBSAMPLING, (2, 2))) != (1, 1):
        return replace(tiff, way="libtiff")
    return _plain(tiff)


def _plain(tiff: Tiff) -> Tiff:
    """The file unchanged; or with another header, if only the header prevents Pillow from reading it."""
    found, tags = tiff.found, {tag: tiff.found.tags[tag] for tag in tiff.found.tags if tag in directory.NEEDED}
    odd = {tag: tags[tag] for tag in tags if tag != _FORMAT} if 4 in tags.get(_FORMAT, ()) else tags
    if found.one(_PHOTOMETRIC, 0) == _WHITE_IS_ZERO and _bits(found) == (16,) and found.order == ">":
        odd = {**odd, _PHOTOMETRIC: (_BLACK_IS_ZERO,)}  # `levels` inverts the picture
    if odd is tags and not (found.big and found.order == ">"):
        return tiff
    return replace(tiff, data=directory.rewritten(tiff.data, found, [odd]))


def _bits(found: Directory) -> tuple[int, ...]:
    bits = tuple(found.tags.get(_BITS, (1,)))
    samples = found.one(_SAMPLES, len(bits))
    if samples > 16:
        raise _unsupported(found, _SAMPLES, "at most 16 are read")
    return bits * samples if len(bits) == 1 else bits[:samples]


def _planes(tiff: Tiff) -> list[Image.Image]:
    """Each sample's plane as an 8-bit grey picture. The strips of each plane follow those of the previous one."""
    found, bits = tiff.found, _bits(tiff.found)
    pages = []
    for band, depth in enumerate(bits):
        tags = {tag: found.tags[tag] for tag in found.tags if tag in directory.NEEDED}
        for tag in (_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES):
            if tag in tags:
                each = len(tags[tag]) // len(bits)
                tags[tag] = tags[tag][band * each : (band + 1) * each]
        single = {_BITS: (depth,), _SAMPLES: (1,), _PLANAR: (1,), _PHOTOMETRIC: (_BLACK_IS_ZERO,), _FORMAT: (1,)}
        pages.append({tag: value for tag, value in (tags | single).items() if tag not in (_EXTRA, _SUBSAMPLING)})
    planes = []
    with _opened(directory.rewritten(tiff.data, found, pages)) as image:
        for band in range(len(bits)):
            image.seek(band)
            image.load()
            planes.append(_high_bytes(image) if image.mode.startswith("I;16") else image.convert("L"))
    return planes


def _from_planes(tiff: Tiff) -> Image.Image:
    planes = _planes(tiff)
    extra = tuple(tiff.found.tags.get(_EXTRA, ()))
    alpha = bool(extra) and extra[0] in (1, 2)
    colours = {_BLACK_IS_ZERO: "L", _RGB: "RGB", _CMYK: "CMYK"}[tiff.found.one(_PHOTOMETRIC, 0)]
    count = len(colours)
    mode = colours if not alpha else colours + ("a" if extra[0] == _ASSOCIATED else "A")
    image = Image.merge(mode, planes[: count + alpha]) if count + alpha > 1 else planes[0]
    image = image.convert(colours + "A") if mode.endswith("a") else image
    profile = tiff.found.tags.get(34675)
    if profile is not None:
        image.info["icc_profile"] = bytes(profile)
    return image


def _high_bytes(image: Image.Image) -> Image.Image:
    """The upper 8 of 16 bits, as Pillow converts 16-bit colours."""
    high = 0 if image.mode == "I;16B" else 1
    return Image.frombytes("L", image.size, image.tobytes()[high::2])


def _grey_alpha_16(tiff: Tiff) -> Image.Image:
    """Reads 16-bit grey and alpha, which Pillow can't: a pixel is four bytes in memory, like 8-bit RGBA."""
    found = tiff.found
    tags = {tag: found.tags[tag] for tag in found.tags if tag in directory.NEEDED and tag != _FORMAT}
    as_bytes = {**tags, _BITS: (8, 8, 8, 8), _SAMPLES: (4,), _PHOTOMETRIC: (_RGB,), _EXTRA: (2,)}
    with _opened(directory.rewritten(tiff.data, found, [as_bytes])) as image:
        image.load()
        high = 0 if found.order == ">" else 1
        grey, alpha = image.getchannel(high), image.getchannel(2 + high)
        profile = image.info.get("icc_profile")
    extra = found.one(_EXTRA, 0)
    if extra not in (1, 2):
        merged = grey
    elif extra == _ASSOCIATED:
        merged = Image.merge("La", (grey, alpha)).convert("LA")
    else:
        merged = Image.merge("LA", (grey, alpha))
    merged.info["icc_profile"] = profile
    return merged


def _opened(data: bytes, *, by_libtiff: bool = False) -> ImageFile.ImageFile:
    """``by_libtiff``: for uncompressed pixels in blocks of several pixels, which only libtiff unpacks."""
    with _opening:  # READ_LIBTIFF is a module-wide setting, which is read when a file is opened
        TiffImagePlugin.READ_LIBTIFF = by_libtiff
        try:
            return Image.open(io.BytesIO(data), formats=["TIFF"])
        finally:
            TiffImagePlugin.READ_LIBTIFF = False


def _strip_bytes(found: Directory) -> int:
    """The size of one unpacked strip or tile."""
    bits = _bits(found)
    sample_bits = bits[0] if found.one(_PLANAR, 1) == 2 else sum(bits)
    if found.one(_PHOTOMETRIC, 0) == _YCBCR:
        sample_bits = 32  # libtiff unpacks them to RGBA
    width = found.one(_TILE_WIDTH, found.one(_WIDTH, 0))
    rows = found.one(_TILE_HEIGHT, min(found.one(_ROWS, found.one(_HEIGHT, 0)), found.one(_HEIGHT, 0)))
    return (width * sample_bits + 7) // 8 * rows


def _weight(tiff: Tiff) -> tuple[str, float]:
    """The kind for ``Limits.check_pixels``, and the weight of its pixels."""
    found = tiff.found
    if tiff.way in ("planes", "grey-alpha-16"):
        return "TIFF in planes", 3.0
    name, weight = "TIFF", 1.0
    if found.one(_COMPRESSION, 1) != _RAW:
        strips = _strip_bytes(found) / (4 * found.one(_WIDTH, 1) * found.one(_HEIGHT, 1))
        if strips > 0.5:  # libtiff unpacks a strip as a whole
            name, weight = "TIFF in large strips", weight + strips
    if found.one(_ORIENTATION, 1) != 1:
        name, weight = f"turned {name}", weight + 1
    return name, weight


def _refuse_raw_photos(data: bytes, found: Directory) -> None:
    """Raises ``UnsupportedImage`` for a raw photo. Its first directory is often only a small preview."""
    inner = [directory.read_at(data, at, found) for at in found.tags.get(_SUB, ())[:16]]
    sensors = [part for part in (found, *inner) if part is not None and part.one(_PHOTOMETRIC, 0) in _SENSOR]
    if _DNG in found.tags or sensors:
        kind = "DNG" if _DNG in found.tags else "NEF, ARW or another"
        raise UnsupportedImage(
            f"The file is a raw photo ({kind}), which is not read.",
            advice="Develop the photo in a raw converter, and upload the JPEG that it makes.",
        )


def _unsupported(found: Directory, tag: int, why: str) -> UnsupportedImage:
    return UnsupportedImage(f"The TIFF is not read: its {_said(found, tag)} ({why}).")


def _said(found: Directory, tag: int) -> str:
    return f"{_NAMES[tag]} ({tag}) is {_listed(found.tags, tag)}"


def _listed(tags: Mapping[int, Sequence[int]], tag: int) -> str:
    return ", ".join(map(str, tags.get(tag, ())[:16]))


@lru_cache(maxsize=1)
def _webp_inside() -> bool:
    """Whether this libtiff was built with WebP."""
    try:
        Image.new("RGB", (1, 1)).save(io.BytesIO(), "TIFF", compression="webp")
    except (OSError, ValueError, RuntimeError, KeyError):
        return False
    return True

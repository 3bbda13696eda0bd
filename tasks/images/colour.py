"""Converts any samples and colours to 8-bit grey or sRGB, with or without alpha."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import cast

from PIL import Image, ImageChops, ImageCms

#: ICC's name of a profile's colour space, for each mode that a profile is applied to.
_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "Lab"}

#: Modes whose samples a browser shows unchanged.
_AS_SHOWN = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "YCbCr"})

#: Photoshop's defaults: white maps to white, and black to black. That matters for CMYK, whose black is not black, and
#: makes no difference with plain RGB profiles.
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION

#: A profile that changes no sample by more than this is sRGB under another name. Skipping it saves time and a rounding
#: for most uploads.
_SAME_WITHIN = 2
_MAX_PROFILE_BYTES = 4_000_000


def drop_opaque_alpha(image: Image.Image) -> Image.Image:
    """The image without its alpha channel, if every pixel is opaque."""
    if image.mode not in ("LA", "RGBA"):
        return image
    transparent = ImageChops.invert(image.getchannel("A")).getbbox() is not None
    return image if transparent else image.convert(image.mode[:-1])


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The image as L, LA, RGB, RGBA or YCbCr in sRGB. Like browsers, it ignores a profile that can't be used."""
    if image.mode == "YCbCr" and _transform(profile, "RGB") is None:
        return image
    if image.mode in ("LA", "RGBA"):
        opaque = to_srgb(image.convert(image.mode[:-1]), profile)
        opaque.putalpha(image.getchannel("A"))
        return opaque
    if image.mode not in _SPACES:  # YCbCr, RGBX
        image = image.convert("RGB")
    transform = _transform(profile, image.mode)
    target = "L" if image.mode == "L" else "RGB"
    if transform is not None:
        if image.mode == "L" and transform.input_mode == "RGB":
            image = image.convert("RGB")
        image = ImageCms.applyTransform(image, transform) or image
    return image if image.mode == target else image.convert(target)


def is_srgb(mode: str, profile: bytes | None) -> bool:
    """Whether ``to_srgb`` leaves the colours of such a picture unchanged."""
    return mode in _AS_SHOWN and _transform(profile, "L" if mode in ("L", "LA", "1") else "RGB") is None


@lru_cache(maxsize=4)  # building one takes about as long as applying it, and one camera's photos share theirs
def _transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from the profile to sRGB; None if it would change nothing, or the profile is invalid."""
    if mode == "LAB":
        source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    elif profile is None or len(profile) > _MAX_PROFILE_BYTES:
        return None
    else:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            described = source.profile.xcolor_space.strip()
        except (OSError, ValueError):
            return None
        if mode == "L" and described == "RGB":
            mode = "RGB"  # programs often put their RGB profile into grey pictures
        if described != _SPACES[mode]:
            return None
    try:
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        transform = ImageCms.buildTransform(source, srgb, mode, "RGB", _INTENT, _FLAGS)
    except ImageCms.PyCMSError:
        return None
    return None if mode in ("L", "RGB") and _changes_nothing(transform, mode) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    if mode == "L":
        samples = Image.frombytes("L", (256, 1), bytes(range(256)))
    else:
        steps = range(0, 256, 15)
        cube = bytes(value for red in steps for green in steps for blue in steps for value in (red, green, blue))
        samples = Image.frombytes("RGB", (len(cube) // 3, 1), cube)
    moved = ImageChops.difference(ImageCms.applyTransform(samples, transform) or samples, samples.convert("RGB"))
    extrema = cast("tuple[tuple[int, int], ...]", moved.getextrema())
    return all(high <= _SAME_WITHIN for _, high in extrema)

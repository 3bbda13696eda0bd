"""Makes the pictures of ``docs/images.md``: each trap as it catches plain code, and as it should be.

``python -m benchmarks.image_traps`` writes them to ``docs/images/``.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageCms, ImageDraw, ImageFont

from benchmarks.pictures import SAMPLES, encoded
from tasks.images.render import Recipe, render
from tests.support.icc import PROPHOTO, cmyk_profile, rgb_profile

OUT = Path(__file__).parents[1] / "docs" / "images"
PANEL = (360, 270)
CAPTION = 30

Pair = tuple[tuple[str, Image.Image], tuple[str, Image.Image]]


def sample(name: str) -> Image.Image:
    with Image.open(SAMPLES / name) as image:
        return image.convert("RGB")


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def ours(data: bytes, box: tuple[int, int] = PANEL, format: str = "PNG") -> Image.Image:
    return opened(render(data, Recipe(box, format)).data)


def naive(data: bytes, box: tuple[int, int] = PANEL, mode: str | None = None) -> Image.Image:
    """What most code does: open, thumbnail, save."""
    image = opened(data)
    image.thumbnail(box)
    return image if mode is None else image.convert(mode)


def orientation() -> Pair:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = sample("astronaut.png").transpose(Image.Transpose.ROTATE_90)
    data = encoded(stored, "JPEG", quality=95, exif=exif)
    return ("saved as it is stored", naive(data)), ("turned as its EXIF says", ours(data))


def separated(photo: Image.Image) -> Image.Image:
    """The photo in inks of the test profile: each ink is corrected until the profile shows the photo."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(cmyk_profile()))
    srgb = ImageCms.createProfile("sRGB")
    show = ImageCms.buildTransform(source, srgb, "CMYK", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
    red, green, blue = photo.split()
    black = ImageChops.invert(ImageChops.lighter(ImageChops.lighter(red, green), blue))
    black = black.point(lambda value: value**3 // 255**2)  # only the depths, or colours turn to mud
    inks = Image.merge("CMYK", [*ImageChops.invert(photo).split(), black])
    for _ in range(40):
        shown = ImageCms.applyTransform(inks, show)
        assert shown is not None
        too_light, too_dark = ImageChops.subtract(shown, photo), ImageChops.subtract(photo, shown)
        corrected = [
            ImageChops.subtract(ImageChops.add(ink, light, 1.5), dark.point(lambda value: value * 2 // 3))
            for ink, light, dark in zip(inks.split()[:3], too_light.split(), too_dark.split(), strict=True)
        ]
        inks = Image.merge("CMYK", [*corrected, inks.getchannel("K")])
    return inks


def cmyk() -> Pair:
    photo = sample("coffee.tiff").resize((720, 480), Image.Resampling.LANCZOS)
    data = encoded(separated(photo), "JPEG", quality=95, icc_profile=cmyk_profile())
    return ("CMYK by the plain formula", naive(data, mode="RGB")), ("through its printing profile", ours(data))


def sixteen_bits() -> Pair:
    photo = sample("cats & dogs/chelsea.webp").convert("L")
    data = encoded(photo.convert("I").point(lambda value: value * 257).convert("I;16"), "PNG")
    return ('16 bits, convert("L"): clipped', naive(data, mode="L")), ("scaled to 8 bits", ours(data))


def alpha() -> Pair:
    """White artwork on transparency, over black as some programs leave it; shown on a light page."""
    art = Image.new("RGBA", (1440, 1080), (0, 0, 0, 0))
    draw = ImageDraw.Draw(art)
    for index in range(9):
        inset = 60 * index
        draw.ellipse((180 + inset, inset + 1, 1260 - inset, 1079 - inset), outline=(255, 160, 30, 255), width=14)
    apart = Image.merge("RGBA", [band.resize(PANEL, Image.Resampling.LANCZOS) for band in art.split()])

    def on_page(image: Image.Image) -> Image.Image:
        page = Image.new("RGBA", image.size, (255, 250, 235, 255))
        page.alpha_composite(image)
        return magnified(page.convert("RGB"))

    data = encoded(art, "PNG")
    return ("channels resized apart: dark fringes", on_page(apart)), (
        "alpha multiplied in first",
        on_page(ours(data).convert("RGBA")),
    )


def palette() -> Pair:
    art = Image.new("P", (1440, 1080), 0)
    art.putpalette([255, 255, 255, 20, 40, 90, 220, 60, 40] + [0] * 759)
    draw = ImageDraw.Draw(art)
    for index in range(12):
        draw.line((480, 400 + 20 * index, 960, 440 + 20 * index), fill=2, width=5)
    draw.text((500, 430), "Palette", font=ImageFont.load_default(120), fill=1)
    draw.ellipse((560, 590, 880, 720), outline=1, width=5)
    data = encoded(art, "PNG")
    return ("palette: the nearest pixel", magnified(naive(data, mode="RGB"), 0.5)), (
        "averaged as colours",
        magnified(ours(data).convert("RGB"), 0.5),
    )


def profile() -> Pair:
    """A photo in ProPhoto RGB, as photo editors export it."""
    photo = sample("astronaut.png")
    srgb, wide = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(rgb_profile(PROPHOTO)))
    stored = ImageCms.profileToProfile(photo, srgb, wide, ImageCms.Intent.RELATIVE_COLORIMETRIC, "RGB")
    assert stored is not None
    data = encoded(stored, "JPEG", quality=95, icc_profile=rgb_profile(PROPHOTO))
    bare = naive(data)
    bare.info.clear()
    return ("its colour profile dropped", bare), ("converted to sRGB", ours(data))


def cut_short() -> Pair:
    data = encoded(sample("rocket.jpg"), "JPEG", quality=90)
    cut = data[: len(data) * 6 // 10] + b"\xff\xd9"
    try:
        ours(cut)
    except Exception as exc:
        message = f"{type(exc).__name__}:\n" + str(exc).replace(": ", ":\n").replace(" is missing", "\nis missing")
    panel = Image.new("RGB", PANEL, (250, 250, 250))
    ImageDraw.Draw(panel).text((20, 90), message, font=ImageFont.load_default(17), fill=(150, 30, 30))
    return ("an upload that was cut short", naive(cut)), ("refused, with a reason", panel)


def magnified(image: Image.Image, down: float = 0.25) -> Image.Image:
    """A third of it, so large that single pixels show; ``down`` says from where (0: the top, 1: the bottom)."""
    width, height = PANEL[0] // 3, PANEL[1] // 3
    left, top = (image.width - width) // 2, round((image.height - height) * down)
    return image.crop((left, top, left + width, top + height)).resize(PANEL, Image.Resampling.NEAREST)


TRAPS: dict[str, tuple[Callable[[], Pair], str]] = {
    "orientation": (orientation, "JPEG"),
    "cmyk": (cmyk, "JPEG"),
    "sixteen-bits": (sixteen_bits, "JPEG"),
    "alpha": (alpha, "PNG"),
    "palette": (palette, "PNG"),
    "profile": (profile, "JPEG"),
    "cut-short": (cut_short, "JPEG"),
}


def sheet(pair: Pair) -> Image.Image:
    gap = 12
    page = Image.new("RGB", (2 * PANEL[0] + 3 * gap, PANEL[1] + CAPTION + 2 * gap), "white")
    draw = ImageDraw.Draw(page)
    for index, (caption, image) in enumerate(pair):
        x = gap + index * (PANEL[0] + gap)
        left, top = x + (PANEL[0] - image.width) // 2, gap + (PANEL[1] - image.height) // 2
        draw.rectangle((x - 1, gap - 1, x + PANEL[0], gap + PANEL[1]), outline=(200, 200, 200))
        page.paste(image.convert("RGB"), (left, top))
        colour = (170, 30, 30) if index == 0 else (20, 110, 50)
        label = ("before: ", "after: ")[index] + caption
        draw.text((x, gap + PANEL[1] + 8), label, font=ImageFont.load_default(16), fill=colour)
    return page


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for name, (make, format) in TRAPS.items():
        options: dict[str, Any] = {"quality": 88} if format == "JPEG" else {"optimize": True}
        path = OUT / f"{name}.{'jpg' if format == 'JPEG' else 'png'}"
        path.write_bytes(encoded(sheet(make()), format, **options))
        print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

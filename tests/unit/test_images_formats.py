"""What is read, what is written, and that nothing but the picture is passed on."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from PIL import Image, PngImagePlugin

from pipeline.core.errors import ConfigError
from pipeline.core.settings import Settings
from pipeline.images.renditions import declared, parse
from tasks.images.formats import WRITTEN
from tasks.images.recipes import recipe
from tasks.images.render import Limits, Recipe, render
from tasks.images.resample import _simd_agrees, pillow_resize
from tests.support.pictures import SHOWN, encoded, opened, quadrants, shown_corners

DATA = Path(__file__).parents[1] / "data"
BOX = Recipe((60, 60))


@pytest.mark.parametrize(
    ("format", "options", "content_type", "suffix"),
    [
        ("JPEG", {}, "image/jpeg", ""),
        ("JPEG", {"progressive": True}, "image/jpeg", ""),
        ("JPEG", {"subsampling": "4:4:4", "restart_marker_rows": 1}, "image/jpeg", ""),
        ("MPO", {}, "image/jpeg", ""),
        ("PNG", {}, "image/png", ""),
        ("WEBP", {}, "image/webp", ""),
        ("WEBP", {"lossless": True}, "image/webp", ""),
        ("GIF", {}, "image/gif", ""),
        ("AVIF", {"speed": 10}, "image/avif", ""),
        ("TIFF", {}, "image/jpeg", ".jpg"),
        ("TIFF", {"compression": "tiff_lzw"}, "image/jpeg", ".jpg"),
        ("TIFF", {"compression": "tiff_adobe_deflate"}, "image/jpeg", ".jpg"),
        ("TIFF", {"compression": "jpeg"}, "image/jpeg", ".jpg"),
        ("TIFF", {"big_tiff": True}, "image/jpeg", ".jpg"),
        ("BMP", {}, "image/jpeg", ".jpg"),
    ],
)
def test_each_format_is_read_and_written(format: str, options: dict[str, Any], content_type: str, suffix: str) -> None:
    if format == "MPO":
        options = {"save_all": True, "append_images": [Image.new("RGB", (96, 64))]}
    data = encoded(quadrants(), format, **options)
    rendition = render(data, BOX)
    assert (rendition.content_type, rendition.suffix) == (content_type, suffix)
    assert rendition.source_format == ("JPEG" if format == "MPO" else format)
    image = opened(rendition.data)
    assert image.get_format_mimetype() == content_type
    assert image.size == (rendition.width, rendition.height) == (60, 40)
    assert shown_corners(image) == SHOWN[1]


def test_heic_becomes_a_jpeg() -> None:
    rendition = render(DATA.joinpath("quadrants.heic").read_bytes(), BOX)
    assert (rendition.source_format, rendition.content_type, rendition.suffix) == ("HEIF", "image/jpeg", ".jpg")
    assert shown_corners(opened(rendition.data)) == SHOWN[1]


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_stays_grey(mode: str) -> None:
    image = Image.linear_gradient("L").resize((96, 64)).convert(mode)
    if mode == "P":
        return
    rendition = render(encoded(image, "PNG"), BOX)
    assert opened(rendition.data).mode == "L"


def test_transparent_tiff_becomes_a_png_and_opaque_tiff_a_jpeg() -> None:
    image = quadrants().convert("RGBA")
    assert render(encoded(image, "TIFF"), BOX).suffix == ".jpg"
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    assert render(encoded(image, "TIFF"), BOX).suffix == ".png"


@pytest.mark.parametrize("forced", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "TIFF"])
def test_one_format_can_be_forced(format: str, forced: str) -> None:
    rendition = render(encoded(quadrants(), format), Recipe((60, 60), forced))
    assert rendition.content_type == f"image/{forced.lower()}"
    assert rendition.suffix == ("" if format == forced else WRITTEN[forced].suffix)
    assert opened(rendition.data).format == forced


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("written", WRITTEN)
def test_every_kind_of_pixels_can_be_written_in_every_format(mode: str, written: str) -> None:
    image = quadrants().convert(mode)
    if mode.endswith("A"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    rendition = render(encoded(image, "PNG"), Recipe((60, 60), written))
    got = opened(rendition.data)
    assert got.size == (60, 40)
    assert got.has_transparency_data == (mode.endswith("A") and written != "JPEG")


@pytest.mark.parametrize("written", ["JPEG", "WEBP", "AVIF"])
def test_quality_costs_bytes(written: str) -> None:
    data = encoded(Image.effect_noise((300, 200), 40).convert("RGB"), "PNG")
    low, high = (len(render(data, Recipe((200, 200), written, quality=quality)).data) for quality in (30, 90))
    assert low < high * 0.7


@pytest.mark.parametrize("written", ["JPEG", "WEBP", "AVIF", "PNG"])
def test_effort_saves_bytes(written: str) -> None:
    data = encoded(quadrants(600, 400).rotate(7), "PNG")
    low, high = (len(render(data, Recipe((400, 400), written, effort=effort)).data) for effort in (0, 9))
    assert high < low


SECRET = b"52.5163N-13.3777E-secret"


def secrets(format: str) -> dict[str, Any]:
    """Everywhere that a file of this format can say where it was taken, and by whom."""
    exif = Image.Exif()
    exif[0x010F] = SECRET.decode()
    exif.get_ifd(0x8825)[29] = SECRET.decode()  # GPSDateStamp
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + SECRET + b"</x:xmpmeta>"
    match format:
        case "JPEG":
            return {"exif": exif, "xmp": xmp, "comment": SECRET, "dpi": (123, 123)}
        case "PNG":
            info = PngImagePlugin.PngInfo()
            info.add_text("Comment", SECRET.decode())
            info.add_itxt("XML:com.adobe.xmp", SECRET.decode())
            return {"exif": exif, "pnginfo": info, "dpi": (123, 123)}
        case "GIF":
            return {"comment": SECRET, "xmp": xmp}
        case "TIFF":
            return {"exif": exif, "description": SECRET.decode()}
    return {"exif": exif.tobytes(), "xmp": xmp}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF"])
@pytest.mark.parametrize("size", [(96, 64), (30, 20)])  # shrunk, and as it is
@pytest.mark.parametrize("forced", [None, "JPEG", "PNG", "WEBP", "AVIF", "GIF"])
def test_nothing_but_the_picture_is_passed_on(format: str, size: tuple[int, int], forced: str | None) -> None:
    data = encoded(quadrants(*size), format, **secrets(format))
    assert SECRET in data or format == "GIF", "the test itself must find what is hidden"
    rendition = render(data, Recipe((60, 60), forced))
    assert SECRET not in rendition.data
    image = opened(rendition.data)
    assert not image.getexif()
    left = set(image.info) - {"version", "background", "duration", "loop", "timestamp", "extension", "interlace"}
    assert left <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}, left
    assert image.info.get("jfif_density", (1, 1)) == (1, 1)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_or_a_document_the_first_frame_is_shown(format: str) -> None:
    others = [Image.new("RGB", (96, 64), colour) for colour in ((0, 0, 0), (255, 255, 255))]
    data = encoded(quadrants(), format, save_all=True, append_images=others)
    with_frames = opened(data)
    assert getattr(with_frames, "n_frames", 1) == 3
    rendition = render(data, BOX)
    image = opened(rendition.data)
    assert shown_corners(image) == SHOWN[1]
    assert getattr(image, "n_frames", 1) == 1


@pytest.mark.parametrize("forced", [None, "PNG"])
def test_of_a_photo_with_a_gain_map_the_base_picture_is_shown(forced: str | None) -> None:
    """Ultra HDR: a JPEG whose XMP says what to do with a second one that follows it (MPF)."""
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" '
        b'hdrgm:GainMapMax="2.5"/></rdf:RDF></x:xmpmeta>'
    )
    map_of_gains = Image.linear_gradient("L").resize((48, 32))
    plain = encoded(quadrants(), "JPEG", quality=90)
    ultra = encoded(quadrants(), "MPO", quality=90, xmp=xmp, save_all=True, append_images=[map_of_gains])
    assert b"hdrgm:Version" in ultra
    assert ultra.count(b"\xff\xd8\xff") > plain.count(b"\xff\xd8\xff")
    recipe = Recipe((60, 60), forced)
    assert render(ultra, recipe) == render(plain, recipe)


def test_the_name_of_a_file_plays_no_part() -> None:
    """A PNG under any name is a PNG: `render` is not even told the name."""
    assert render(encoded(quadrants(), "PNG"), BOX).source_format == "PNG"


# The recipe


def test_the_digest_is_stable() -> None:
    """A value that changed here would make every stored rendition stale: only on purpose (ALGORITHM, WRITTEN)."""
    assert Recipe((1024, 768)).digest == Recipe((1024, 768)).digest
    assert Recipe((1024, 768)).digest == "e920b9cdf264"


@pytest.mark.parametrize(
    "other",
    [Recipe((1024, 769)), Recipe((1024, 768), "WEBP"), Recipe((1024, 768), quality=84), Recipe((1024, 768), effort=3)],
)
def test_the_digest_tells_recipes_apart(other: Recipe) -> None:
    assert other.digest != Recipe((1024, 768)).digest


def test_the_digest_is_of_what_comes_out_not_of_how() -> None:
    assert Recipe((1024, 768), resampler="simd").digest == Recipe((1024, 768)).digest


@pytest.mark.parametrize("wrong", [{"box": (0, 10)}, {"format": "webp"}, {"format": "BMP"}, {"resampler": "best"}])
def test_a_recipe_that_can_not_be_made_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no such recipe"):
        Recipe(**{"box": (10, 10), **wrong})


def test_recipe_and_limits_come_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.from_env(
        {
            "OUTPUT_FORMAT": "WebP",
            "QUALITY": "70",
            "EFFORT": "4",
            "MAX_PIXELS": "1000",
            "MAX_BYTES": "2000",
            "MAX_FRAMES": "3",
        }
    )
    thumbs = settings.model_copy(update={"renditions": "thumbs=10x20"})
    assert recipe(thumbs, declared(thumbs)[0]) == Recipe((10, 20), "WEBP", 70, 4)
    assert Limits.from_settings(settings) == Limits(1000, 2000, 3)
    thumbs = Settings(renditions="thumbs=10x20")
    assert recipe(thumbs, declared(thumbs)[0]) == Recipe((10, 20))
    assert Limits.from_settings(Settings()) == Limits()
    assert Limits.from_settings(Settings.from_env({"SOFT_TIME_LIMIT_S": "30"})).max_cpu_s == 15
    assert Limits.from_settings(Settings.from_env({"MAX_CPU_S": "99"})).max_cpu_s == 99


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("find_spec", lambda name: None, "needs the package cykooz-resizer, which is not installed"),
        ("_SIMD_PILLOW", ("12",), "has not been checked with Pillow"),
        ("_simd_agrees", lambda: False, "with Pillow .* makes another picture"),
    ],
)
def test_a_resampler_that_can_not_be_used_is_a_bad_setting(
    name: str, value: object, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.images.resample.find_spec", lambda name: object())
    monkeypatch.setattr("tasks.images.resample._simd_agrees", lambda: True)
    auto = Settings.from_env({"RESAMPLER": "auto"})
    (thumbs,) = parse("thumbs=10x10")
    assert recipe(auto, thumbs).resampler == "simd"
    monkeypatch.setattr(f"tasks.images.resample.{name}", value)
    with pytest.raises(ConfigError, match=f"RESAMPLER=simd can't be used: (it )?{problem}"):
        recipe(Settings.from_env({"RESAMPLER": "simd"}), thumbs)
    assert recipe(auto, thumbs).resampler == "pillow"


@pytest.mark.parametrize("mistake", ["channels", "rows"])
def test_memory_that_was_misread_shows_at_the_start(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def misread(image: Image.Image, size: tuple[int, int], box: object) -> Image.Image:
        small = pillow_resize(image, size, None)
        if mistake == "rows":
            return small.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        return small if image.mode == "L" else Image.merge(image.mode, small.split()[::-1])

    _simd_agrees.cache_clear()
    monkeypatch.setattr("tasks.images.resample.simd_resize", misread)
    assert not _simd_agrees()
    _simd_agrees.cache_clear()


@pytest.mark.parametrize("pins", ["requirements.txt", "requirements-dev.txt"])
def test_the_pins_hold_the_fast_resampler_where_there_are_wheels_of_it(pins: str) -> None:
    """On Linux there are none for ARM, and the image must be built there, too."""
    root = Path(__file__).parents[2]
    extra = tomllib.loads(root.joinpath("pyproject.toml").read_text())["project"]["optional-dependencies"]["simd"]
    wanted = Requirement(*extra)
    (pin,) = (line for line in root.joinpath(pins).read_text().splitlines() if line.startswith(wanted.name))
    pinned = Requirement(pin.removesuffix("\\"))  # hashes follow
    assert pinned.marker == wanted.marker
    assert pinned.marker is not None
    assert not pinned.marker.evaluate({"sys_platform": "linux", "platform_machine": "aarch64"})


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "P", "LA", "1"])
def test_the_simd_resampler_gives_the_same_picture(mode: str) -> None:
    """LANCZOS both times. The rounding between the two passes differs: 1 in 255 each, times what the negative
    lobes of the filter can do with it (the sum of the absolute weights of LANCZOS is below 1.5, squared)."""
    pytest.importorskip("cykooz_resizer")  # on ARM
    image = quadrants(640, 480).effect_spread(30).convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.linear_gradient("L").resize(image.size).point(lambda v: 128 + v // 2))
    format = "TIFF" if mode == "CMYK" else "PNG"
    plain, simd = (
        opened(render(encoded(image, format), Recipe((200, 200), "PNG", resampler=name)).data)
        for name in ("pillow", "simd")
    )
    assert plain.mode == simd.mode
    differences = [abs(a - b) for a, b in zip(plain.tobytes(), simd.tobytes(), strict=True)]
    assert sum(differences) / len(differences) < 0.5
    assert sorted(differences)[-len(differences) // 1000 or -1] <= 8

"""What must be refused, before it costs anything, with a text that says the limit and the value."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from pipeline.core.errors import (
    DamagedImage,
    ImageTooLarge,
    NotAnImage,
    PermanentError,
    TruncatedImage,
    UnsupportedImage,
)
from tasks.images.render import Limits, Recipe, Rendition, render
from tests.support.icc import cmyk_profile
from tests.support.pictures import encoded, opened, png, quadrants

DATA = Path(__file__).parents[1] / "data"
BOX = Recipe((40, 40), "PNG")


def detailed(width: int = 150, height: int = 100) -> Image.Image:
    """A picture with something to see in every corner, so that nothing of it can be left out unnoticed."""
    noise = Image.frombytes("L", (width, height), random.Random(7).randbytes(width * height))
    return Image.blend(quadrants(width, height), noise.convert("RGB"), 0.3)


def files() -> dict[str, bytes]:
    """One file of each kind that is read."""
    image = detailed()
    kinds: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "jpeg": (image, "JPEG", {}),
        "jpeg-progressive": (image, "JPEG", {"progressive": True}),
        "jpeg-restarts": (image, "JPEG", {"restart_marker_rows": 1}),
        "jpeg-cmyk": (image.convert("CMYK"), "JPEG", {"icc_profile": cmyk_profile()}),
        "mpo": (image, "MPO", {"save_all": True, "append_images": [image]}),
        "png": (image, "PNG", {}),
        "png-palette": (image.quantize(64), "PNG", {}),
        "png-16": (image.convert("L").convert("I;16"), "PNG", {}),
        "webp": (image, "WEBP", {}),
        "webp-lossless": (image, "WEBP", {"lossless": True}),
        "gif": (image, "GIF", {}),
        "tiff": (image, "TIFF", {}),
        "tiff-lzw": (image, "TIFF", {"compression": "tiff_lzw"}),
        "tiff-deflate": (image, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "tiff-jpeg": (image, "TIFF", {"compression": "jpeg"}),
        "bmp": (image, "BMP", {}),
        "avif": (image, "AVIF", {"speed": 10}),
    }
    made = {name: encoded(image, format, **options) for name, (image, format, options) in kinds.items()}
    return made | {"heic": DATA.joinpath("quadrants.heic").read_bytes()}


FILES = files()


def refuse_to_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: object) -> None:
        pytest.fail("it was decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)


# Too large


def test_too_many_pixels_are_refused_from_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_to_load(monkeypatch)
    header = png(30_000, 30_000, 8, 2, [])
    with pytest.raises(ImageTooLarge, match=r"30000x30000 = 900,000,000 pixels.*MAX_PIXELS is 100,000,000"):
        render(header, BOX)
    with pytest.raises(ImageTooLarge, match="MAX_PIXELS"):
        render(png(65_535, 65_535, 8, 2, []), BOX)
    with pytest.raises(ImageTooLarge, match="MAX_PIXELS"):
        render(png(2**31 - 1, 2**31 - 1, 8, 2, []), BOX)


def test_the_limit_itself_is_allowed() -> None:
    data = encoded(Image.new("L", (200, 50)), "PNG")
    assert render(data, BOX, Limits(max_pixels=10_000)).source_width == 200
    with pytest.raises(ImageTooLarge, match=r"200x50 = 10,000 pixels; the limit MAX_PIXELS is 9,999"):
        render(data, BOX, Limits(max_pixels=9_999))


@pytest.mark.parametrize(
    ("name", "weight"),
    [("png", 1), ("bmp", 1), ("tiff", 1), ("gif", 1), ("webp", 4), ("avif", 3), ("jpeg-progressive", 2), ("jpeg", 0.5)],
)
def test_a_pixel_counts_by_the_memory_it_takes(name: str, weight: float) -> None:
    counted = int(150 * 100 * weight)
    render(FILES[name], BOX, Limits(max_pixels=counted))
    with pytest.raises(ImageTooLarge, match=r"150x100 = 15,000 pixels.*MAX_PIXELS"):
        render(FILES[name], BOX, Limits(max_pixels=counted - 1))


def test_a_heic_pixel_counts_twice() -> None:
    render(FILES["heic"], BOX, Limits(max_pixels=96 * 64 * 2))
    with pytest.raises(ImageTooLarge, match=r"= 6,144 pixels, which count 2 times as HEIF for their memory: 12,288;"):
        render(FILES["heic"], BOX, Limits(max_pixels=96 * 64 * 2 - 1))


def test_a_tiff_that_must_be_turned_counts_twice() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(detailed(), "TIFF", exif=exif)
    render(data, BOX, Limits(max_pixels=30_000))
    with pytest.raises(ImageTooLarge, match="count 2 times as turned TIFF"):
        render(data, BOX, Limits(max_pixels=29_999))


def test_a_jpeg_that_is_needed_in_full_counts_in_full() -> None:
    with pytest.raises(ImageTooLarge, match=r"15,000 pixels; the limit"):
        render(FILES["jpeg"], Recipe((150, 100)), Limits(max_pixels=14_999))


def test_scans_one_by_one_take_the_memory_of_a_progressive_jpeg() -> None:
    """Only the scan's header says so: the frame's says baseline."""
    data = FILES["jpeg"]
    at = data.index(b"\xff\xda")
    assert data[at + 4] == 3
    one_component = data[:at] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + data[at + 14 :]
    with pytest.raises(ImageTooLarge, match="count 2 times"):
        render(one_component, BOX, Limits(max_pixels=29_999))


def test_scans_without_end_are_refused() -> None:
    data = FILES["jpeg-progressive"]
    at = data.rindex(b"\xff\xda")
    with pytest.raises(ImageTooLarge, match=r"has \d+ scans; the limit is 100"):
        render(data[:-2] + data[at:-2] * 100 + b"\xff\xd9", BOX)


def test_too_many_bytes_are_refused_unread() -> None:
    with pytest.raises(ImageTooLarge, match=r"11 bytes; the limit MAX_BYTES is 10"):
        render(b"not even an", BOX, Limits(max_bytes=10))
    Limits(max_bytes=10).check_bytes(10)
    with pytest.raises(ImageTooLarge):
        Limits(max_bytes=10).check_bytes(11)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF", "AVIF"])
def test_too_many_frames_are_refused(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Image.new("RGB", (16, 16), (8 * index, 255 - 8 * index, 99)) for index in range(12)]
    options = {"speed": 10} if format == "AVIF" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert render(data, BOX, Limits(max_frames=12)).source_width == 16
    refuse_to_load(monkeypatch)
    with pytest.raises(ImageTooLarge, match=rf"{format} file has more than 11 frames, the limit MAX_FRAMES"):
        render(data, BOX, Limits(max_frames=11))


def test_the_frames_of_an_animated_png_are_not_counted_since_none_is_read() -> None:
    frames = [Image.new("RGB", (16, 16), (8 * index, 0, 99)) for index in range(3)]
    data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    shown = opened(render(data, Recipe((16, 16), "PNG"), Limits(max_frames=2)).data)
    assert shown.convert("RGB").getpixel((8, 8)) == (0, 0, 99)


def test_big_tiff_pages_are_counted_too() -> None:
    frames = [Image.new("L", (16, 16), index) for index in range(5)]
    data = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:], big_tiff=True)
    render(data, BOX, Limits(max_frames=5))
    with pytest.raises(ImageTooLarge, match="more than 4 frames"):
        render(data, BOX, Limits(max_frames=4))


def test_pages_in_a_circle_are_too_many() -> None:
    data = bytearray(encoded(Image.new("L", (16, 16)), "TIFF"))
    (directory,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, directory)
    struct.pack_into("<I", data, directory + 2 + 12 * entries, directory)
    with pytest.raises(ImageTooLarge, match="frames"):
        render(bytes(data), BOX)


# Not an image, or not all of it


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"hello, world\n" * 100, bytes(10_000), b"BM", b"BM: a text about bitmaps"]
)
def test_what_is_not_an_image_is_refused(data: bytes) -> None:
    with pytest.raises(NotAnImage) as caught:
        render(data, BOX)
    assert caught.value.reason == "not-an-image"
    assert caught.value.advice
    assert "empty" in str(caught.value) if not data else "JPEG, PNG, WEBP" in str(caught.value)


def test_formats_that_pillow_could_open_are_not() -> None:
    """Nothing outside the list is opened, even where Pillow is able to."""
    for format in ("PPM", "TGA", "PCX", "ICO", "SGI", "DDS", "JPEG2000"):
        data = encoded(quadrants(), format)
        assert opened(data).format
        with pytest.raises(UnsupportedImage, match="which is not read; the formats that are read are JPEG, PNG"):
            render(data, BOX)


def test_a_zero_sized_image_is_refused() -> None:
    for data in (png(0, 10, 8, 2, []), png(10, 0, 8, 2, [])):
        with pytest.raises(DamagedImage, match=r"PNG says that it has (0x10|10x0) pixels"):
            render(data, BOX)


@pytest.mark.parametrize(("mode", "format"), [("F", 3), ("I", 2)])
def test_samples_without_black_and_white_are_refused(mode: str, format: int) -> None:
    with pytest.raises(UnsupportedImage, match=rf"SampleFormat \(339\) is {format}") as caught:
        render(encoded(quadrants().convert("L").convert(mode), "TIFF"), BOX)
    assert caught.value.reason == "unsupported"


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_cut_short_is_an_error_or_complete(name: str) -> None:
    """Wherever it is cut: never a picture with a part missing."""
    data = FILES[name]
    whole = render(data, BOX).data
    cuts = {len(data) * part // 40 for part in range(1, 40)} | {len(data) - back for back in (1, 2, 3, 13, 50)}
    refused = 0
    for cut in sorted(cuts):
        try:
            assert render(data[:cut], BOX).data == whole, f"a different picture from the first {cut} of {len(data)}"
        except (TruncatedImage, NotAnImage):
            refused += 1
    assert refused >= (15 if name == "mpo" else 39), "half of an MPO is its second picture"


@pytest.mark.parametrize("name", ["jpeg", "jpeg-restarts"])
@pytest.mark.parametrize("box", [(40, 40), (150, 100)])
def test_a_jpeg_with_a_grey_bottom_is_an_error(name: str, box: tuple[int, int]) -> None:
    """A cut with an end marker after it: libjpeg fills the rest with grey and says nothing."""
    data = FILES[name]
    for part in (3, 5, 9):
        cut = data[: len(data) * part // 10] + b"\xff\xd9"
        assert opened(cut).getpixel((149, 99)) == (128, 128, 128)
        with pytest.raises(TruncatedImage, match="the end of the picture is missing"):
            render(cut, Recipe(box))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_picture_that_really_ends_in_grey_is_fine(mode: str) -> None:
    image = detailed().convert(mode)
    image.paste(128 if mode == "L" else (128, 128, 128), (0, 50, 150, 100))
    for options in ({}, {"restart_marker_rows": 1}, {"subsampling": "4:4:4"}, {"progressive": True}):
        for recipe in (BOX, Recipe(BOX.box)):
            assert isinstance(render(encoded(image, "JPEG", **options), recipe), Rendition)


@pytest.mark.parametrize("name", ["jpeg", "jpeg-progressive"])
def test_a_download_into_a_file_of_zeros_is_an_error(name: str) -> None:
    data = FILES[name]
    for part in (4, 9):
        cut = len(data) * part // 10
        with pytest.raises(TruncatedImage):
            render(data[:cut] + bytes(len(data) - cut), BOX)


def test_what_follows_the_picture_does_not_matter() -> None:
    """Phones append films and depth maps."""
    whole = render(FILES["jpeg"], BOX).data
    assert render(FILES["jpeg"] + b"\0\0\0\x18ftypmp42" + bytes(5000), BOX).data == whole


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.sampled_from(sorted(FILES)),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=20),
    st.sampled_from([64, 700, 1 << 20]),
    st.sampled_from(["PNG", None]),
)
def test_a_damaged_file_gives_a_picture_or_a_clear_error(
    name: str, damage: list[tuple[int, int]], within: int, forced: str | None
) -> None:
    """Whatever is in it: nothing but a rendition or a permanent error comes out of `render`."""
    data = bytearray(FILES[name])
    for at, value in damage:
        data[at % min(len(data), within)] = value
    try:
        rendition = render(bytes(data), Recipe(BOX.box, forced), Limits(max_pixels=2_000_000))
    except PermanentError as exc:
        message = str(exc)
    else:
        message = ""
        assert opened(rendition.data).size == (rendition.width, rendition.height)
    assert "\n" not in message


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.sampled_from([(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (1, 3), (2, 3), (4, 3), (8, 3)]),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.binary(max_size=300),
    st.binary(max_size=260),
    st.binary(max_size=40),
    st.sampled_from(["PNG", "JPEG", "GIF", "WEBP"]),
)
def test_any_png_gives_a_picture_or_a_clear_error(
    kind: tuple[int, int], size: tuple[int, int], palette: bytes, transparent: bytes, exif: bytes, written: str
) -> None:
    """Chunks with nonsense in them, but with right checksums, so that they are read."""
    (depth, colour_type), (width, height) = kind, size
    row = random.Random(1).randbytes((width * depth * (3 if colour_type == 2 else 1) + 7) // 8)
    data = png(width, height, depth, colour_type, [row] * height, PLTE=palette, tRNS=transparent, eXIf=exif)
    try:
        rendition = render(data, Recipe((10, 10), written))
    except PermanentError:
        return
    assert opened(rendition.data).size == (rendition.width, rendition.height)


def test_the_time_limit_of_a_task_is_not_taken_for_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    class SoftTimeLimitExceeded(Exception):  # as billiard raises it, in the middle of whatever runs
        pass

    def load(self: object) -> None:
        raise SoftTimeLimitExceeded

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(SoftTimeLimitExceeded):
        render(FILES["png"], BOX)


def test_pillow_and_its_bombs_stay_within_what_the_settings_allow() -> None:
    from pipeline.core.settings import Settings

    bound = next(item.le for item in Settings.model_fields["max_pixels"].metadata if hasattr(item, "le"))
    assert bound == Image.MAX_IMAGE_PIXELS
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(png(40_000, 40_000, 8, 2, [])))

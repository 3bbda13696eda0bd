"""Damage that leaves the picture whole: it is shown, and marked; anything less is refused, with the right reason."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from pipeline.core.errors import DamagedImage, PermanentError, TruncatedImage
from tasks.images.render import Recipe, render
from tests.support.heifs import with_split_properties
from tests.support.pictures import encoded, png, quadrants
from tests.unit.test_images_dangerous import detailed

BOX = Recipe((60, 60), "PNG")
FILM = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 20


def chunk(data: bytes, name: bytes) -> int:
    """Where a chunk's contents begin."""
    return data.index(name) + 4


# PNG


def test_a_text_with_a_wrong_checksum_is_left_out() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "hello")
    data = encoded(detailed(), "PNG", pnginfo=info)
    damaged = data.replace(b"hello", b"jello")
    rendition = render(damaged, BOX)
    assert rendition.data == render(data, BOX).data
    assert rendition.salvaged == "the checksum of the chunk tEXt is wrong"
    assert render(data, BOX).salvaged is None


@pytest.mark.parametrize("name", ["zTXt", "iTXt"])
def test_a_text_that_unpacks_to_gigabytes_is_not_unpacked(name: str) -> None:
    head = b"Comment\0\0" if name == "zTXt" else b"Comment\0\1\0\0\0"
    data = png(8, 8, 8, 0, [bytes(range(8))] * 8, **{name: head + zlib.compress(bytes(100_000_000))})
    assert render(data, BOX).data == render(png(8, 8, 8, 0, [bytes(range(8))] * 8), BOX).data


@pytest.mark.parametrize("profile", [zlib.compress(bytes(100_000_000)), b"no stream", zlib.compress(b"abc")[:-4]])
def test_a_profile_that_can_not_be_used_is_left_out(profile: bytes) -> None:
    data = png(8, 8, 8, 2, [bytes(range(24))] * 8, iCCP=b"name\0\0" + profile)
    rendition = render(data, BOX)
    assert rendition.data == render(png(8, 8, 8, 2, [bytes(range(24))] * 8), BOX).data
    assert rendition.salvaged == "its colour profile (iCCP) can't be used"


@pytest.mark.parametrize("back", range(1, 17))
def test_an_end_that_is_missing_after_all_of_the_pixels(back: int) -> None:
    """IEND has 12 bytes, and before it are the 4 of IDAT's checksum; zlib's own has come before that."""
    for options in ({}, {"interlace": True}):
        data = encoded(detailed(), "PNG", **options)
        rendition = render(data[:-back], BOX)
        assert rendition.data == render(data, BOX).data
        assert rendition.salvaged is not None
        assert "IEND" in rendition.salvaged


@pytest.mark.parametrize("back", [17, 18, 20, 100, 1000])
def test_pixels_that_are_missing(back: int) -> None:
    data = encoded(detailed(), "PNG")
    with pytest.raises(TruncatedImage, match="PNG data ends early"):
        render(data[:-back], BOX)


def test_pixels_with_a_wrong_checksum_are_never_shown_as_noise() -> None:
    stored = encoded(detailed(), "PNG", compress_level=0)
    data = bytearray(stored)
    data[len(data) // 2] ^= 0xFF  # a sample: it unpacks without an error
    with pytest.raises(DamagedImage, match="wrong checksum") as caught:
        render(bytes(data), BOX)
    assert caught.value.reason == "damaged"
    whole = bytearray(stored)
    whole[-14] ^= 0xFF  # the chunk's checksum: zlib's says that the pixels are right
    assert render(bytes(whole), BOX).data == render(stored, BOX).data
    assert "IDAT" in str(render(bytes(whole), BOX).salvaged)


@pytest.mark.parametrize("name", [b"PLTE", b"tRNS", b"IHDR"])
def test_chunks_that_the_picture_needs_must_be_right(name: bytes) -> None:
    image = quadrants().quantize(16)
    data = bytearray(encoded(image, "PNG", transparency=3))
    data[chunk(bytes(data), name)] ^= 1
    with pytest.raises(DamagedImage, match=name.decode()):
        render(bytes(data), BOX)


def test_too_few_rows_are_not_all_of_the_picture() -> None:
    """An end is missing, and the stream is right as far as it goes: it goes not far enough."""
    short = png(8, 9, 8, 0, [bytes(8)] * 8)[:-12]
    with pytest.raises(TruncatedImage):
        render(short, BOX)


# JPEG

JPEGS: list[tuple[Image.Image, dict[str, Any]]] = [
    (detailed(64, 48), {}),
    (detailed(64, 48), {"progressive": True}),
    (detailed(64, 48), {"restart_marker_rows": 1}),
    (detailed(50, 41).convert("L"), {"quality": 30}),
    (detailed(40, 40).convert("CMYK"), {"quality": 95}),
    (Image.new("RGB", (64, 64), "white"), {}),
    (Image.new("L", (64, 64), 128), {"progressive": True}),
]


@pytest.mark.parametrize(("image", "options"), JPEGS)
@pytest.mark.parametrize("behind", [b"", FILM])
def test_a_jpeg_without_its_end_is_whole_or_refused(image: Image.Image, options: dict[str, Any], behind: bytes) -> None:
    """Cut anywhere near its end: never a picture with a part that is grey, or made of what follows."""
    data = encoded(image, "JPEG", **options)
    whole = render(data, BOX).data
    for back in range(1, 40):
        cut = data[:-back] + behind
        if back <= 2 or not behind:
            try:
                rendition = render(cut, BOX)
            except TruncatedImage:
                assert back > 2, "every MCU is there"
                continue
        else:
            try:
                rendition = render(cut, BOX)
            except PermanentError:
                continue
        assert rendition.data == whole
        assert rendition.salvaged == "its end marker is missing"


def test_a_progressive_jpeg_without_its_last_scans_and_its_end_is_refused() -> None:
    data = encoded(detailed(), "JPEG", progressive=True)
    cut = data[: data.rindex(b"\xff\xda")]
    with pytest.raises(TruncatedImage):
        render(cut, BOX)


@pytest.mark.parametrize("contents", [b"JFIF\0", b"JFIF", b"JFIF\0\1"])
def test_a_header_of_jfif_that_is_too_short_is_left_out(contents: bytes) -> None:
    data = encoded(detailed(), "JPEG")
    assert data[2:4] == b"\xff\xe0"
    length = int.from_bytes(data[4:6], "big")
    short = data[:4] + struct.pack(">H", 2 + len(contents)) + contents + data[4 + length :]
    rendition = render(short, BOX)
    assert rendition.data == render(data, BOX).data
    assert rendition.salvaged in (None, "a segment of its metadata is damaged")


def test_grey_rows_are_never_published() -> None:
    data = encoded(detailed(), "JPEG")
    for part in (3, 5, 8):
        for end in (b"", b"\xff\xd9", FILM):
            with pytest.raises(PermanentError) as caught:
                render(data[: len(data) * part // 10] + end, BOX)
            assert caught.value.reason == "truncated"


# AVIF


def test_properties_in_a_box_for_each_item_are_read() -> None:
    """libavif refuses such files, and browsers show them."""
    image = detailed()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    data = encoded(image, "AVIF", speed=10)
    split = with_split_properties(data)
    assert split.count(b"ipma") == data.count(b"ipma") + 1
    rendition = render(split, BOX)
    assert rendition.data == render(data, BOX).data
    assert rendition.salvaged == "the properties of its pictures are in several lists (ipma)"


def test_lists_of_properties_that_can_not_be_joined_are_damage() -> None:
    split = bytearray(with_split_properties(encoded(detailed().convert("RGBA").rotate(3), "AVIF", speed=10)))
    split[split.rindex(b"ipma") + 4] = 1  # its version: the numbers of items are of another width
    with pytest.raises(DamagedImage):
        render(bytes(split), BOX)

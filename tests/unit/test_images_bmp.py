"""Windows bitmaps of every kind: judged by the pixels that the test wrote itself."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from PIL import Image

from pipeline.core.errors import DamagedImage, ImageTooLarge, TruncatedImage, UnsupportedImage
from tasks.images.render import Limits, Recipe, render
from tests.support.bmps import bmp, rows
from tests.support.pictures import opened

BOX = Recipe((10, 10), "PNG")
PALETTE = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)]
#: Top row first.
COLOURS = [[(255, 0, 0), (0, 255, 0), (0, 0, 255)], [(8, 16, 24), (255, 255, 255), (0, 0, 0)]]
ALPHA = [[255, 128, 0], [64, 200, 255]]


def shown(data: bytes) -> Image.Image:
    return opened(render(data, BOX).data)


def pixels(image: Image.Image) -> list[list[object]]:
    return [[image.getpixel((x, y)) for x in range(image.width)] for y in range(image.height)]


def words(bits: int, masks: Sequence[int], bottom_up: bool = True) -> bytes:
    """COLOURS and ALPHA as numbers of so many bits, each sample where its mask is."""
    lines = []
    for row, alphas in zip(COLOURS, ALPHA, strict=True):
        line = b""
        for colour, alpha in zip(row, alphas, strict=True):
            word = 0
            for sample, mask in zip((*colour, alpha), (*masks, 0)[:4], strict=True):
                if mask:
                    shift = (mask & -mask).bit_length() - 1
                    word |= round(sample * (mask >> shift) / 255) << shift
            line += word.to_bytes(bits // 8, "little")
        lines.append(line)
    return rows(lines[::-1] if bottom_up else lines)


@pytest.mark.parametrize("header", [12, 16, 24, 40, 48, 52, 56, 64, 108, 124])
def test_every_header_is_read(header: int) -> None:
    data = bmp((3, 2), 24, words(24, (0xFF0000, 0xFF00, 0xFF)), header=header)
    assert pixels(shown(data)) == COLOURS


@pytest.mark.parametrize("header", [12, 16, 40, 64, 124])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_every_palette_is_read(header: int, bits: int) -> None:
    indices = [[0, 1, 0], [1, 1, 0]] if bits == 1 else [[0, 1, 2], [3, 2, 1]]
    packed = [
        int("".join(f"{index:0{bits}b}" for index in row).ljust(32, "0"), 2).to_bytes(4, "big") for row in indices[::-1]
    ]
    palette = PALETTE[: 1 << bits]
    data = bmp((3, 2), bits, b"".join(packed), header=header, palette=palette)
    if header == 12:
        pad = [(0, 0, 0)] * ((1 << bits) - len(palette))
        data = bmp((3, 2), bits, b"".join(packed), header=header, palette=[*palette, *pad])
    assert pixels(shown(data)) == [[palette[index] for index in row] for row in indices]


def test_two_greys_of_eight_bits_are_bytes_not_bits() -> None:
    data = bmp((3, 1), 8, rows([bytes((0, 1, 1))]), palette=[(0, 0, 0), (255, 255, 255)])
    assert pixels(shown(data).convert("L")) == [[0, 255, 255]]


def test_the_top_row_may_come_first() -> None:
    data = bmp((3, -2), 24, words(24, (0xFF0000, 0xFF00, 0xFF), bottom_up=False))
    assert pixels(shown(data)) == COLOURS


@pytest.mark.parametrize("header", [40, 56, 108, 124])
@pytest.mark.parametrize(
    ("bits", "masks"),
    [
        (16, (0x7C00, 0x3E0, 0x1F)),
        (16, (0xF800, 0x7E0, 0x1F)),
        (16, (0xF00, 0xF0, 0xF)),
        (16, (0x1F, 0x7E0, 0xF800)),
        (24, (0xFF0000, 0xFF00, 0xFF)),
        (32, (0xFF0000, 0xFF00, 0xFF)),
        (32, (0xFF000000, 0xFF0000, 0xFF00)),
        (32, (0xFF, 0xFF00, 0xFF0000)),
        (32, (0x3FF00000, 0xFFC00, 0x3FF)),
        (32, (0xFFE00000, 0x1FFC00, 0x3FF)),
    ],
)
def test_samples_lie_where_the_masks_say(header: int, bits: int, masks: tuple[int, int, int]) -> None:
    got = pixels(shown(bmp((3, 2), bits, words(bits, masks), header=header, compression=3, masks=masks)))
    fewest = min(mask.bit_count() for mask in masks)
    off = 0 if fewest >= 8 else 255 / (2 << fewest) + 1
    for row, wanted in zip(got, COLOURS, strict=True):
        for pixel, colour in zip(row, wanted, strict=True):
            assert pixel == pytest.approx(colour, abs=off)


@pytest.mark.parametrize(
    ("bits", "masks", "compression", "header"),
    [
        (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), 3, 124),
        (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), 3, 56),
        (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000), 3, 108),
        (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF), 3, 124),
        (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), 6, 40),
        (16, (0xF00, 0xF0, 0xF, 0xF000), 3, 124),
    ],
)
def test_alpha_is_kept(bits: int, masks: tuple[int, ...], compression: int, header: int) -> None:
    image = shown(bmp((3, 2), bits, words(bits, masks), header=header, compression=compression, masks=masks))
    alphas = [[pixel[3] for pixel in row] for row in pixels(image)]  # type: ignore[index]
    for row, wanted in zip(alphas, ALPHA, strict=True):
        assert row == pytest.approx(wanted, abs=0 if bits == 32 else 9)


def test_no_alpha_is_read_where_none_is_declared() -> None:
    masks = (0xFF0000, 0xFF00, 0xFF)
    data = bmp((3, 2), 32, words(32, (*masks, 0xFF000000)))
    assert shown(data).mode == "RGB"
    unseen = bmp((3, 2), 32, words(32, masks), header=124, compression=3, masks=(*masks, 0xFF000000))
    assert pixels(shown(unseen)) == COLOURS, "alpha is zero everywhere: nobody means that"


def test_runs_stretches_and_lines() -> None:
    runs = bytes((3, 1, 0, 0)) + bytes((0, 3, 0, 2, 1, 0)) + bytes((0, 1))
    data = bmp((3, 2), 8, runs, compression=1, palette=PALETTE)
    red, green, blue, _ = PALETTE
    assert pixels(shown(data)) == [[red, blue, green], [green, green, green]]
    nibbles = bytes((3, 0x12, 0, 0)) + bytes((0, 3, 0x02, 0x10)) + bytes((0, 1))
    four = bmp((3, 2), 4, nibbles, compression=2, palette=PALETTE)
    assert pixels(shown(four)) == [[red, blue, green], [green, blue, green]]


def test_the_top_row_of_runs_may_come_first_too() -> None:
    runs = bytes((3, 1, 0, 0)) + bytes((0, 2, 1, 0, 1, 2, 0, 1))
    image = shown(bmp((3, -2), 8, runs, compression=1, palette=PALETTE)).convert("RGBA")
    green, blue = (0, 255, 0, 255), (0, 0, 255, 255)
    assert pixels(image)[0] == [green] * 3
    assert [pixel[3] for pixel in pixels(image)[1]] == [0, 255, 0]  # type: ignore[index]
    assert pixels(image)[1][1] == blue


def test_pixels_that_runs_leave_out_are_transparent() -> None:
    runs = bytes((1, 1)) + bytes((0, 2, 1, 1)) + bytes((1, 2)) + bytes((0, 1))
    image = shown(bmp((3, 2), 8, runs, compression=1, palette=PALETTE))
    assert [[pixel[3] for pixel in row] for row in pixels(image)] == [[0, 0, 255], [255, 0, 0]]  # type: ignore[index]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ({"bits": 24, "compression": 4}, "JPEG inside BMP"),
        ({"bits": 24, "compression": 5}, "PNG inside BMP"),
        ({"bits": 1, "compression": 3, "header": 64}, "OS/2 Huffman"),
        ({"bits": 24, "compression": 4, "header": 64}, "OS/2 RLE24"),
        ({"bits": 64}, "64 bits a pixel"),
        ({"bits": 4, "compression": 1}, "4 bits a pixel with the compression 1"),
        (
            {"bits": 32, "compression": 3, "masks": (0xF0F, 0xF000, 0xF0000)},
            "00000F0F, 0000F000, 000F0000, 00000000: one has a gap",
        ),
        ({"bits": 24, "compression": 3, "masks": (0xFF, 0xFF00, 0xFF0000)}, "24 bits a pixel with the masks"),
        ({"bits": 24, "header": 80}, "header of 80 bytes"),
    ],
)
def test_other_kinds_are_named(kind: dict[str, int], said: str) -> None:
    with pytest.raises(UnsupportedImage, match=said):
        render(bmp((3, 2), pixels=bytes(64), **kind), BOX)  # type: ignore[arg-type]


def test_cut_short_and_damaged() -> None:
    whole = bmp((3, 2), 24, words(24, (0xFF0000, 0xFF00, 0xFF)))
    for cut in (20, 50, len(whole) - 4):
        with pytest.raises(TruncatedImage):
            render(whole[:cut], BOX)
    assert pixels(shown(whole[:-3])) == COLOURS, "the last row's padding says nothing"
    for size in ((0, 2), (3, 0), (-3, 2)):
        with pytest.raises(DamagedImage, match=r"says that it has .* pixels"):
            render(bmp(size, 24, bytes(64)), BOX)
    runs = bmp((3, 2), 8, bytes((3, 1, 0, 0, 2, 1)), compression=1, palette=PALETTE)
    with pytest.raises(TruncatedImage):
        render(runs, BOX)


def test_what_bitmaps_cost() -> None:
    runs = bmp((3, 2), 8, bytes((3, 1, 0, 0, 3, 1, 0, 1)), compression=1, palette=PALETTE)
    render(runs, BOX, Limits(max_pixels=15))
    with pytest.raises(ImageTooLarge, match=r"count 2.5 times as BMP of runs"):
        render(runs, BOX, Limits(max_pixels=14))
    huge = struct.pack("<2sIHHI", b"BM", 0, 0, 0, 54) + struct.pack(
        "<IiiHHIIiiII", 40, 30_000, 30_000, 1, 8, 1, *[0] * 5
    )
    with pytest.raises(ImageTooLarge, match="MAX_PIXELS"):
        render(huge, BOX)

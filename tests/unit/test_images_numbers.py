"""Colours described by numbers (cICP, gAMA and cHRM of PNG, nclx of AVIF and HEIC) come out as Chromium 150 shows them.

The expected values were drawn by it (``benchmarks.referee``), not computed here.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from tasks.images.render import Recipe, render
from tests.support.icc import rgb_profile
from tests.support.pictures import encoded, opened, png, rgb

BOX = Recipe((64, 64), "PNG")
COLOURS = ((64, 64, 128), (128, 32, 128), (240, 40, 128))
ROWS = [bytes(sample for colour in COLOURS for _ in range(8) for sample in colour)] * 8
#: Samples are 8 bits on the way in and on the way out, and AVIF is lossy.
ROUNDING = 2

P3_PRIMARIES = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
PROPHOTO_PRIMARIES = (0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001)
UNCHANGED = COLOURS
P3 = ((64, 64, 132), (140, 18, 132), (255, 0, 129))
LINEAR = ((137, 137, 188), (188, 99, 188), (248, 110, 188))


def gama(value: float) -> bytes:
    return struct.pack(">I", round(value * 100_000))


def chrm(*values: float) -> bytes:
    return struct.pack(">8I", *(round(value * 100_000) for value in values))


def shown(data: bytes) -> tuple[tuple[int, ...], ...]:
    image = opened(render(data, BOX).data).convert("RGB")
    return tuple(rgb(image, (8 * index + 4, 4)) for index in range(len(COLOURS)))


def assert_near(found: tuple[tuple[int, ...], ...], expected: tuple[tuple[int, ...], ...], by: int = ROUNDING) -> None:
    worst = max(abs(a - b) for one, other in zip(found, expected, strict=True) for a, b in zip(one, other, strict=True))
    assert worst <= by, f"{found}, and not {expected}"


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ({"gAMA": gama(1)}, LINEAR),
        ({"gAMA": gama(0.55)}, ((80, 80, 146), (146, 42, 146), (243, 52, 146))),
        ({"gAMA": gama(0.2)}, ((3, 3, 50), (50, 0, 50), (223, 0, 50))),
        ({"gAMA": gama(0.45455)}, UNCHANGED),
        ({"gAMA": gama(0.475)}, UNCHANGED),
        ({"gAMA": gama(0.48)}, ((67, 67, 134), (134, 30, 134), (241, 40, 134))),
        ({"gAMA": gama(0)}, UNCHANGED),
        ({"gAMA": b"\1"}, UNCHANGED),
        ({"cHRM": chrm(*P3_PRIMARIES)}, UNCHANGED),
        ({"cHRM": chrm(*P3_PRIMARIES), "gAMA": gama(0.45455)}, ((62, 62, 133), (141, 5, 133), (255, 0, 130))),
        ({"cHRM": chrm(*PROPHOTO_PRIMARIES), "gAMA": gama(1 / 1.8)}, ((38, 81, 154), (185, 0, 155), (255, 0, 154))),
        ({"cHRM": bytes(32), "gAMA": gama(1)}, UNCHANGED),
        ({"cHRM": chrm(*P3_PRIMARIES), "gAMA": gama(1), "sRGB": b"\0"}, UNCHANGED),
        ({"cICP": bytes((12, 13, 0, 1))}, P3),
        ({"cICP": bytes((12, 13, 0, 1)), "sRGB": b"\0"}, P3),
        ({"cICP": bytes((12, 13, 0, 0))}, UNCHANGED),
        ({"cICP": bytes((12, 13, 1, 1))}, UNCHANGED),
        ({"cICP": bytes((1, 8, 0, 1))}, LINEAR),
        ({"cICP": bytes((2, 8, 0, 1))}, UNCHANGED),
        ({"cICP": bytes((2, 2, 0, 1)), "gAMA": gama(1)}, LINEAR),
        ({"cICP": b"\x0c\x0d"}, UNCHANGED),
    ],
)
def test_png(chunks: dict[str, bytes], expected: tuple[tuple[int, ...], ...]) -> None:
    assert_near(shown(png(24, 8, 8, 2, ROWS, **chunks)), expected)


@pytest.mark.parametrize("name", ["gAMA", "cICP", "iCCP"])
def test_what_comes_after_the_pixels_says_nothing(name: str) -> None:
    """Chunks of colour must come before them (PNG, third edition, 5.6); browsers have begun to draw by then."""
    contents = {"gAMA": gama(1), "cICP": bytes((12, 13, 0, 1)), "iCCP": b"-\0\0" + zlib.compress(rgb_profile())}
    plain, described = png(24, 8, 8, 2, ROWS), png(24, 8, 8, 2, ROWS, **{name: contents[name]})
    at, end = described.index(name.encode()) - 4, described.index(b"IDAT") - 4
    late = plain[:-12] + described[at:end] + plain[-12:]
    assert shown(described) != shown(plain)
    assert render(late, BOX) == render(plain, BOX)


def test_a_profile_goes_before_gamma_and_numbers_go_before_a_profile() -> None:
    profiled = encoded(Image.frombytes("RGB", (24, 8), b"".join(ROWS)), "PNG", icc_profile=rgb_profile())
    at = profiled.index(b"IDAT") - 4
    gamma = png(1, 1, 8, 0, [b"\0"], gAMA=gama(1), cICP=bytes((12, 13, 0, 1)))
    gama_chunk = gamma[gamma.index(b"gAMA") - 4 :][:16]
    cicp_chunk = gamma[gamma.index(b"cICP") - 4 :][:16]
    assert shown(profiled[:at] + gama_chunk + profiled[at:]) == shown(profiled)
    assert_near(shown(profiled[:at] + cicp_chunk + profiled[at:]), P3)


def test_grey_stays_grey_whatever_is_said_of_colours() -> None:
    rows = [bytes((64, 128, 240))] * 3
    described = png(3, 3, 8, 0, rows, gAMA=gama(1), cHRM=chrm(*PROPHOTO_PRIMARIES))
    image = opened(render(described, BOX).data)
    assert image.mode == "L"
    assert all(abs(a - b) <= ROUNDING for a, b in zip(image.tobytes()[:3], (137, 188, 248), strict=True))


def avif(primaries: int, transfer: int) -> bytes:
    image = Image.frombytes("RGB", (24, 8), b"".join(ROWS))
    data = encoded(image, "AVIF", quality=100, subsampling="4:4:4", speed=10)
    at = data.index(b"colrnclx") + 8
    return data[:at] + bytes((0, primaries, 0, transfer)) + data[at + 4 :]


@pytest.mark.parametrize(
    ("primaries", "transfer", "expected"),
    [
        (1, 13, UNCHANGED),
        (2, 2, UNCHANGED),
        (1, 1, UNCHANGED),
        (1, 14, UNCHANGED),
        (1, 4, ((61, 62, 128), (129, 27, 128), (239, 35, 129))),
        (1, 5, ((39, 40, 105), (106, 11, 105), (235, 17, 106))),
        (1, 7, ((80, 81, 140), (141, 51, 140), (241, 58, 141))),
        (2, 8, LINEAR),
        (12, 13, P3),
        (12, 1, P3),
        (12, 2, P3),
        (9, 14, ((54, 63, 132), (156, 0, 132), (255, 0, 130))),
        (5, 13, ((63, 64, 126), (130, 33, 126), (243, 40, 127))),
        (6, 13, ((64, 66, 127), (125, 41, 127), (233, 56, 128))),
        (4, 4, ((50, 69, 131), (150, 39, 130), (255, 26, 127))),
        (8, 13, ((62, 62, 131), (145, 7, 130), (255, 0, 127))),
        (11, 17, ((47, 48, 121), (126, 0, 121), (255, 0, 118))),
        (10, 17, ((0, 54, 124), (184, 0, 128), (255, 0, 141))),
        (22, 13, ((63, 67, 127), (129, 44, 127), (242, 59, 128))),
    ],
)
def test_avif(primaries: int, transfer: int, expected: tuple[tuple[int, ...], ...]) -> None:
    assert_near(shown(avif(primaries, transfer)), expected, by=3)


@pytest.mark.parametrize(
    ("transfer", "expected"),
    [
        (16, {56: 22, 80: 48, 104: 83, 128: 132, 152: 198, 164: 220, 176: 237, 200: 255, 248: 255}),
        (18, {32: 14, 80: 57, 128: 99, 176: 160, 200: 202, 224: 228, 248: 250}),
    ],
)
def test_what_is_brighter_than_white_is_mapped_to_it(transfer: int, expected: dict[int, int]) -> None:
    """PQ and HLG: of grey as Chromium does."""
    row = bytes(expected)
    data = png(len(row), 2, 8, 0, [row] * 2, cICP=bytes((9, transfer, 0, 1)))
    image = opened(render(data, BOX).data)
    found = dict(zip(expected, image.tobytes(), strict=False))
    assert all(abs(found[signal] - value) <= ROUNDING for signal, value in expected.items()), found


def test_heic() -> None:
    data = Path(__file__).parents[1].joinpath("data", "quadrants.heic").read_bytes()
    at = data.index(b"colrnclx") + 8
    linear = render(data[:at] + bytes((0, 1, 0, 8)) + data[at + 4 :], BOX)
    plain = render(data, BOX)
    before, after = (rgb(opened(rendition.data), (10, 10)) for rendition in (plain, linear))
    expected = [round(255 * (1.055 * (sample / 255) ** (1 / 2.4) - 0.055)) for sample in before]
    assert_near((after,), (tuple(expected),))

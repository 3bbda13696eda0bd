"""The rotation of a HEIC: it is applied to the rendition, where that gives the same picture, and costs less memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core.errors import ImageTooLarge
from tasks.images import heif
from tasks.images.limits import Limits
from tasks.images.render import Recipe, render
from tests.support.heifs import box
from tests.support.pictures import SHOWN, opened, shown_corners

DATA = Path(__file__).parents[1] / "data"
TURNED = DATA.joinpath("quadrants-turned.heic").read_bytes()
BOX = Recipe((60, 60), "PNG")


def rotated(angle: int) -> bytes:
    at = TURNED.index(b"irot") + 4
    return TURNED[:at] + bytes((angle,)) + TURNED[at + 1 :]


@pytest.mark.parametrize("angle", range(4))
def test_the_rendition_is_turned_as_libheif_would(angle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = rotated(angle)
    _, orientation = heif.turned_later(data, heif.read(data))
    assert orientation == (1, 8, 3, 6)[angle]
    rendition = render(data, BOX)
    assert shown_corners(opened(rendition.data)) == SHOWN[orientation]
    monkeypatch.setattr(heif, "turned_later", lambda data, _: (data, 1))
    by_libheif = render(data, BOX)
    assert shown_corners(opened(by_libheif.data)) == SHOWN[orientation]
    shown = (rendition.width, rendition.height, rendition.source_width, rendition.source_height)
    assert shown == (by_libheif.width, by_libheif.height, by_libheif.source_width, by_libheif.source_height)


def file(**changes: object) -> heif.HeifFile:
    """Of a grid (1) of two tiles (2, 3) with alpha (4) and a thumbnail (5); property 1 turns, and 2 mirrors."""
    facts: dict[str, object] = {
        "primary": 1,
        "made_of": {1: [2, 3]},
        "beside": [4],
        "properties": [(b"irot", b"\3"), (b"imir", b"\0"), (b"irot", b"\1")],
        "places": [0, 1, 2],
        "has": {1: [1], 4: [1], 5: [1]},
    }
    return heif.HeifFile(**facts | changes)  # type: ignore[arg-type]


def test_alpha_and_thumbnails_may_share_the_rotation() -> None:
    assert heif.turned_later(bytes(3), file()) == (bytes(3), 6)
    assert heif.turned_later(b"\3\0\1", file())[0] == b"\0\0\1"


@pytest.mark.parametrize(
    "changes",
    [
        {"has": {1: [1, 2]}},  # mirrored afterwards
        {"has": {1: [1, 1]}},  # turned twice
        {"has": {1: [1], 2: [1], 3: [1]}},  # the tiles are turned too
        {"has": {1: [1], 4: [3]}},  # alpha is turned in another way
        {"has": {1: [2]}},
        {"has": {}},
        {"has": {1: [9]}},
    ],
)
def test_any_other_transform_is_left_to_libheif(changes: dict[str, object]) -> None:
    assert heif.turned_later(b"\3\0\1", file(**changes)) == (b"\3\0\1", 1)


def test_more_than_8_bits_count_for_the_memory_that_they_take() -> None:
    """libheif converts them with 16 bits a sample: 32.7 megapixels of a Sony or Canon take 500 MB."""
    depth = TURNED.index(b"hvcC") + 4 + 17
    deep = TURNED[:depth] + bytes((TURNED[depth] | 2,)) + TURNED[depth + 1 :]
    limits = Limits(max_pixels=96 * 64 * 3)
    assert render(TURNED, BOX, limits).width
    with pytest.raises(ImageTooLarge, match=r"3\.05 times as HEIF of more than 8 bits"):
        render(deep, BOX, limits)


def test_a_property_that_is_cut_short_is_no_rotation() -> None:
    assert box(b"irot") == b"\0\0\0\x08irot"
    assert heif.turned_later(b"", file(properties=[(b"irot", b"")], has={1: [1]})) == (b"", 1)

"""HEIC: its rotation, its memory, and grids that are incomplete. The rotation is applied to the rendition, which gives
the same picture, and costs less memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core.errors import DamagedImage, ImageTooLarge, TruncatedImage
from tasks.images import heif
from tasks.images.limits import Limits
from tasks.images.render import Recipe, render
from tests.support.heifs import box, grid_of
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


GRID = grid_of(DATA.joinpath("quadrants.heic").read_bytes(), 3)


def test_a_grid_is_put_together() -> None:
    rendition = render(GRID, Recipe((300, 300), "PNG"))
    image = opened(rendition.data)
    assert (image.width, image.height, rendition.salvaged) == (3 * 96, 64, None)
    for column in range(3):
        assert shown_corners(image.crop((96 * column, 0, 96 * column + 96, 64))) == SHOWN[1]


@pytest.mark.parametrize("part", [0.4, 0.7, 0.99])
def test_a_grid_that_ends_early_is_never_published_with_green_tiles(part: float) -> None:
    """libheif fills what is missing, and says nothing: of a phone's photo that was half uploaded, too."""
    begin = GRID.index(b"mdat") + 4
    with pytest.raises(TruncatedImage, match="the end of the picture is missing"):
        render(GRID[: begin + int((len(GRID) - begin) * part)], BOX)


def test_a_grid_with_a_damaged_tile_is_never_published_with_a_green_one() -> None:
    begin = GRID.index(b"mdat") + 4
    third = (len(GRID) - begin) // 3
    with pytest.raises(DamagedImage, match="can't be decoded"):
        render(GRID[: begin + third] + bytes(third) + GRID[begin + 2 * third :], BOX)


def test_what_is_cut_off_beside_the_picture_does_no_harm() -> None:
    whole = heif.read(GRID)
    size = len(GRID) - 1
    heif.check_complete("HEIF", file(ends={1: size, 2: size, 3: size, 4: size, 5: len(GRID)}), size)
    with pytest.raises(TruncatedImage):
        heif.check_complete("HEIF", whole, size)

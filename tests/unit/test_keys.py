"""Names of renditions and failure records."""

import pytest

from pipeline.core.names import failure_key
from pipeline.images.names import ENDINGS, SUFFIXES, FormatEndings
from tasks.images.formats import WRITTEN

UNSET = FormatEndings()
JPEG = FormatEndings("jpeg")
WEBP = FormatEndings("webp")


def test_the_endings_are_those_of_the_formats_that_are_written() -> None:
    assert {written.content_type: written.suffix for written in WRITTEN.values()} == {
        content_type: endings[0] for content_type, endings in ENDINGS.items()
    }


@pytest.mark.parametrize(
    ("key", "content_type", "endings", "wanted"),
    [
        ("a.jpg", "image/jpeg", UNSET, ""),
        ("a.JPEG", "image/jpeg", UNSET, ""),
        ("a.jpg", "image/png", UNSET, ""),  # the upload's own name lies
        ("a.heic", "image/jpeg", UNSET, ".jpg"),
        ("a.TIFF", "image/png", UNSET, ".png"),
        ("a.heif", "image/avif", UNSET, ".avif"),
        ("a.upload", "image/png", UNSET, ""),  # says nothing about the format
        ("a.jpe", "image/jpeg", JPEG, ""),
        ("a.png", "image/jpeg", JPEG, ".jpg"),
        ("a.png", "image/webp", WEBP, ".webp"),
        ("a.webp", "image/webp", WEBP, ""),
        ("a.heic", "image/webp", WEBP, ".webp"),
    ],
)
def test_a_name_gains_an_ending_where_its_own_would_be_wrong(
    key: str, content_type: str, endings: FormatEndings, wanted: str
) -> None:
    assert endings.of(key, content_type) == wanted
    assert wanted in endings.of_key(key)
    assert set(endings.of_key(key)) <= set(endings.ever) == set(SUFFIXES)


@pytest.mark.parametrize("key", ["a.jpg", "a.png", "a.upload", "b.gif"])
def test_most_objects_have_one_name_for_their_renditions(key: str) -> None:
    assert UNSET.of_key(key) == ("",)


def test_where_the_content_decides_the_likeliest_name_is_first() -> None:
    assert UNSET.of_key("a.heic") == (".jpg", ".png", ".webp", ".avif", ".gif")
    assert WEBP.of_key("a.heic") == (".webp",)


def test_no_two_objects_share_a_failure_record() -> None:
    assert len({failure_key(key) for key in ("a", "a.json", "a.json.json")}) == 3

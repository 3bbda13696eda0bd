"""Every legal key has a name for each output and for its record, and the key can be read from it or its metadata."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.core.names import (
    MAX_AROUND_BYTES,
    MAX_SPELLED_BYTES,
    failure_key,
    is_shortened,
    key_metadata,
    spelled_key,
    stored_name,
)
from pipeline.core.provenance import Provenance
from pipeline.core.source import MAX_KEY_BYTES

LETTERS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12) | st.sampled_from(
    ["a", "/", "é", "日", "🐈", ".jpg", "//", "~sha256-", "%", " "]
)
FOLDERS = [
    ("resized/", ""),
    ("thumbs/", ".jpg"),
    ("failed/", ".json"),
    ("o" * (MAX_AROUND_BYTES - 17) + "/", "." + "s" * 15),
]


def fitting(text: str, size_bytes: int) -> str:
    """As many of its letters as fit."""
    return text.encode()[:size_bytes].decode(errors="ignore")


@st.composite
def keys(draw: st.DrawFn) -> str:
    """Of all lengths, most often of those about the limits, and of one to four bytes a letter."""
    size_bytes = draw(st.integers(990, MAX_KEY_BYTES) | st.integers(1, MAX_KEY_BYTES))
    text = "".join(draw(st.lists(LETTERS, min_size=1, max_size=30)))
    found = fitting(text * (size_bytes // len(text.encode()) + 1), size_bytes)
    return found or "a"


@given(keys(), st.sampled_from(FOLDERS))
@example("a" * MAX_KEY_BYTES, FOLDERS[0])
@example("日/" * 256, FOLDERS[1])
def test_a_name_fits_and_tells_its_key_or_its_metadata_does(key: str, around: tuple[str, str]) -> None:
    folder, suffix = around
    name = stored_name(folder, key, suffix)
    assert len(name.encode()) <= MAX_KEY_BYTES
    assert name.startswith(folder)
    assert name.endswith(suffix)
    metadata = key_metadata(name, key)
    if is_shortened(name):
        assert Provenance.read(metadata).key == key
        assert metadata["source-key"].isascii()
        assert len(metadata["source-key"]) <= MAX_SPELLED_BYTES
    else:
        assert name == f"{folder}{key}{suffix}"
        assert metadata == {}


@given(st.sets(keys(), min_size=2, max_size=5), st.sampled_from(FOLDERS))
def test_no_two_keys_have_one_name(found: set[str], around: tuple[str, str]) -> None:
    folder, suffix = around
    assert len({stored_name(folder, key, suffix) for key in found}) == len(found)


@pytest.mark.parametrize("size_bytes", range(1000, MAX_KEY_BYTES + 1))
def test_a_key_keeps_its_plain_names_where_they_fit(size_bytes: int) -> None:
    key = "k" * (size_bytes - 4) + ".jpg"
    assert is_shortened(stored_name("resized/", key)) == (size_bytes > 1016)
    assert is_shortened(stored_name("thumbs/", key)) == (size_bytes > 1017)
    assert is_shortened(failure_key(key)) == (size_bytes > 1012)


def test_a_key_that_looks_like_a_shortened_name_gets_none_of_another_object() -> None:
    taken = stored_name("resized/", "k" * MAX_KEY_BYTES)
    forged = taken.removeprefix("resized/")
    assert is_shortened(stored_name("resized/", forged))
    assert stored_name("resized/", forged) != taken
    assert stored_name("resized/", forged + ".txt") != f"{taken}.txt"


def test_a_shortened_name_keeps_the_folders_that_fit_and_the_ending() -> None:
    assert re.fullmatch(
        r"resized/2026/a/~sha256-[0-9a-f]{64}\.jpg", stored_name("resized/", f"2026/a/{'k' * 1009}.jpg")
    )
    deep = "/".join(["d" * 90] * 11) + "/" + "k" * 20
    assert stored_name("resized/", deep).count("/") == 11
    assert stored_name("resized/", "k" * 1024).startswith("resized/~sha256-")


@pytest.mark.parametrize(
    ("value", "key"),
    [(None, None), ("a%20b", "a b"), ("%FF", None), ("base64:4pyT", "✓"), ("base64:!", None), ("base64:_w==", None)],
)
def test_what_a_stranger_wrote_is_no_error(value: str | None, key: str | None) -> None:
    assert spelled_key(value) == key


def test_metadata_has_room_for_the_longest_key_and_all_the_rest() -> None:
    """S3 allows 2 KB of names and values."""
    key = "日" * 341
    name = stored_name("thumbs/", key, ".jpg")
    known = Provenance(
        bucket="b" * 63,
        etag="e" * 36,
        version_id="v" * 32,
        sequencer="s" * 18,
        modified="2026-11-24T18:07:55+00:00",
        recipe="2f0c5a1b77e1.77e1d09c44ab",
        key_suffix=".jpeg",
    )
    facts = {"source-size": "16383x16383", "source-bytes": "2000000000", "pixels": "16383x16383", "made-from": "e" * 36}
    metadata = known.metadata() | facts | key_metadata(name, key)
    assert len(quote(key)) > 2048
    assert sum(len(name) + len(value) for name, value in metadata.items()) <= 2048

"""Listings side by side."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.outputs import Output
from pipeline.images.names import SUFFIXES, FormatEndings
from pipeline.operations.audit.merge import MergedEntry, merge
from pipeline.s3.storage import Found
from pipeline.testing.s3 import EPOCH


def found(names: Iterable[str]) -> list[Found]:
    return [Found(name, "e", 1, EPOCH) for name in sorted(set(names), key=str.encode)]


OUTPUTS = [Output(folder=folder, endings=FormatEndings()) for folder in ("resized/", "thumbs/")]


def join(
    sources: Iterable[str], resized: Iterable[str], thumbs: Iterable[str], records: Iterable[str]
) -> list[MergedEntry]:
    outputs = list(zip(OUTPUTS, map(found, (resized, thumbs)), strict=True))
    return list(merge(found(sources), found(f"{key}.json" for key in records), outputs))


def suffixes(entry: MergedEntry, folder: str) -> list[str]:
    return sorted(each.suffix for each in entry.stored if each.output.folder == folder)


def shown(entries: Iterable[MergedEntry]) -> dict[str, tuple[bool, bool, list[str], list[str], bool]]:
    return {
        entry.key: (
            entry.source is not None,
            entry.record is not None,
            suffixes(entry, "resized/"),
            suffixes(entry, "thumbs/"),
            entry.ambiguous,
        )
        for entry in entries
    }


def test_what_belongs_together_is_joined() -> None:
    entries = join(["a.jpg", "b.heic", "c.jpg"], ["a.jpg", "b.heic.jpg"], ["a.jpg", "b.heic.jpg", "d.jpg"], ["c.jpg"])
    assert shown(entries) == {
        "a.jpg": (True, False, [""], [""], False),
        "b.heic": (True, False, [".jpg"], [".jpg"], False),
        "c.jpg": (True, True, [], [], False),
        "d.jpg": (False, False, [], [""], False),
    }


def test_keys_that_sort_between_an_object_and_its_renditions() -> None:
    """``-`` sorts before ``.``, so ``a.heic-1.jpg`` is listed between ``a.heic`` and ``a.heic.jpg``."""
    sources = ["a.heic", "a.heic-1.jpg", "a.heic.jpg2.jpg", "a.heicz.jpg"]
    outputs = ["a.heic.jpg", "a.heic-1.jpg", "a.heic.jpg2.jpg", "a.heicz.jpg"]
    entries = shown(join(sources, outputs, outputs, []))
    assert entries["a.heic"] == (True, False, [".jpg"], [".jpg"], False)
    assert all(entry[2] and entry[3] for entry in entries.values())
    assert set(entries) == set(sources)


def test_an_ending_that_sorts_behind_most_others() -> None:
    """``~`` is the last of ASCII, and ``.a`` to ``.~`` may follow the same key."""
    bak, swapped = Output(folder="bak/", append_suffix=".~bak"), Output(folder="json/", replace_suffix=".~json")
    sources = ["a", "a.b.txt", "a.txt", "a.~bak", "b.txt", "é.ü"]
    names = [f"{key}.~bak" for key in sources]
    stems = ["a.b.~json", "b.~json", "é.~json", "c.~json"]
    entries = list(merge(found(sources), found([]), [(bak, found(names)), (swapped, found(stems))]))
    assert {entry.key: [each.name for each in entry.stored] for entry in entries} == {
        "a": ["bak/a.~bak"],
        "a.b.txt": ["bak/a.b.txt.~bak", "json/a.b.~json"],
        "a.txt": ["bak/a.txt.~bak"],
        "a.~bak": ["bak/a.~bak.~bak"],
        "b.txt": ["bak/b.txt.~bak", "json/b.~json"],
        "é.ü": ["bak/é.ü.~bak", "json/é.~json"],
        "c.~json": ["json/c.~json"],  # of nobody
    }


@given(
    st.lists(st.text("ab.~/", min_size=1, max_size=5), max_size=10),
    st.lists(st.text("ab.~/", min_size=1, max_size=5), max_size=10),
)
def test_names_without_the_ending_of_their_object(sources: list[str], stored: list[str]) -> None:
    output = Output(folder="o/", replace_suffix=".x")
    names = {output.name(key).removeprefix("o/") for key in stored}
    entries = list(merge(found(sources), found([]), [(output, found(names))]))
    with_source = {entry.key: entry for entry in entries if entry.source is not None}
    assert set(with_source) == set(sources)
    for key, entry in with_source.items():
        name = output.name(key)
        assert [each.name for each in entry.stored] == [name] * (name.removeprefix("o/") in names)
        if entry.stored:
            assert entry.ambiguous == any(output.name(other) == name for other in sources if other != key)
    owned = {output.name(key).removeprefix("o/") for key in sources}
    assert {entry.key for entry in entries if entry.source is None} == names - owned


def test_two_objects_that_want_the_same_name_are_told() -> None:
    entries = shown(join(["a.heic", "a.heic.jpg"], ["a.heic.jpg"], [], []))
    assert entries == {
        "a.heic": (True, False, [".jpg"], [], True),
        "a.heic.jpg": (True, False, [""], [], True),
    }


def test_a_record_of_what_is_gone() -> None:
    assert shown(join([], ["a.jpg"], [], ["a.jpg", "b.jpg"])).keys() == {"a.jpg", "b.jpg"}


KEYS = st.lists(st.text("ab./-~é", min_size=1, max_size=6), max_size=12)
NAMES = st.lists(st.tuples(st.text("ab./-~é", min_size=1, max_size=6), st.sampled_from(SUFFIXES)), max_size=12)


@given(KEYS, NAMES, NAMES, KEYS)
def test_it_is_what_comparing_everything_with_everything_gives(
    sources: list[str], big: list[tuple[str, str]], small: list[tuple[str, str]], records: list[str]
) -> None:
    resized, thumbs = ({key + suffix for key, suffix in names} for names in (big, small))
    entries = join(sources, resized, thumbs, records)
    with_source = {entry.key: entry for entry in entries if entry.source is not None}
    assert set(with_source) == set(sources)
    assert len(with_source) == sum(entry.source is not None for entry in entries)
    for key, entry in with_source.items():
        assert set(suffixes(entry, "resized/")) == {suffix for suffix in SUFFIXES if key + suffix in resized}
        assert set(suffixes(entry, "thumbs/")) == {suffix for suffix in SUFFIXES if key + suffix in thumbs}
        assert (entry.record is not None) == (key in records)
        wanted = {each.found.key for each in entry.stored}
        others = {other + suffix for other in sources if other != key for suffix in SUFFIXES}
        assert entry.ambiguous == bool(wanted & others)
    owned = {key + suffix for key in sources for suffix in SUFFIXES}
    orphans = [entry for entry in entries if entry.source is None]
    assert {entry.key for entry in orphans if entry.record} == set(records) - set(sources)
    assert {entry.key for entry in orphans if suffixes(entry, "resized/")} == resized - owned
    assert {entry.key for entry in orphans if suffixes(entry, "thumbs/")} == thumbs - owned

"""What a rendition says about itself, and the order of versions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.provenance import Provenance
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from tests.support.synthetic import Recipes

SOURCE = Source("in", "a.jpg", version_id="v", etag="e", sequencer="0A")


def test_it_round_trips_through_metadata() -> None:
    made = Provenance.of(SOURCE, modified="2026-01-01T00:00:00+00:00", recipe="r", suffix=".jpg")
    assert Provenance.read(made.metadata()) == made
    assert made.is_rendition


def test_what_is_unknown_is_left_out() -> None:
    made = Provenance.of(Source("in", "a.jpg", etag="e"), recipe="r")
    assert made.metadata() == {"source-bucket": "in", "source-etag": "e", "recipe": "r"}
    assert Provenance.read(made.metadata()) == made


@pytest.mark.parametrize("metadata", [None, {}, {"source-etag": "somebody's"}, {"recipe": "for soup"}])
def test_another_program_s_object_is_no_rendition(metadata: dict[str, str] | None) -> None:
    assert not Provenance.read(metadata).is_rendition


def test_a_name_that_two_objects_want_belongs_to_one() -> None:
    scan = Provenance.of(Source("in", "a.tiff", etag="e"), recipe="r", suffix=".jpg")
    assert scan.is_for("in", ".jpg")
    assert not scan.is_for("in", "")  # of a.tiff.jpg
    assert not scan.is_for("elsewhere", ".jpg")
    assert Provenance.read({}).is_for("in", "")  # nobody's


def of(sequencer: str | None) -> tuple[Provenance, Source]:
    source = Source("in", "a.jpg", sequencer=sequencer)
    return Provenance.of(source), source


@pytest.mark.parametrize(
    ("earlier", "later"),
    [("0A", "0B"), ("0a", "0B"), ("005", "01"), ("0055AED6DCD90281E5", "0055AED6DCD90281E501"), ("00", "0000000001")],
)
def test_sequencers_are_hexadecimal_and_padded_on_the_right(earlier: str, later: str) -> None:
    (before, first), (after, second) = of(earlier), of(later)
    assert before.is_older(second)
    assert not after.is_older(first)


@pytest.mark.parametrize(
    ("one", "other"),
    [("0A", "0A"), ("0A", "0A00"), (None, "0A"), ("0A", None), ("0A", "xyz"), ("", "0A"), ("0x1", "2")],
)
def test_what_can_t_be_compared_is_not_older(one: str | None, other: str | None) -> None:
    (first, source), (second, another) = of(one), of(other)
    assert not first.is_older(another)
    assert not second.is_older(source)


@given(st.lists(st.text("0123456789abcdefABCDEF", min_size=1, max_size=24), min_size=3, max_size=3))
def test_the_order_is_one(sequencers: list[str]) -> None:
    (a, x), (b, y), (_, z) = map(of, sequencers)
    assert not (a.is_older(y) and b.is_older(x))
    if a.is_older(y) and b.is_older(z):
        assert a.is_older(z)


def test_a_recipe_changes_with_what_it_depends_on() -> None:
    def recipes(**env: str) -> Recipes:
        return Recipes.from_settings(Settings.from_env(env))

    usual = recipes()
    assert recipes(MAX_PIXELS="5") == usual
    smaller = recipes(THUMB_BOX="64x64")
    assert smaller.resized == usual.resized
    assert smaller.thumb != usual.thumb
    other = recipes(RESIZE_BOX="800x600")
    assert other.resized != usual.resized
    assert other.thumb != usual.thumb  # it is made from the resized one

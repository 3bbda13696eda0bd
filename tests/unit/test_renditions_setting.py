"""RENDITIONS: what is read, in which order it is made, from what, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import ConfigError
from pipeline.core.outputs import Step
from pipeline.core.routes import Routes
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.images import images
from pipeline.images.renditions import MAX_SIDE, Declared, declared, parse
from pipeline.images.spelling import spelled
from tasks.images.recipes import recipes
from tasks.images.render import Recipe

FIVE = (
    "resized=1024x768, thumbs<resized=192x192:cover, medium=640x480:webp:q80, large@2x=2048x1536, "
    "wide<original=1600x:jpeg"
)


def settings(text: str | None = None, **env: str) -> Settings:
    return Settings.from_env(({} if text is None else {"RENDITIONS": text}) | env)


def by_name(text: str, **more: Any) -> dict[str, Declared]:
    return {each.name: each for each in parse(text, **more)}


def test_the_example_of_the_page() -> None:
    found = by_name(FIVE)
    assert found == {
        "large@2x": Declared("large@2x", (2048, 1536)),
        "wide": Declared("wide", (1600, MAX_SIDE), form="jpeg"),
        "resized": Declared("resized", (1024, 768), made_from="large@2x"),
        "medium": Declared("medium", (640, 480), form="webp", quality=80, made_from="resized"),
        "thumbs": Declared("thumbs", (192, 192), is_cover=True, made_from="resized"),
    }


@pytest.mark.parametrize(
    ("text", "box", "is_cover"),
    [
        ("a=640x", (640, MAX_SIDE), False),
        ("a=640x480:width", (640, MAX_SIDE), False),
        ("a=x480", (MAX_SIDE, 480), False),
        ("a=640x480:height", (MAX_SIDE, 480), False),
        (" a = 640×480 : contain ", (640, 480), False),
        ("a=640X480:COVER", (640, 480), True),
    ],
)
def test_how_it_fits(text: str, box: tuple[int, int], is_cover: bool) -> None:
    (found,) = parse(text)
    assert (found.box, found.is_cover) == (box, is_cover)


@pytest.mark.parametrize(
    ("text", "parent"),
    [
        ("t=192x192, l=1024x768, m=400x400", "m"),  # the smallest that is large enough, wherever it stands
        ("t=192x192, m=400x100", None),  # too low
        ("t=192x192, m=192x192:webp", None),  # not larger, and of another format
        ("t=192x192, m=400x400:webp", None),
        ("t=192x192:webp, m=400x400:webp", "m"),
        ("t=192x192:webp, m=400x400", "m"),  # of the upload's format
        ("t=192x192, m=400x400:q40", None),  # its damage would be seen
        ("t=192x192:q30, m=400x400:q40", "m"),
        ("t=192x192:q90, m=400x400", None),
        ("t=192x192, m=400x400:cover", None),  # a part of the picture
        ("t<m=192x192, m=100x100:cover:q1", "m"),  # but whoever asks for it gets it
        ("t<original=192x192, m=400x400", None),
    ],
)
def test_what_it_is_made_from(text: str, parent: str | None) -> None:
    assert by_name(text)["t"].made_from == parent


def test_what_says_nothing_of_its_own_is_as_the_settings_say() -> None:
    found = by_name("a=9x9, b=8x8:png:q70", form="webp", quality=60)
    assert (found["a"].form, found["a"].quality) == ("webp", 60)
    assert (found["b"].form, found["b"].quality) == ("png", 70)


def test_unset_is_the_two_boxes() -> None:
    assert declared(settings(RESIZE_BOX="800x600", THUMB_BOX="64x48")) == (
        Declared("resized", (800, 600)),
        Declared("thumbs", (64, 48), made_from="resized"),
    )
    # Where both are given, as a stack's template always gives the boxes, RENDITIONS counts.
    assert declared(settings("thumbs=64x64", THUMB_BOX="9000x9000"))[0].box == (64, 64)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (" ,, ", "names no rendition"),
        ("thumbs", "'thumbs' at character 1 of 'thumbs': write it as NAME=WIDTHxHEIGHT"),
        ("a=9x9, b=192", r"'b=192' at character 8 of 'a=9x9, b=192': '192' is no box"),
        ("a=x", "'x' is no box"),
        ("a=0x5", "a side of the box is 1 to 16383"),
        ("a=5x99999", "a side of the box is 1 to 16383"),
        ("a=5x:cover", "cover needs both sides"),
        ("a=x5:width", "width needs that side"),
        ("a=5x:height", "height needs that side"),
        ("a=5x5:gif", "'gif' is said twice, or is none of contain, cover"),
        ("a=5x5:webp:png", "'png' is said twice"),
        ("a=5x5:q101", "q101: the quality is q1 to q100"),
        ("a=5x5:q0", "q0: the quality is q1 to q100"),
        ("a=5x5:", "'' is said twice, or is none of"),
        ("=5x5", "'' can't be its name"),
        ("../a=5x5", "'../a' can't be its name"),
        ("/a=5x5", "can't be its name"),
        ("failed=5x5", "can't be its name"),
        ("original=5x5", "can't be its name"),
        ("a=5x5, a=6x6", "'a=6x6' at character 8 .*: the name is taken"),
        ("a=5x5, a/b=6x6", "a stands before it"),
        ("a<b=5x5", "'b', which it is to be made from, is none of the renditions"),
        ("a<b=5x5, b<a=6x6", "each of .* is to be made from another"),
        (", ".join(f"n{n}=9x9" for n in range(31)), "31 renditions are more than 30"),
    ],
)
def test_what_is_wrong_is_told_with_its_text_and_place(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as told:
        Routes.load(settings(text))
    assert str(told.value).startswith("RENDITIONS")
    assert "\n" not in str(told.value)


@given(st.text("ab<=x19:,@/ qcover", max_size=30))
def test_anything_is_read_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except ConfigError:
        return
    names = [each.name for each in found]
    assert len(set(names)) == len(names) >= 1
    for at, each in enumerate(found):
        assert each.made_from is None or each.made_from in names[:at]
        assert re.fullmatch(r"[^,=<:]+", each.name)


def test_each_is_a_task_of_the_chain_and_an_output() -> None:
    route = images(settings(FIVE))
    assert route.steps == (
        Step("tasks.rendition", (("name", "large@2x"),)),
        Step("tasks.rendition", (("name", "wide"),)),
        Step("tasks.resize"),
        Step("tasks.thumbnail"),
        Step("tasks.rendition", (("name", "medium"),)),
    )
    names = [output.name("a/b.jpg") for output in route.outputs]
    assert names == ["large@2x/a/b.jpg", "wide/a/b.jpg", "resized/a/b.jpg", "thumbs/a/b.jpg", "medium/a/b.jpg.webp"]
    found = Routes(settings(FIVE, OUTPUT_BUCKET="out"), [route])
    assert found.match(Source("out", "medium/a.jpg")) is None  # its own folders are not processed


def test_the_usual_two_are_what_they_have_always_been() -> None:
    """Stored renditions of earlier releases stay up to date, and messages that wait can be run."""
    route = images(settings())
    assert route.tasks == (Step("tasks.resize"), Step("tasks.thumbnail"))
    resized, thumb = Recipe((1024, 768)).digest, Recipe((192, 192)).digest
    assert [output.current_recipe for output in route.outputs] == [resized, f"{resized}.{thumb}"]


def test_a_recipe_is_of_what_the_entry_says() -> None:
    first = recipes(settings(FIVE))
    assert len(set(first.values())) == 5
    assert recipes(settings(FIVE.replace(":cover", "")))["thumbs"] != first["thumbs"]
    assert recipes(settings(FIVE.replace("q80", "q79")))["medium"] != first["medium"]
    larger = recipes(settings(FIVE.replace("2048x1536", "2000x1500")))
    assert {name for name in first if larger[name] != first[name]} == {"large@2x", "resized", "medium", "thumbs"}


def test_through_the_list_of_settings_of_the_stack() -> None:
    found = Settings.from_env({"PIPELINE_SETTINGS": f"QUALITY=70; RENDITIONS={FIVE}"})
    assert declared(found)[0].name == "large@2x"
    assert declared(found)[0].quality == 70


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"RESIZE_BOX": "500x400", "QUALITY": "70", "OUTPUT_FORMAT": "webp"},
        {"RENDITIONS": "a=1024x768, b=192x192:cover:webp:q80, c=640x, d=x480:avif, e=16383x16383"},
        {"RENDITIONS": "a=1024x768, b<original=192x192, c<b=64x64"},
    ],
)
def test_what_is_declared_can_be_spelled_again(variables: dict[str, str]) -> None:
    settings = Settings.from_env(variables)
    again = settings.model_copy(update={"renditions": spelled(settings)})
    assert set(declared(again)) == set(declared(settings))


def test_a_changed_rendition_is_made_from_what_is_large_enough_and_the_others_stay() -> None:
    settings = Settings.from_env({"RENDITIONS": "a=1024x768, b=192x192, c<original=64x64"})
    text = spelled(settings, changed="b", box="2000x2000", options=("webp",))
    found = {each.name: each for each in declared(settings.model_copy(update={"renditions": text}))}
    assert (found["b"].made_from, found["b"].form, found["b"].box) == (None, "webp", (2000, 2000))
    assert (found["c"].made_from, found["a"]) == (None, {each.name: each for each in declared(settings)}["a"])

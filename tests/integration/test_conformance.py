"""The conformance kit: routes that keep to everything pass, others are told what broke."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from pipeline.testing import BrokenRoute, check_routes
from tests.support import own_route
from tests.support.injection import terse

__all__ = ["terse"]


def picture(form: str, colour: str, mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, (40, 30), colour).save(out, form)
    return out.getvalue()


def test_a_task_made_of_a_function_passes() -> None:
    runs = check_routes("examples.word_count", {"a/ü b.txt": [b"one two", b"three", b""]})
    assert runs > 40  # before each request, for each thing that may happen there


def test_routes_of_two_tasks_and_of_a_rule_pass(terse: None) -> None:
    check_routes(own_route.NAMES, {"a.own": [b"text", b"\0", b"more"], "any/b": [b"MAGIC", b"magic"]})


def test_the_images_pass(terse: None) -> None:
    check_routes(
        "pipeline.images",
        {"scan.tiff": [picture("TIFF", "red"), picture("TIFF", "blue", "RGBA"), b"none"]},
        settings={"RENDITIONS": "resized=30x30, thumbs=20x20:cover, medium=25x25:webp"},
    )


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("a.hand", r"a\.hand: .*: .*"),
        ("a.half", r"a\.half: all tasks of route forgets have ended, and other/a\.half is missing"),
        ("a.none", r"a\.none: no route takes it"),
    ],
)
def test_what_breaks_is_told(key: str, says: str) -> None:
    with pytest.raises(BrokenRoute, match=says) as told:
        check_routes("tests.support.broken_routes", {key: [b"one", b"two"]})
    print(told.value)


def test_one_content_is_too_few() -> None:
    with pytest.raises(ValueError, match="at least two contents"):
        check_routes("examples.word_count", {"a.txt": [b""]})

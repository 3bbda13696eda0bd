"""PIPELINE_SETTINGS: many settings in one variable, and where it is wrong, the entry and the reason."""

from __future__ import annotations

import pytest

from pipeline.core.errors import ConfigError
from pipeline.core.settings import Settings


def read(text: str, **variables: str) -> Settings:
    return Settings.from_env({"PIPELINE_SETTINGS": text, **variables})


def test_entries_are_settings() -> None:
    settings = read(" QUALITY=80 ;SUFFIXES=jpg, png;\n KEY_PREFIX=a=b/ ; DELETE_RENDITIONS = false;")
    assert (settings.quality, settings.suffixes) == (80, (".jpg", ".png"))
    assert (settings.key_prefix, settings.delete_renditions) == ("a=b/", False)


@pytest.mark.parametrize("text", ["", " ", ";", " ; ; "])
def test_an_empty_list_sets_nothing(text: str) -> None:
    assert read(text) == Settings.from_env({})


def test_an_entry_wins_over_the_variable_which_may_be_a_default_of_the_image() -> None:
    assert read("RESAMPLER=pillow", RESAMPLER="auto").resampler == "pillow"
    assert read("RESAMPLER=", RESAMPLER="auto").resampler == "pillow"  # an empty one counts as not set


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "QUALITY=80;MAX_PIXEL=5",
            "PIPELINE_SETTINGS, entry 2, 'MAX_PIXEL=5': there is no setting MAX_PIXEL; do you mean",
        ),
        ("QUALITY", "PIPELINE_SETTINGS, entry 1, 'QUALITY': write NAME=VALUE"),
        ("EFFORT=1;;QUALITY=1;EFFORT=2", "entry 4, 'EFFORT=2': entry 1 sets EFFORT too"),
        ("HEALTH_FOLDER=/x", "HEALTH_FOLDER can only be set as its own variable"),
        ("QUALITY=800", "PIPELINE_SETTINGS, entry 1, 'QUALITY=800': must be less than or equal to 100"),
        ("HARD_TIME_LIMIT_S=10", "HARD_TIME_LIMIT_S=10 must be above SOFT_TIME_LIMIT_S=120"),
    ],
)
def test_a_wrong_entry_is_told_with_its_place_and_text(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(text)
    assert says in str(raised.value)


def test_all_wrong_entries_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        read("A=1;QUALITY=80;B")
    assert [line.split(":")[0] for line in str(raised.value).splitlines()] == [
        "PIPELINE_SETTINGS, entry 1, 'A=1'",
        "PIPELINE_SETTINGS, entry 3, 'B'",
    ]


@pytest.mark.parametrize("name", ["INPUT_BUCKET", "OUTPUT_BUCKET", "QUEUE_PREFIX"])
def test_an_entry_moves_no_process_to_other_buckets_or_queues(name: str) -> None:
    assert getattr(read(f"{name}=mine-"), name.lower()) == "mine-"
    assert getattr(read(f"{name}=mine-", **{name: "mine-"}), name.lower()) == "mine-"
    with pytest.raises(ConfigError, match=f"the variable {name} is 'mine-'"):
        read(f"{name}=other-", **{name: "mine-"})

import pytest

from pipeline.core.routes import Routes
from pipeline.core.settings import Settings
from pipeline.core.source import Source

SETTINGS = Settings.from_env({"OUTPUT_BUCKET": "out", "KEY_PREFIX": "in/"})


def skip_reason(bucket: str, key: str, settings: Settings) -> str | None:
    return Routes.load(settings).skip_reason(Source(bucket, key))


@pytest.mark.parametrize("key", ["in/a.jpg", "in/a.JPEG", "in/b.c/ü 1.HeIC", "in/resized/a.png"])
def test_images_below_the_prefix_are_taken_in_any_case(key: str) -> None:
    assert skip_reason("uploads", key, SETTINGS) is None


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("in/", "folder"),
        ("in/a.jpg/", "folder"),
        ("a.jpg", "KEY_PREFIX=in/"),
        ("in/a.txt", "SUFFIXES"),
        ("in/jpg", "SUFFIXES"),
    ],
)
def test_everything_else_is_skipped_for_a_reason(key: str, says: str) -> None:
    assert says in str(skip_reason("uploads", key, SETTINGS))


@pytest.mark.parametrize("key", ["resized/a.jpg", "thumbs/a.jpg", "failed/a.jpg"])
def test_what_the_pipeline_wrote_is_not_its_input(key: str) -> None:
    settings = Settings.from_env({"OUTPUT_BUCKET": "both"})
    assert "written by the pipeline" in str(skip_reason("both", key, settings))
    assert skip_reason("other", key, settings) is None

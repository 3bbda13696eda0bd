"""Damaged at random, each file is shown or refused with one of the five reasons, within the limits of one image."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.core.errors import PermanentError
from tasks.images import apart
from tasks.images.render import Limits, Recipe
from tests.support.bmps import bmp
from tests.support.mutated import mutated
from tests.support.pictures import encoded, opened, quadrants
from tests.unit.test_images_dangerous import FILES

BOX = Recipe((40, 40), "PNG")
REASONS = {"truncated", "damaged", "unsupported", "too-large", "not-an-image"}
#: Half of what a worker may take; a file of some kilobytes must do with less.
LIMITS = Limits(max_memory_mb=400, max_cpu_s=30)
KINDS = FILES | {
    "bmp-runs": bmp(
        (64, 4),
        8,
        b"".join(bytes((9, n, 0, 3, 1, 2, 3, 0, 52, 7, 0, 0)) for n in range(4)) + b"\0\1",
        compression=1,
        palette=[(n, n, n) for n in range(256)],
    ),
    "bmp-alpha": encoded(quadrants().convert("RGBA"), "BMP"),
    "tiff-cmyk": encoded(quadrants().convert("CMYK"), "TIFF"),
    "tiff-big": encoded(quadrants(), "TIFF", big_tiff=True),
    "gif-frames": encoded(quadrants(), "GIF", save_all=True, append_images=[quadrants().rotate(180)]),
    "webp-alpha": encoded(quadrants().convert("RGBA"), "WEBP"),
}
SEEDS = 14
GOOD = FILES["jpeg"]


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    apart.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_shown_or_refused(kind: str) -> None:
    expected = apart.render(GOOD, BOX, LIMITS)  # another limit would be another process
    for seed in range(SEEDS):
        data = mutated(KINDS[kind], seed)
        refusal: PermanentError | None = None
        try:
            rendition = apart.render(data, BOX, LIMITS)
        except PermanentError as exc:
            refusal = exc
        if refusal is not None:
            assert refusal.reason in REASONS, f"seed {seed}"
            assert str(refusal).strip(), f"seed {seed}"
            assert refusal.advice, f"seed {seed}"
            continue
        image = opened(rendition.data)
        assert image.size == (rendition.width, rendition.height), f"seed {seed}"
        assert max(image.size) <= 40, f"seed {seed}"
    assert apart.render(GOOD, BOX, LIMITS) == expected, "the next image is none the worse"

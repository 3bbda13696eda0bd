"""A few hundred uploads in a storm of faults; thousands by hand: ``python -m benchmarks.storm --model 5000``."""

from __future__ import annotations

import pytest

from pipeline.testing.model import INTERRUPTS
from tests.support.injection import terse
from tests.support.model_storm import model_storm

__all__ = ["terse"]
UPLOADS = 250


def test_a_storm_of_faults_loses_nothing_and_leaves_nothing_old_or_orphaned(
    capsys: pytest.CaptureFixture[str], terse: None
) -> None:
    account = model_storm(UPLOADS)
    assert account.is_clean, str(account)
    assert account.uploads >= UPLOADS
    assert account.objects["done"] > account.objects.total() / 4, str(account)
    # It has met what it is for.
    assert account.count("fail", "GetQueueUrl") > 10
    for what in ("crash", "lose", *INTERRUPTS):
        for operation in ("PutObject", "GetObject"):
            assert account.count(what, operation) > 0, f"no {what} before {operation}"
    assert account.count("soft limit", "publish") + account.count("soft limit", "GetQueueUrl") > 0

"""What one test closes does not keep the next from publishing."""

from __future__ import annotations

import pytest
from celery import Celery
from kombu import pools

from tests.support.app_pools import forget_closed


def test_an_app_whose_pool_was_closed_publishes_again() -> None:
    app = Celery(set_as_current=False, broker="memory://")
    app.send_task("t")
    pools.reset()
    with pytest.raises(RuntimeError, match="closed pool"):
        app.send_task("t")
    forget_closed()
    app.send_task("t")
    app.close()

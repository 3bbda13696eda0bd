"""A worker with the options that people use, on the example project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.sqs import ConfigError, install
from pipeline.sqs.worker.task_queues import check_chosen_queues
from tests.acceptance.test_shop import HOST, Shop, shop
from tests.public_reports.test_sending import made_app
from tests.support.aws_process import ROOT
from tests.support.waiting import wait_until
from tests.support.worker import Worker

__all__ = ["shop"]

OPTIONS = ("--autoscale=3,1", "--max-tasks-per-child=2", "--max-memory-per-child=400000", "-B", "-Q", "orders,mails")


def test_worker_options(shop: Shop, tmp_path: Path) -> None:
    schedule = ("--schedule", str(tmp_path / "beat"))
    with Worker(
        shop.server, shop.folder, *OPTIONS, *schedule, "-n", HOST, app="tasks", env=shop.env, cwd=shop.folder
    ) as worker:
        worker.wait_ready()
        shop.run(
            "from tasks import app, order\nfrom pipeline.sqs import batched\n"
            "with batched(app):\n    [order.delay(number) for number in range(12)]\nprint(json.dumps(1))"
        )
        wanted = {f"mail: order {number} is on its way" for number in range(12)}
        wait_until(lambda: wanted <= set(shop.books()), "all orders, by processes that end after two tasks each", 90)
        worker.send_signal()
        assert worker.wait_exit(60) == 0
    assert sorted(line for line in shop.books() if line.startswith("order")) == sorted(
        f"order {number}" for number in range(12)
    )
    assert json.dumps(shop.server.depth("shop-orders")) == "[0, 0, 0]"


def test_a_wrong_queue_is_a_sentence_before_the_worker_starts() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-Q", "orders,misspelt"],
        cwd=ROOT / "examples" / "shop",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["Error: -Q orders,misspelt: the app's queues are orders, mails"]


@pytest.mark.parametrize("queue", ["mails-dlq", "0123456789abcdef0123-pidbox"])
def test_a_queue_that_is_not_for_tasks_is_named(queue: str) -> None:
    app = made_app()
    install(app)
    with pytest.raises(ConfigError, match=f"^-Q tasks,{queue}: {queue} is not a queue of tasks: "):
        check_chosen_queues(app, ["tasks", queue])

"""A worker with the options that people use, on the example project."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.sqs import ConfigError, install
from pipeline.sqs.worker.task_queues import check_chosen_queues
from tests.acceptance.test_shop import Shop, shop
from tests.public_reports.test_sending import made_app
from tests.support.aws_process import ROOT
from tests.support.programs import output_of
from tests.support.waiting import text_of, wait_until
from tests.support.worker import READY

__all__ = ["shop"]

OPTIONS = ("--autoscale=3,1", "--max-tasks-per-child=2", "--max-memory-per-child=400000", "-B", "-Q", "orders,mails")


def test_worker_options(shop: Shop, tmp_path: Path) -> None:
    """With ``celery multi``, so that the worker is a daemon, which the fixture of all tests ends if this one fails."""
    log, pid = tmp_path / "multi.log", tmp_path / "multi.pid"
    multi = (f"--pidfile={pid}", f"--logfile={log}")
    celery(
        shop, "multi", "start", "w1", "-A", "tasks", *multi, *OPTIONS, "--loglevel=INFO", f"--schedule={tmp_path}/beat"
    )
    wait_until(lambda: READY in text_of(log), "the worker is ready")
    shop.run(
        "from tasks import app, order\nfrom pipeline.sqs import batched\n"
        "with batched(app):\n    [order.delay(number) for number in range(5)]\nprint(json.dumps(1))"
    )
    wanted = {f"mail: order {number} is on its way" for number in range(5)}
    wait_until(lambda: wanted <= set(shop.books()), "all orders, by processes that end after two tasks each")
    celery(shop, "multi", "stopwait", "w1", *multi)
    assert not pid.exists()
    assert sorted(line for line in shop.books() if line.startswith("order")) == sorted(
        f"order {number}" for number in range(5)
    )
    assert shop.server.depth("shop-orders") == (0, 0, 0)


def celery(shop: Shop, *arguments: str) -> None:
    output_of("-m", "celery", *arguments, cwd=shop.folder, env=shop.env, timeout_s=240)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("-Q", "orders,misspelt"), "Error: -Q orders,misspelt: the app's queues are orders, mails"),
        (("--pool", "gevent"), "Error: pool gevent is not supported: it has no event loop, so nothing would keep its "),
    ],
)
def test_what_is_refused_is_a_sentence_before_the_worker_starts(options: tuple[str, ...], says: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "tasks", "worker", *options],
        cwd=ROOT / "examples" / "shop",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(says)


@pytest.mark.parametrize("queue", ["mails-dlq", "0123456789abcdef0123-pidbox"])
def test_a_queue_that_is_not_for_tasks_is_named(queue: str) -> None:
    app = made_app()
    install(app)
    with pytest.raises(ConfigError, match=f"^-Q tasks,{queue}: {queue} is not a queue of tasks: "):
        check_chosen_queues(app, ["tasks", queue])

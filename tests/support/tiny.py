"""A Celery app with the pipeline's configuration and tasks that only leave a trace.

``celery -A tests.support.tiny worker``. Each task appends a line to the file ``$TRACE``:
one ``write`` in append mode, so lines of several processes don't mix.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from celery.exceptions import Reject

from pipeline.celery import make_app
from pipeline.core.queue_names import TASKS_QUEUE
from tests.support.stock import make_stock

app = make_app()
app.conf.imports = ()
app.steps["worker"].remove("pipeline.route_check:RouteCheck")  # it has none of the tasks of any route
app.conf.broker_transport_options = {
    **app.conf.broker_transport_options,
    "reply_margin_s": float(os.environ.get("REPLY_MARGIN_S", "10")),
}
app.conf.worker_lost_wait = 0.3  # a result that a killed process had sent arrives at once here
if os.environ.get("STOCK_TRANSPORT"):  # for comparison: Celery as it comes
    make_stock(app)
__all__ = ["TASKS_QUEUE", "app"]


def trace(*words: object) -> None:
    with Path(os.environ["TRACE"]).open("a") as file:
        file.write(" ".join(map(str, words)) + "\n")


@app.task(name="tiny.note")
def note(name: str) -> str:
    trace("done", name)
    return name


@app.task(name="tiny.say", ignore_result=True)
def say(name: str, *more: object) -> None:
    print(name, *more)
    print("to standard error", file=sys.stderr)
    trace("done", name)


@app.task(name="tiny.follow")
def follow(before: str, name: str) -> str:
    trace("done", name, "after", before)
    return name


@app.task(name="tiny.hold", acks_late=True)
def hold(name: str, release: str, limit_s: float = 600) -> None:
    """Runs until the file ``release`` exists."""
    trace("started", name, os.getpid())
    deadline = time.monotonic() + limit_s
    while not Path(release).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    trace("done", name)


@app.task(name="tiny.nothing", ignore_result=True)
def nothing() -> None:
    """For measuring what everything around a task costs."""


@app.task(name="tiny.nap", ignore_result=True)
def nap(seconds: float) -> None:
    time.sleep(seconds)


@app.task(name="tiny.die")
def die(name: str) -> None:
    trace("started", name)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="tiny.refuse")
def refuse(reason: str) -> None:
    raise Reject(reason, requeue=False)


@app.task(name="tiny.retry_once", bind=True, max_retries=3)
def retry_once(self: Any, name: str, delay_s: float) -> None:
    if not self.request.retries:
        trace("retrying", name)
        raise self.retry(countdown=delay_s)
    trace("done", name)

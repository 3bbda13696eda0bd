"""The broker layer against Celery's stock SQS transport: ``python -m benchmarks.broker``.

1. Throughput of tasks that do nothing, with 15 ms of server latency and two processes.
2. Publishing 1,000 chains: calls and CPU seconds, in ``batched(app)`` and with ``chain(…).delay()``.
3. With ``prefetch`` as the argument, instead: what PREFETCH_S does to receives and to waiting.

Uses the in-memory server, so that only the clients are measured. The figures depend on the machine, the ratios hardly.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from celery import Celery, chain
from kombu import pools

from pipeline.aws import clients
from pipeline.celery import celery_config, make_app
from pipeline.core.settings import Settings
from pipeline.sqs.installing import broker_config, transport_options
from pipeline.sqs.transport.publishing import batched
from tests.support.aws_process import AwsServer
from tests.support.stock import make_stock
from tests.support.waiting import wait_until
from tests.support.worker import Worker

PREFIX = "p-"
LATENCY_S = 0.015
WARM_UP = 100


@contextmanager
def stand() -> Iterator[tuple[AwsServer, Any]]:
    """A server with a task queue, and an app that publishes to it."""
    with AwsServer() as server:
        os.environ.update(server.env)
        clients.forget_clients()
        pools.reset()
        server.make_queue(f"{PREFIX}tasks", visibility_s=60)
        app = make_app(Settings(queue_prefix=PREFIX))
        try:
            yield server, app
        finally:
            app.close()


def throughput(tasks: int, *, stock: bool) -> float:
    """Measured tasks a second."""
    with stand() as (server, app), tempfile.TemporaryDirectory() as folder:
        with batched(app):
            for _ in range(tasks + WARM_UP):
                app.send_task("tiny.nothing")
        server.latency(LATENCY_S)
        env = {"QUEUE_PREFIX": PREFIX, **({"STOCK_TRANSPORT": "1"} if stock else {})}
        with Worker(server, Path(folder), "-c", "2", "--loglevel", "WARNING", env=env):
            wait_until(lambda: left(server) <= tasks, "the first tasks are done", 60)
            begun, at_start = time.monotonic(), left(server)
            wait_until(lambda: left(server) == 0, "all tasks are done", 300)
            return at_start / (time.monotonic() - begun)


def left(server: AwsServer) -> int:
    return sum(server.depth(f"{PREFIX}tasks"))


def plain_celery() -> Celery:
    """Celery's own app with the pipeline's queues, on the stock transport."""
    app = Celery("stock", set_as_current=False)
    settings = Settings(queue_prefix=PREFIX)
    app.conf.update(
        celery_config(settings),
        **broker_config(settings),
        broker_transport_options=transport_options(settings, settings.hard_time_limit_s),
    )
    made: Celery = make_stock(app)
    return made


def publishing(chains: int, *, stock: bool) -> tuple[int, float, float]:
    """Calls, CPU seconds and seconds for publishing ``chains`` chains of two tasks."""
    with stand() as (server, ours):
        app = plain_celery() if stock else ours
        app.send_task("tiny.nothing")  # so that it is connected, and its code is loaded
        server.reset()
        cpu, begun = time.process_time(), time.monotonic()
        with nullcontext() if stock else batched(app):
            for number in range(chains):
                chain(app.signature("tiny.note", [str(number)]), app.signature("tiny.follow", ["b"]), app=app).delay()
        spent = time.process_time() - cpu, time.monotonic() - begun
        return server.requests(PREFIX), *spent


def prefetch(task_s: float, tasks: int, prefetch_s: int) -> tuple[float, float]:
    """Receives a task with a full queue, and the longest time that a message waited in the worker, in seconds."""
    with stand() as (server, app), tempfile.TemporaryDirectory() as folder:
        with batched(app):
            for _ in range(tasks):
                app.send_task("tiny.nap", [task_s])
        server.latency(LATENCY_S)
        held = 0
        # A done message is in flight until its delete is sent, a tenth of a second later: that is not waiting.
        window: deque[int] = deque(maxlen=25)
        env = {"QUEUE_PREFIX": PREFIX, "PREFETCH_S": str(prefetch_s)}
        with Worker(server, Path(folder), "-c", "2", "--loglevel", "WARNING", env=env):
            while left(server):
                visible, flying, _ = server.depth(f"{PREFIX}tasks")
                window.append(flying)
                if visible:
                    held = max(held, min(window))
                    receives = server.counts()[f"ReceiveMessage {PREFIX}tasks"]
                    taken = tasks - visible
                time.sleep(0.01)
        return receives / taken, max(0, held - 2) * task_s / 2


def print_prefetch() -> None:
    print("Receives a task / longest wait in the worker (s), two processes")
    settings = (0, 5, 30)
    print(f"{'a task takes':>14}" + "".join(f"{f'PREFETCH_S={value}':>18}" for value in settings))
    for task_s, tasks in ((0.02, 400), (0.2, 80), (1.0, 30), (5.0, 8)):
        cells = (prefetch(task_s, tasks, value) for value in settings)
        print(f"{task_s:>12} s" + "".join(f"{f'{receives:.2f} / {wait_s:.1f}':>18}" for receives, wait_s in cells))


def main() -> None:
    if sys.argv[1:] == ["prefetch"]:
        print_prefetch()
        return
    ours, stock = throughput(3000, stock=False), throughput(300, stock=True)
    print(f"Tasks that do nothing, two processes, {LATENCY_S * 1000:.0f} ms of latency")
    print(f"  ours {ours:7.0f}/s   stock {stock:5.0f}/s   ratio {ours / stock:.1f}")
    rounds = [(publishing(1000, stock=False), publishing(1000, stock=True)) for _ in range(3)]
    best = [tuple(map(min, zip(*side, strict=True))) for side in zip(*rounds, strict=True)]
    (our_calls, our_cpu, our_s), (calls, cpu, seconds) = best
    print("Publishing 1,000 chains of two tasks, no latency, best of three")
    print(f"  calls  ours {our_calls:6}   stock {calls:6}   ratio {calls / our_calls:.1f}")
    print(f"  CPU s  ours {our_cpu:6.2f}   stock {cpu:6.2f}   ratio {cpu / our_cpu:.1f}")
    print(f"  s      ours {our_s:6.2f}   stock {seconds:6.2f}   ratio {seconds / our_s:.1f}")


if __name__ == "__main__":
    main()

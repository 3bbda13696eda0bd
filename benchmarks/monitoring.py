"""Measures what monitoring costs: ``python -m benchmarks.monitoring``.

- A worker's CPU time a task with events, remote control and embedded metrics on, against all of them off: real
  workers at full load, in turns, so that whatever else the machine does is shared by both.
- The requests of an idle worker, with the defaults that production has, and what they cost.

Against the in-memory SQS and SNS server of the tests, whose own time is not counted. Writes
``benchmarks/results/monitoring.md``.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import secrets
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.aws import clients
from pipeline.celery import make_app
from pipeline.core.settings import Settings
from pipeline.sqs.monitoring.task_result import Report
from tests.support.aws_process import ROOT, AwsServer
from tests.support.cluster import TOPIC_ARN_PREFIX
from tests.support.waiting import wait_until
from tests.support.worker import Worker

RESULTS = ROOT / "benchmarks" / "results" / "monitoring.md"
APP = "benchmarks.monitoring_tasks"
TICKS = os.sysconf("SC_CLK_TCK")
PROCESSES = 2

#: US dollars a million requests, us-east-1, beyond the free tier: aws.amazon.com/sqs/pricing and /sns/pricing.
SQS_PRICE, SNS_PRICE = 0.40, 0.50
HOURS_A_MONTH = 730
OFF = {"EVENTS": "off"}
ON = {"TOPIC_ARN_PREFIX": TOPIC_ARN_PREFIX, "METRICS_NAMESPACE": "Benchmark"}


@dataclass
class Run:
    cpu_s: float  # of the worker and its pool, from when it was ready until the last task was done
    tasks_per_s: float
    publishes: int


def cpu_s(pids: list[int]) -> float:
    """User and system time of these processes and of their ended children."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))
    return total / TICKS


def children(pid: int) -> list[int]:
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


@contextmanager
def place(server: AwsServer) -> Iterator[str]:
    """A tasks queue and both topics under a new prefix."""
    prefix = f"b{secrets.token_hex(4)}-"
    server.make_queue(f"{prefix}tasks", visibility_s=600)
    for topic in ("celeryev", "pidbox"):
        server.client("sns").create_topic(Name=prefix + topic)
    server.reset()
    yield prefix


def run(server: AwsServer, task: str, number: int, env: dict[str, str]) -> Run:
    # A folder of its own, as a log that says "ready" must be this worker's.
    with place(server) as prefix, tempfile.TemporaryDirectory() as folder:
        os.environ.update(server.env)
        clients.forget_clients()
        app = make_app(Settings(queue_prefix=prefix))
        with app.producer_or_acquire() as producer:
            for each in range(number):
                app.send_task(task, (f"photos/{each}.jpg",), producer=producer, argsrepr=f"bucket/photos/{each}.jpg")
        app.close()
        options = ("--concurrency", str(PROCESSES), "--hostname", "worker@benchmark")
        # Its tasks wait from the start on, so it is at full load as soon as it is ready.
        with Worker(
            server, Path(folder), *options, app=APP, env={"QUEUE_PREFIX": prefix, "POLL_WAIT_S": "20", **env}
        ) as worker:
            worker.wait_ready()
            began, pids = time.monotonic(), [worker.process.pid, *children(worker.process.pid)]
            before = cpu_s(pids)
            wait_until_empty(server, f"{prefix}tasks")
            took = time.monotonic() - began
            return Run(cpu_s(pids) - before, number / took, server.counts()[f"Publish {prefix}celeryev"])


def events_cpu_ms(server: AwsServer, tasks: int, batches: int = 20) -> float:
    """CPU time a task that its three events and its metrics take in a worker's main process, in milliseconds.

    Measured alone, in this process, with so many tasks in one message: what the noise of whole workers hides.
    """
    with place(server) as prefix:
        os.environ.update(server.env)
        clients.forget_clients()
        app = make_app(
            Settings(
                queue_prefix=prefix,
                topic_arn_prefix=TOPIC_ARN_PREFIX,
                metrics_namespace="Benchmark",
                events_interval_s=60,
            )
        )
        result = repr(Report(EXAMPLE))
        with app.connection() as connection, app.events.Dispatcher(connection, hostname="worker@host") as dispatcher:
            dispatcher._metrics.out = io.StringIO()
            dispatcher.send("worker-online", freq=2, active=0)  # the first publish makes the client
            wait_until(lambda: not dispatcher._outbox._pending and not dispatcher._outbox._unsent, "it is sent")
            began = time.process_time()
            for batch in range(batches):
                for each in range(tasks):
                    task_id = f"7f1c9a52-0000-4000-8000-{batch:06}{each:06}"
                    dispatcher.send("task-received", **RECEIVED, uuid=task_id, root_id=task_id)
                    dispatcher.send("task-started", uuid=task_id)
                    dispatcher.send("task-succeeded", uuid=task_id, result=result, runtime=0.1)
                dispatcher._outbox._hurry.set()
                while dispatcher._outbox._pending or dispatcher._outbox._unsent:
                    time.sleep(0.01)
            took = time.process_time() - began
        app.close()
    return 1000 * took / tasks / batches


EXAMPLE = {
    "outcome": "done",
    "read": {"width": 4000, "height": 3000, "bytes": 2_345_678},
    "rendition": {"width": 1024, "height": 768, "bytes": 93_912},
}
RECEIVED = {
    "name": "tasks.resize",
    "args": "bucket/photos/2026/11/24/IMG_0001.jpg",
    "kwargs": "{}",
    "parent_id": None,
    "retries": 0,
    "eta": None,
    "expires": None,
}


def wait_until_empty(server: AwsServer, queue: str) -> None:
    """Looks rarely, and with one client: what looks takes its time from what is measured."""
    client = server.client()
    url = client.get_queue_url(QueueName=queue)["QueueUrl"]
    while True:
        found = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        if not any(int(found[f"ApproximateNumberOfMessages{kind}"]) for kind in ("", "NotVisible", "Delayed")):
            return
        time.sleep(0.1)


def compare(server: AwsServer, task: str, number: int, rounds: int) -> tuple[str, float]:
    """A row of the table, and the CPU time a task without monitoring, in milliseconds."""
    found: dict[str, list[Run]] = {"off": [], "on": []}
    for each in range(rounds):
        order = [("off", OFF), ("on", ON)]
        for name, env in order if each % 2 == 0 else reversed(order):
            found[name].append(run(server, task, number, env))
            print(f"{task} {each + 1}/{rounds} {name}: {found[name][-1]}", flush=True)
    ratios = [on.cpu_s / off.cpu_s for on, off in zip(found["on"], found["off"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    cpu_ms = {name: 1000 * statistics.median(run.cpu_s for run in runs) / number for name, runs in found.items()}
    rate = {name: statistics.median(run.tasks_per_s for run in runs) for name, runs in found.items()}
    publishes = statistics.median(run.publishes for run in found["on"])
    row = (
        f"| `{task}` | {cpu_ms['off']:.2f} | {cpu_ms['on']:.2f} "
        f"| {middle - 1:+.1%} ({low - 1:+.1%} to {high - 1:+.1%}) "
        f"| {rate['off']:.0f} | {rate['on']:.0f} | {publishes:.0f} |"
    )
    return row, cpu_ms["off"]


def idle(server: AwsServer, seconds: float) -> Counter[str]:
    """Requests of a worker with production's defaults in so many seconds, by what they are for."""
    with place(server) as prefix, tempfile.TemporaryDirectory() as folder:
        env = {"QUEUE_PREFIX": prefix, "POLL_WAIT_S": "20", "TOPIC_ARN_PREFIX": TOPIC_ARN_PREFIX}
        with Worker(server, Path(folder), "--concurrency", str(PROCESSES), app=APP, env=env) as worker:
            worker.wait_ready()
            time.sleep(5)  # what a start costs is not what idling costs
            server.reset()
            time.sleep(seconds)
            found: Counter[str] = Counter()
            for text, times in server.counts().items():
                if text[0].isupper() and " " in text:
                    action, _, name = text.partition(" ")
                    found[f"{action} {'*-pidbox' if name.endswith('-pidbox') else name.removeprefix(prefix)}"] += times
            return found


def idle_table(counts: Counter[str], seconds: float, lease_s: int) -> list[str]:
    lines = ["| request | seen | an hour | a month, 100 workers | price |", "|---|---|---|---|---|"]
    total_hour, total_price = 0.0, 0.0
    rates = {name: times * 3600 / seconds for name, times in counts.items() if not name.startswith("TagQueue")}
    rates["TagQueue *-pidbox"] = 3600 / (lease_s / 3)  # rarer than the measurement is long
    for name, an_hour in sorted(rates.items()):
        month = an_hour * HOURS_A_MONTH * 100
        price = month / 1e6 * (SNS_PRICE if name.startswith("Publish") else SQS_PRICE)
        total_hour, total_price = total_hour + an_hour, total_price + price
        seen = "(computed)" if name.startswith("TagQueue") else counts[name]
        lines.append(f"| {name} | {seen} | {an_hour:.0f} | {month / 1e6:.1f} M | ${price:.2f} |")
    lines.append(f"| **all** | | **{total_hour:.0f}** | | **${total_price:.2f}** |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tasks", type=int, default=300, help="rendering tasks a round")
    parser.add_argument("--idle-s", type=float, default=120)
    arguments = parser.parse_args()
    with AwsServer() as server:
        rows = [
            compare(server, "benchmark.resize", arguments.tasks, arguments.rounds),
            compare(server, "benchmark.nothing", arguments.tasks * 10, arguments.rounds),
        ]
        alone = {tasks: events_cpu_ms(server, tasks) for tasks in (1, 10, 50, 200)}
        counts = idle(server, arguments.idle_s)
    cpu_ms = rows[0][1]
    text = "\n".join(
        [
            "# What monitoring costs a worker",
            "",
            f"Made by `python -m benchmarks.monitoring` on {os.cpu_count()} cores, {platform.machine()}, "
            f"Python {platform.python_version()}; {arguments.rounds} rounds in turns, medians (quartiles).",
            "",
            "## CPU time at full load",
            "",
            f"A worker with {PROCESSES} processes. On: events of all tasks, remote control, embedded metrics. "
            "Off: none of them. `benchmark.resize` renders a photo of half a megabyte, without S3; `benchmark.nothing` "
            "is the worst case, a task that does nothing.",
            "",
            "| task | CPU ms a task, off | on | overhead | tasks/s, off | on | publishes a run, on |",
            "|---|---|---|---|---|---|---|",
            *(row for row, _ in rows),
            "",
            "The events alone, measured in one process: three events of a task and its metrics, published together "
            f"with those of other tasks, as a share of the {cpu_ms:.0f} ms that `benchmark.resize` takes.",
            "",
            "| tasks in a message | CPU ms a task | share |",
            "|---|---|---|",
            *(f"| {tasks} | {ms:.3f} | {ms / cpu_ms:.1%} |" for tasks, ms in alone.items()),
            "",
            "## An idle worker",
            "",
            f"Requests in {arguments.idle_s:.0f} s with the defaults (POLL_WAIT_S=20, HEARTBEAT_S=30, "
            "CONTROL_QUEUE_TTL_S=900), and their list price in us-east-1.",
            "",
            *idle_table(counts, arguments.idle_s, Settings().control_queue_ttl_s),
            "",
            "Without monitoring, only the polling of `tasks` is left.",
            "",
        ]
    )
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()

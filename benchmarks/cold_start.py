"""CPU until a worker is ready, ours and stock Celery's on SQS: ``python -m benchmarks.cold_start``.

Beside them stands what no Celery worker on SQS can do without: importing Celery's worker, kombu's SQS transport and
boto3, and making a client for SQS and one for S3.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

from benchmarks import record
from benchmarks.contenders import PYTHON
from benchmarks.spread import Spread, ratio
from pipeline.local.stack import Emulator, make_resources

ROUNDS = 7
LIBRARIES = """
import boto3, celery.app.trace, celery.bin.worker, celery.concurrency.prefork, celery.worker.worker, kombu.transport.SQS
boto3.client("sqs"), boto3.client("s3")
from benchmarks.cold_start import tell
tell()
"""
WORKER = """
import runpy, sys
from benchmarks.cold_start import tell_when_ready
tell_when_ready()
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
OPTIONS = ("--concurrency", "2", "--loglevel", "WARNING")
SIDES = {
    "the libraries that both need": ("-c", LIBRARIES),
    "stock Celery on SQS": (
        *("-c", WORKER, "celery", "-A", "benchmarks.contenders.stock_celery", "worker"),
        *OPTIONS,
    ),
    "this pipeline": ("-c", WORKER, "pipeline.worker", "-E", *OPTIONS),
}


def tell(**_: Any) -> None:
    """Prints the seconds of CPU that this process took so far, and ends it with all that it started."""
    os.write(1, f"cpu {sum(os.times()[:2]):.3f}\n".encode())  # a worker has put something else in place of stdout
    os.killpg(0, signal.SIGKILL)


def tell_when_ready() -> None:
    from celery.signals import worker_ready

    worker_ready.connect(tell, weak=False)


def cpu_s(command: tuple[str, ...], environ: dict[str, str]) -> float:
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "timeout": 120}
    done = subprocess.run([PYTHON, *command], check=False, env=environ, start_new_session=True, **options)
    told = [line for line in done.stdout.splitlines() if line.startswith("cpu ")]
    if not told:
        raise RuntimeError(f"{command} did not become ready:\n{done.stdout}")
    return float(told[0].removeprefix("cpu "))


def measure(rounds: int) -> dict[str, Any]:
    found: dict[str, list[float]] = {name: [] for name in SIDES}
    with Emulator() as emulator:
        make_resources(emulator)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environ |= emulator.environ() | {"QUEUE_PREFIX": "local-"}
        for _ in range(rounds + 1):
            for name, command in SIDES.items():
                found[name].append(cpu_s(command, environ))
    return {"rounds": rounds, "cpu_s": {name: times[1:] for name, times in found.items()}}  # the first one compiles


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    facts = measure(rounds)
    *_, ours = facts["cpu_s"].values()
    for name, times in facts["cpu_s"].items():
        print(f"{name:30} {Spread.of(times).shown(digits=2)} s of CPU, {ratio(ours, times).shown(digits=2)}")
    print(record.save("cold_start", facts))


if __name__ == "__main__":
    main()

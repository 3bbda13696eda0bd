"""What it costs to start: ``python -m benchmarks.cold_start``.

CPU from the start of a process to its first ``ReceiveMessage`` at the server, on the queue that brings it work:
from then on it takes its first task. CPU seconds, since walls depend on who else uses the machine. Beside it: the
bare imports, a loop of boto3 alone, and stock Celery on SQS. All run in an environment of requirements.txt alone,
with byte code, as in the container image.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks import processes, record
from benchmarks.contenders import ours
from benchmarks.spread import Spread, ratio
from benchmarks.stand import DEADLINE_S, ROOT, BenchmarkError, Stand

IMPORTS = "import boto3, PIL, celery"
#: What any loop on SQS needs, and nothing else.
LOOP = """
import os, boto3
sqs = boto3.client("sqs")
url = sqs.get_queue_url(QueueName=os.environ["QUEUE_PREFIX"] + "events")["QueueUrl"]
while True:
    sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=20)
"""
OPTIONS = ("--loglevel", "INFO", "--concurrency", "2", "--hostname", "worker@bench")
#: By name: the queue that brings it work, and its arguments for Python.
STARTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "loop": ("events", ("-c", LOOP)),
    "bridge": ("events", ("-m", "bridge")),
    "worker": ("tasks", ("-m", "pipeline.worker", "-E", *OPTIONS)),
    "celery": ("tasks", ("-m", "celery", "-A", "pipeline", "worker", "-E", *OPTIONS)),
    "stock": ("tasks", ("-m", "celery", "-A", "benchmarks.contenders.stock_celery", "worker", *OPTIONS)),
}
LOOK_EVERY_S = 0.005


def environment(folder: Path) -> str:
    """Makes a virtual environment as the container image's; returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    pins = str(ROOT / "requirements.txt")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", pins], check=True)
    packages = [str(ROOT / name) for name in ("pipeline", "bridge", "tasks", "benchmarks")]
    subprocess.run([python, "-m", "compileall", "-q", *packages], check=True)
    return python


def bare(python: str, statement: str) -> tuple[float, float]:
    """CPU and wall seconds of a Python process that only imports."""
    before, started = os.times(), time.monotonic()
    subprocess.run([python, "-c", statement], check=True)
    wall, after = time.monotonic() - started, os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system, wall


def ready(stand: Stand, name: str, queue: str, command: Sequence[str], number: int) -> tuple[float, float]:
    """CPU and wall seconds of one process, and of its children, until it asks for work."""
    running = stand.prepare(ours(), f"cold{number}-{name}-")
    started = time.monotonic()
    child = running.start(name, command)
    asked = f"{running.prefix}{name} {running.prefix}{queue}"
    try:
        while asked not in (found := stand.ask("GET", "receives")["first"]):
            if child.poll() is not None or time.monotonic() - started > DEADLINE_S:
                raise BenchmarkError(f"the {name} never asked for work: {(running.folder / f'{name}.log').read_text()}")
            time.sleep(LOOK_EVERY_S)
        return processes.cpu_s([child.pid]), float(found[asked]) - started
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        running.children.clear()


def measure(rounds: int) -> dict[str, Any]:
    found: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Stand() as stand:
        python = environment(Path(folder) / "venv")
        for number in range(rounds):
            found.setdefault("imports", []).append(bare(python, IMPORTS))
            for name, (queue, arguments) in STARTS.items():
                found.setdefault(name, []).append(ready(stand, name, queue, (python, *arguments), number))
    return {
        "rounds": rounds,
        "statement": IMPORTS,
        "cpu_s": {name: [round(cpu, 3) for cpu, _ in each] for name, each in found.items()},
        "wall_s": {name: [round(wall, 3) for _, wall in each] for name, each in found.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--quick", action="store_true", help="three rounds, nothing written")
    options = parser.parse_args()
    facts = measure(3 if options.quick else options.rounds)
    for name, cpu in facts["cpu_s"].items():
        of_imports = ratio(cpu, facts["cpu_s"]["imports"])
        print(f"{name:12} {Spread.of(cpu).shown(digits=2)} s of CPU, {of_imports.shown(digits=2)} of the bare imports")
    if not options.quick:
        print(record.save("cold_start", facts))


if __name__ == "__main__":
    main()

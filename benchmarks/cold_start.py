"""How long a worker and a bridge take to their first receive: ``python -m benchmarks.cold_start``.

From the start of the process to its first ``ReceiveMessage`` at the server on the queue that brings it work:
from then on it takes its first task. Beside it, how long Python takes for the bare imports. CPU seconds, since
walls depend on who else uses the machine.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import time
from contextlib import suppress
from typing import Any

from benchmarks import processes, record
from benchmarks.contenders import PYTHON, ours
from benchmarks.spread import Spread, ratio
from benchmarks.stand import DEADLINE_S, BenchmarkError, Stand

IMPORTS = "import boto3, PIL, celery"
#: What the first task would make them load too; for comparison.
ALL_IMPORTS = "import boto3, PIL.Image, celery.app.base, celery.worker, kombu.transport.SQS, botocore.session"
QUEUES = {"bridge": "events", "worker": "tasks"}
LOOK_EVERY_S = 0.005


def bare(statement: str) -> tuple[float, float]:
    """CPU and wall seconds of a Python process that only imports."""
    before, started = os.times(), time.monotonic()
    subprocess.run([PYTHON, "-c", statement], check=True)
    wall, after = time.monotonic() - started, os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system, wall


def ready(stand: Stand, role: str, number: int) -> tuple[float, float]:
    """CPU and wall seconds of one process of ours until it asks for work."""
    running = stand.prepare(ours(), f"cold{number}-{role}-")
    started = time.monotonic()
    child = running.start(role, ours().processes[role])
    asked = f"{running.prefix}{role} {running.prefix}{QUEUES[role]}"
    try:
        while asked not in (found := stand.ask("GET", "receives")["first"]):
            if child.poll() is not None or time.monotonic() - started > DEADLINE_S:
                raise BenchmarkError(f"the {role} never asked for work: {running.folder}/{role}.log")
            time.sleep(LOOK_EVERY_S)
        return processes.cpu_s([child.pid]), float(found[asked]) - started
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        running.children.clear()


def measure(rounds: int) -> dict[str, Any]:
    found: dict[str, list[tuple[float, float]]] = {}
    with Stand() as stand:
        for number in range(rounds):
            found.setdefault("imports", []).append(bare(IMPORTS))
            found.setdefault("all imports", []).append(bare(ALL_IMPORTS))
            for role in QUEUES:
                found.setdefault(role, []).append(ready(stand, role, number))
    return {
        "rounds": rounds,
        "statements": {"imports": IMPORTS, "all imports": ALL_IMPORTS},
        "cpu_s": {name: [round(cpu, 3) for cpu, _ in each] for name, each in found.items()},
        "wall_s": {name: [round(wall, 3) for _, wall in each] for name, each in found.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
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

"""What an image costs from its event to its renditions, side by side: ``python -m benchmarks.end_to_end``.

All contenders run at the same time on one server (``benchmarks/server.py``) and get the same photos in turn, round by
round. The benchmark counts the CPU seconds of their processes, including children, but not of the server and the
harness. Meanwhile another copy of the pipeline has nothing to do: that is the idle stack.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks import record
from benchmarks.contenders import PYTHON, contenders, ours
from benchmarks.pictures import INPUTS, photo
from benchmarks.spread import Spread, ratio
from benchmarks.stand import Cost, Running, Stand, started

#: How many of each photo a round has: enough for each process to get a share; in tens, as SQS delivers them at backlog.
BATCHES = {"12 MP JPEG": 40, "24 MP JPEG": 10, "web JPEG 800x600": 60}
QUICK = {"12 MP JPEG": 12, "web JPEG 800x600": 40}
WARM_UP = "web JPEG 800x600"
#: Uploads a round, one at a time, to measure the time from an upload to its thumbnail.
SINGLE_UPLOADS = 4


@dataclass
class Idle:
    """A stack without work, with Flower."""

    running: Running
    since: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._cpu, self._calls = self.running.cpu_by_role(), self.running.calls()

    def per_hour(self) -> dict[str, Any]:
        hours = (time.monotonic() - self.since) / 3600
        cpu = self.running.cpu_by_role()
        return {
            "seconds": round(hours * 3600),
            "requests_per_hour": record.rounded(
                {name: number / hours for name, number in plain(self.running.calls() - self._calls).items()}, 0
            ),
            "cpu_s_per_hour": record.rounded({role: (used - self._cpu[role]) / hours for role, used in cpu.items()}, 1),
        }


def idle(stand: Stand, exits: ExitStack) -> Idle:
    running = exits.enter_context(started(stand, ours(), [WARM_UP], "idle-"))
    options = ("--address=127.0.0.1", "--port=0", f"--db={running.folder}/flower.db")
    running.start("flower", (PYTHON, "-m", "celery", "-A", "pipeline", "flower", *options))
    time.sleep(10)  # Flower sends its first requests to the workers meanwhile
    return Idle(running)


def measure(rounds: int, batches: dict[str, int], only: list[str]) -> dict[str, Any]:
    known = {name: each for name, each in contenders().items() if not only or name in only}
    missing = {each.title: each.missing for each in known.values() if each.missing is not None}
    costs: dict[str, dict[str, list[Cost]]] = {name: {} for name in batches}
    latency_s: dict[str, list[float]] = {}
    with Stand() as stand, ExitStack() as exits:
        for name in {*batches, WARM_UP}:
            size, make = INPUTS[name]
            stand.add_blob(name, make(photo(*size)))
        present = {
            name: exits.enter_context(started(stand, each, list(batches)))
            for name, each in known.items()
            if each.missing is None
        }
        resting = idle(stand, exits)
        logs = {name: running.log_bytes() for name, running in present.items()}
        for number in range(rounds):
            order = list(present)[number % len(present) :] + list(present)[: number % len(present)]
            for name in order:
                alone = [present[name].feed([WARM_UP], 1).wall_s for _ in range(SINGLE_UPLOADS)]
                latency_s.setdefault(name, []).append(median(alone))
            for photo_name, count in batches.items():
                for name in order:
                    cost = present[name].feed([photo_name], count)
                    costs[photo_name].setdefault(name, []).append(cost)
                print(f"round {number + 1} of {rounds}, {photo_name}: {_line(costs[photo_name])}", flush=True)
        images = rounds * (sum(batches.values()) + SINGLE_UPLOADS)
        return {
            "rounds": rounds,
            "batches": batches,
            "missing": missing,
            "titles": {name: each.title for name, each in known.items()},
            "photos": {
                photo_name: {name: _facts(of) for name, of in found.items()} for photo_name, found in costs.items()
            },
            "latency": {
                "photo": WARM_UP,
                "uploads": SINGLE_UPLOADS,
                "s": {name: [round(each, 5) for each in found] for name, found in latency_s.items()},
            },
            "peak_mb": {name: _peaks(running) for name, running in present.items()},
            "log_bytes_per_image": {
                name: round((running.log_bytes() - logs[name]) / images) for name, running in present.items()
            },
            "idle": resting.per_hour(),
        }


def _facts(costs: list[Cost]) -> dict[str, Any]:
    images = sum(cost.images for cost in costs)
    calls = plain(sum((cost.calls for cost in costs), Counter()))
    roles = {role: sum(cost.cpu_by_role_s[role] for cost in costs) / images for role in costs[0].cpu_by_role_s}
    return {
        "cpu_s": [round(cost.cpu_per_image_s, 5) for cost in costs],
        "wall_s": [round(cost.wall_per_image_s, 5) for cost in costs],
        "cpu_by_role_s": record.rounded(roles, 5),
        "requests": record.rounded({name: number / images for name, number in calls.items()}),
    }


def plain(calls: Counter[str]) -> Counter[str]:
    """The calls without the numbers of processes, and without random parts of queue names."""
    found: Counter[str] = Counter()
    for name, number in calls.items():
        role, action, target = name.split(" ", 2)
        kind = re.sub(r"^[0-9a-f]{20}-(.+)|(.+)-[0-9a-f]{20}$", r"…\1\2", target)
        found[f"{role.rstrip('0123456789')} {action} {kind}"] += number
    return found


def _peaks(running: Running) -> dict[str, list[float]]:
    """Peak megabytes by role: of its first process, then of the processes that it started."""
    return {
        role: [round(process.peak / 1e6, 1) for process in processes] for role, processes in running.memory().items()
    }


def _line(costs: dict[str, list[Cost]]) -> str:
    return ", ".join(f"{name} {of[-1].cpu_per_image_s * 1000:.1f}" for name, of in costs.items()) + " ms of CPU"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two rounds of fewer images, nothing written")
    parser.add_argument("--only", action="append", default=[], help="this contender; may be repeated")
    options = parser.parse_args()
    facts = measure(2 if options.quick else options.rounds, QUICK if options.quick else BATCHES, options.only)
    for photo_name, found in facts["photos"].items():
        print(f"\n{photo_name}")
        for name, each in found.items():
            cpu = Spread.of(each["cpu_s"])
            of_ours = ratio(found["ours"]["cpu_s"], each["cpu_s"]) if "ours" in found else None
            shown = "" if of_ours is None else f"  ours is {of_ours.shown(digits=2)} of it"
            print(f"  {name:14} {cpu.shown(1000)} ms of CPU{shown}")
    for name, found in facts["latency"]["s"].items():
        print(f"  {name:14} {Spread.of(found).shown(1000)} ms from upload to thumbnail")
    print("\nidle:", facts["idle"])
    if not options.quick and not options.only:
        print(record.save("end_to_end", facts))


if __name__ == "__main__":
    main()

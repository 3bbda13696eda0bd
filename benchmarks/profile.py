"""Where the time of an image goes, in our pipeline: ``python -m benchmarks.profile [--label TEXT]``.

Bridge and worker run with clocks (``benchmarks/clocks.py``) that add up the CPU time of each kind of work, and
what no clock saw is the difference to what the kernel counted. A result with a new label stays beside the older
ones, so that an improvement shows.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import replace
from typing import Any

from benchmarks import clocks, record
from benchmarks.contenders import PYTHON, Contender, ours, shipped
from benchmarks.pictures import INPUTS, photo
from benchmarks.stand import Running, Stand

MODULE = "benchmarks.contenders.clocked"
BATCHES = {"12 MP JPEG": 30, "web JPEG 800x600": 100}
ROUNDS = 3
#: Where it matters that the image ships a faster resampler.
PLAIN = "12 MP JPEG"
#: In the order in which they are stacked: ours to do, then what it costs to have it done.
SHOWN = ("decode", "resize", "encode", "S3", "SQS", "events", "logs", "Celery", "bridge")


def clocked(contender: Contender) -> Contender:
    options = contender.processes["worker"][3:]  # what follows `python -m pipeline.worker`
    worker = (PYTHON, "-m", "celery", "-A", MODULE, "worker", *options)
    return replace(contender, processes={"bridge": (PYTHON, "-m", MODULE), "worker": worker})


def start(stand: Stand, contender: Contender) -> Running:
    running = stand.prepare(contender)
    for role, command in contender.processes.items():
        # In its folder, which is made for it; its environment is made of the contender's.
        running.contender = replace(contender, environ={**contender.environ, "CLOCKS": str(running.folder / role)})
        running.start(role, command)
    return running


def batch(running: Running, photo_name: str, count: int) -> dict[str, float]:
    """Seconds of CPU an image, by what they were spent on."""
    before = {role: clocks.read(running.folder / role) for role in running.children}
    cost = running.feed([photo_name], count)
    found = dict.fromkeys(SHOWN, 0.0)
    for role, used in cost.cpu_by_role_s.items():
        seen = clocks.read(running.folder / role)
        seen.subtract(before[role])
        publish = seen.pop("publish")
        for category, seconds in seen.items():
            found[category if role == "worker" else "bridge"] += seconds
        # Making a message is Celery's; in the bridge it is what the bridge is for.
        found["Celery" if role == "worker" else "bridge"] += publish + max(0.0, used - sum(seen.values()) - publish)
    return {category: seconds / count for category, seconds in found.items()}


def measure(contender: Contender, batches: dict[str, int], rounds: int) -> dict[str, dict[str, float]]:
    with Stand() as stand:
        for name in batches:
            size, make = INPUTS[name]
            stand.add_blob(name, make(photo(*size)))
        running = start(stand, clocked(contender))
        running.feed(list(batches), 12, 120)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in batches}
        for _ in range(rounds):
            for name, count in batches.items():
                found[name].append(batch(running, name, count))
    return {name: _means(each) for name, each in found.items()}


def _means(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {category: round(sum(each[category] for each in rounds) / len(rounds), 6) for category in SHOWN}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--label", default="now", help="replaces the result of the same label")
    parser.add_argument("--quick", action="store_true", help="few images, nothing written")
    options = parser.parse_args()
    batches, rounds = (dict.fromkeys(BATCHES, 10), 1) if options.quick else (BATCHES, ROUNDS)
    found = measure(shipped(), batches, rounds)
    plain = measure(ours(), {PLAIN: batches[PLAIN]}, rounds)
    found |= {f"{name}, Pillow alone": each for name, each in plain.items()}
    for name, categories in found.items():
        shown = ", ".join(f"{category} {seconds * 1000:.2f}" for category, seconds in categories.items())
        print(f"{name}: {sum(categories.values()) * 1000:.1f} ms of CPU: {shown}")
    if options.quick:
        return
    runs: list[dict[str, Any]] = []
    with suppress(FileNotFoundError):
        runs = [run for run in record.load("profile")["runs"] if run["label"] != options.label]
    print(record.save("profile", {"runs": [*runs, {"label": options.label, "photos": found}]}))


if __name__ == "__main__":
    main()

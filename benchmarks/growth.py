"""Whether the cost of an image stays flat: longer backlogs, more workers, larger images.

    python -m benchmarks.growth

Ours is as its image ships it. The bridge is asleep while a backlog is put, then everything is there at once.
Counted as in ``end_to_end``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

from benchmarks import record
from benchmarks.contenders import PYTHON, shipped
from benchmarks.pictures import jpeg, photo
from benchmarks.spread import Spread
from benchmarks.stand import Cost, Running, Stand, started

SMALL = "320x240"
#: Images waiting at once, and how often each is measured; in the order of the list, then again backwards.
BACKLOGS = {100: 8, 1_000: 2, 10_000: 1}
WORKERS = (1, 2, 3, 4)
PER_WORKER = 100
MEGAPIXELS = (1, 3, 6, 12, 24, 50, 100)


def backlogs(stand: Stand, wanted: dict[int, int]) -> dict[str, Any]:
    """One worker of two processes."""
    found: dict[int, list[Cost]] = {}
    peaks: dict[int, float] = {}
    with started(stand, shipped(), [SMALL], "backlog-") as running:
        running.feed([SMALL], min(300, max(wanted)))  # the first hundred of a process take a tenth more
        for size in _spread_out(wanted):
            running.restart_peaks()
            found.setdefault(size, []).append(running.feed([SMALL], size))
            peaks[size] = _most_mb(running)
            _say(f"backlog {size:,}", found[size][-1], peaks[size])
        running.start("flower", _flower(running))
        watched = running.feed([SMALL], 1_000 if 1_000 in wanted else min(wanted))
    return {
        "sizes": {
            str(size): {
                "cpu_s": [round(cost.cpu_per_image_s, 5) for cost in costs],
                "requests": _requests(costs),
                "peak_mb": peaks[size],
            }
            for size, costs in sorted(found.items())
        },
        "with_flower": _requests([watched]),
    }


def _flower(running: Running) -> tuple[str, ...]:
    options = ("--address=127.0.0.1", "--port=0", f"--db={running.folder}/flower.db")
    return (PYTHON, "-m", "celery", "-A", "pipeline", "flower", *options)


def _spread_out(wanted: dict[int, int]) -> list[int]:
    """The short ones before, between and after the long ones: what a process learns or leaks would show."""
    half = [size for size, times in wanted.items() for _ in range(math.ceil(times / 2))]
    rest = [size for size, times in wanted.items() for _ in range(times // 2)]
    return half + rest[::-1]


def workers(stand: Stand, numbers: Sequence[int]) -> dict[str, Any]:
    """Each of one process, beside one bridge."""
    found = {}
    for number in numbers:
        with started(stand, shipped(1, number), [SMALL], f"workers{number}-") as running:
            costs = [running.feed([SMALL], PER_WORKER * number) for _ in range(3)]
        found[str(number)] = {
            "cpu_s": [round(cost.cpu_per_image_s, 5) for cost in costs],
            "requests": _requests(costs),
        }
        _say(f"{number} workers", costs[-1])
    return found


def sizes(stand: Stand, megapixels: Sequence[int]) -> dict[str, Any]:
    """JPEG photos, as a phone makes them; one worker of one process, so that the peak is of one image."""
    found = {}
    with started(stand, shipped(1), [SMALL], "sizes-") as running:
        for size in megapixels:
            width = math.isqrt(size * 1_000_000 * 4 // 3)
            data = jpeg(photo(width, width * 3 // 4))
            stand.add_blob(f"{size} MP", data)
            running.restart_peaks()
            cost = running.feed([f"{size} MP"], max(6, round(48 / size)))
            found[str(size)] = {
                "cpu_s": round(cost.cpu_per_image_s, 5),
                "file_mb": round(len(data) / 1e6, 1),
                "peak_mb": _most_mb(running),
            }
            _say(f"{size} MP", cost, _most_mb(running))
    return found


def _requests(costs: Sequence[Cost]) -> dict[str, float]:
    """An image, by service: all requests of bridge and workers; Flower's apart."""
    images = sum(cost.images for cost in costs)
    found: dict[str, float] = {}
    for cost in costs:
        for name, number in cost.calls.items():
            role, action, _ = name.split(" ", 2)
            service = "SNS" if action == "Publish" else "S3" if action.endswith(("Object", "Objects")) else "SQS"
            key = f"{service} by Flower" if role == "flower" else service
            found[key] = found.get(key, 0) + number / images
    return record.rounded(found)


def _most_mb(running: Running) -> float:
    """Of the largest process."""
    return round(max(each.peak for found in running.memory().values() for each in found) / 1e6, 1)


def _say(what: str, cost: Cost, peak_mb: float | None = None) -> None:
    peak = "" if peak_mb is None else f", {peak_mb:.0f} MB at most"
    print(f"{what}: {cost.cpu_per_image_s * 1000:.2f} ms of CPU an image, {_requests([cost])}{peak}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="small numbers, nothing written")
    options = parser.parse_args()
    with Stand() as stand:
        stand.add_blob(SMALL, jpeg(photo(320, 240), quality=80))
        facts: dict[str, Any] = {
            "small": SMALL,
            "backlogs": backlogs(stand, {50: 2, 200: 1} if options.quick else BACKLOGS),
            "workers": workers(stand, WORKERS[:2] if options.quick else WORKERS),
            "megapixels": sizes(stand, MEGAPIXELS[:4] if options.quick else MEGAPIXELS),
        }
    shown = {size: Spread.of(each["cpu_s"]).shown(1000, 2) for size, each in facts["backlogs"]["sizes"].items()}
    print("ms of CPU an image by backlog:", shown)
    if not options.quick:
        print(record.save("growth", facts))


if __name__ == "__main__":
    main()

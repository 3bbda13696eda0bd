"""SQS requests for one image with a full queue, ours and stock Celery's: ``python -m benchmarks.requests [images]``.

The server counts all requests of bridge and worker, from their start until the last message is deleted. An image is one
event and two tasks. ``benchmarks.stock`` has the same bridge and the same tasks on kombu's own transport, where each
publish and each acknowledgement is a call.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.support.chain import BRIDGE, WORKER, Chain, chain, picture
from tests.support.waiting import wait_until

ACTIONS = (
    "ReceiveMessage",
    "SendMessage",
    "SendMessageBatch",
    "DeleteMessage",
    "DeleteMessageBatch",
    "ChangeMessageVisibility",
    "ChangeMessageVisibilityBatch",
    "GetQueueUrl",
    "GetQueueAttributes",
)
OURS = (BRIDGE, WORKER)
STOCK = (("-m", "benchmarks.stock"), ("-m", "celery", "-A", "benchmarks.stock", "worker"))


def measure(images: int, commands: tuple[tuple[str, ...], tuple[str, ...]]) -> Counter[str]:
    """The number of calls of each action."""
    with tempfile.TemporaryDirectory() as folder, chain(Path(folder), POLL_WAIT_S="20", S3_CLIENT="auto") as (made, _):
        made.notify([made.upload(f"{n}.jpg", picture(n), n) for n in range(images)])
        made.server.reset()
        bridge, worker = commands
        made.start("bridge", *bridge)
        made.start("worker", *worker, "-c", "2", "-n", "worker@test")
        wait_until(lambda: finished(made, images), "all images are done", 300)
        return calls(made)


def finished(made: Chain, images: int) -> bool:
    """Whether all images are done. Sends few requests to the server, none of which is counted as the pipeline's."""
    return len(made.outputs("thumbs")) == images and made.idle()


def calls(made: Chain) -> Counter[str]:
    found: Counter[str] = Counter()
    for name, number in made.server.counts().items():
        action, _, queue = name.partition(" ")
        if action in ACTIONS and queue.startswith(made.prefix):
            found[action] += number
    return found


def main() -> None:
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    results = {"ours": measure(images, OURS), "stock": measure(images, STOCK)}
    print(f"SQS requests per image, {images} images waiting, two tasks each")
    print(f"{'':30}" + "".join(f"{name:>8}" for name in results))
    for action in ACTIONS:
        row = [found[action] / images for found in results.values()]
        if any(row):
            print(f"{action:30}" + "".join(f"{number:8.2f}" for number in row))
    totals = [found.total() / images for found in results.values()]
    print(f"{'all':30}" + "".join(f"{number:8.2f}" for number in totals))
    print(f"{'ratio':30}{'':8}{totals[1] / totals[0]:8.2f}")


if __name__ == "__main__":
    main()

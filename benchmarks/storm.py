"""A kill storm over 500 images: ``python -m benchmarks.storm [images] [seconds between kills]``.

Every event may come twice or three times and in any order, a tenth of the objects is overwritten while it
runs, and one of two workers or the bridge is killed with -9 every few seconds. Exit status 0 when nothing
is lost, nothing is stale, nothing is a dead letter, and all queues are empty.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.support.storm import storm


def main() -> int:
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    kill_every_s = float(sys.argv[2]) if len(sys.argv) > 2 else 4.0
    with tempfile.TemporaryDirectory() as folder:
        account = storm(Path(folder), images=images, kill_every_s=kill_every_s, say=print)
    print(account)
    return 0 if account.clean else 1


if __name__ == "__main__":
    sys.exit(main())

"""Injects many faults, and checks the outcome: ``python -m benchmarks.storm [images] [images between two faults]``.

Runs real processes. Each event may come two or three times and in any order. During the run, a tenth of the objects are
overwritten, and another tenth deleted. Repeatedly, one of two workers or the bridge is killed with SIGKILL, a pool
process gets the soft time limit's signal, or looking up a queue fails. Exit status 0 if nothing is lost, stale,
orphaned or dead-lettered, and all queues are empty.

``--model N``: N uploads in this process, on modelled S3 and SQS, with a fault at one request of ten.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

from tests.support.model_storm import model_storm
from tests.support.storm import storm


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm")
    parser.add_argument("images", nargs="?", type=int, default=500)
    parser.add_argument("every", nargs="?", type=int, default=20, help="images that are done between two faults")
    parser.add_argument("--model", type=int, metavar="N", help="N uploads in this process")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if given.model is not None:
        logging.disable(logging.ERROR)  # thousands of failures are intended
        modelled = model_storm(given.model, given.seed)
        print(modelled)
        return 0 if modelled.is_clean else 1
    with tempfile.TemporaryDirectory() as folder:
        account = storm(Path(folder), images=given.images, blow_every=given.every, seed=given.seed, say=print)
    print(account)
    return 0 if account.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())

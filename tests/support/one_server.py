"""``python -m tests.support.one_server MODULE …``: as ``python -m MODULE …``, where a server is one and not many.

A read of a dead-letter queue need not wait there: SQS has many servers, so the reader lets SQS ask all of them for a
second, twice. An emulator knows at once.
"""

from __future__ import annotations

import runpy
import sys

from pipeline.operations.deadletters import queue

if __name__ == "__main__":
    queue.POLL_S = 0
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

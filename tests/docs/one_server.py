"""``python -m pipeline …`` on the emulator, where a read of a dead-letter queue need not wait.

SQS has many servers, so ``deadletters`` and ``explain`` wait a second for all of them, and look again. The emulator is
one, which knows at once.
"""

from __future__ import annotations

import runpy

from pipeline.operations.deadletters import queue

if __name__ == "__main__":
    queue.POLL_S = 0
    runpy.run_module("pipeline", run_name="__main__", alter_sys=True)

"""``python -m bridge``: runs until SIGTERM or SIGINT, then finishes the batch in hand."""

from __future__ import annotations

import gc
import signal
import sys
from functools import partial
from pathlib import Path

from pipeline import aws, log
from pipeline.errors import PipelineError
from pipeline.health import Heartbeat, Role


def main() -> int:
    log.setup()
    gc.disable()  # next to nothing of what is loaded now is garbage
    try:
        from bridge.consumer import Bridge
        from bridge.failed_keys import FailedKeys
        from bridge.keep_awake import KeepAwake
        from pipeline.celery import TASKS_QUEUE, app
        from pipeline.enqueue import process_many, reconcile_many

        heartbeat = Heartbeat(Path(app.settings.health_folder), Role.BRIDGE)
        heartbeat.touch()  # or it would end after its first turn
        bridge = Bridge(
            app.settings,
            aws.sqs(),
            partial(process_many, app=app, careful=FailedKeys(app.settings).may_have_failed),
            heartbeat,
            partial(reconcile_many, app=app),
            app.routes,
        )
        keep_awake = KeepAwake(aws.sqs(), app.settings.queue_prefix + TASKS_QUEUE)
    except PipelineError as exc:
        print(f"bridge: {exc}", file=sys.stderr)
        return 2
    gc.freeze()
    gc.enable()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: bridge.stop())
    with keep_awake:
        bridge.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())

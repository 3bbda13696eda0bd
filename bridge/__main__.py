"""``python -m bridge``: runs until SIGTERM or SIGINT, then finishes the batch in hand."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
from argparse import ArgumentParser
from functools import partial
from pathlib import Path

from pipeline.aws import clients
from pipeline.core import log
from pipeline.core.errors import PipelineError
from pipeline.core.role import Role
from pipeline.s3 import content
from pipeline.sqs.health import Heartbeat


def main() -> int:
    ArgumentParser(
        prog="python -m bridge",
        description="Turn S3's events into tasks, until stopped. The settings are environment variables: "
        "python -m pipeline settings lists them.",
    ).parse_args()
    gc.disable()  # almost nothing that start-up allocates is garbage
    log.setup()
    try:
        from bridge.consumer import Bridge
        from bridge.failed_keys import FailedKeys
        from bridge.wake import WakeAlarm, WakePolicy, Waker
        from pipeline.core.queue_names import TASKS_QUEUE
        from pipeline.core.routes import Routes
        from pipeline.core.settings import Settings, renamed_in_use
        from pipeline.enqueue import assign

        settings = Settings.from_env()
        if settings.log_level == "DEBUG":
            log.show_steps()
        for sentence in renamed_in_use():
            logging.getLogger(__name__).warning("%s", sentence, extra={"action": "setting_renamed"})
        heartbeat = Heartbeat(Path(settings.health_folder), Role.BRIDGE, settings.health_stale_s)
        heartbeat.touch()  # or it would end after its first turn
        waker = Waker(
            clients.sqs(),
            settings.queue_prefix + TASKS_QUEUE,
            WakePolicy(settings.backlog_per_worker),
            None if settings.wake_alarm is None else WakeAlarm(settings.wake_alarm, clients.cloudwatch),
        )
        bridge = Bridge(
            settings,
            clients.sqs(),
            waker.after(partial(assign, check_existing=FailedKeys(settings).may_have_failed)),
            heartbeat,
            Routes.load(settings, content.look),
        )
    except PipelineError as exc:
        print(f"bridge: {exc}", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: bridge.stop())
    failed: list[Exception] = []

    def load_celery() -> None:
        try:
            import pipeline.celery  # noqa: F401
        except Exception as exc:
            failed.append(exc)
            bridge.stop()
        gc.freeze()
        gc.enable()

    # During the first poll: Celery is not needed until there is something to publish.
    threading.Thread(target=load_celery, name="load-celery").start()
    with waker:
        bridge.run()
    if failed:
        raise failed[0]
    return 0


if __name__ == "__main__":
    sys.exit(main())

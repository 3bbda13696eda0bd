"""The real bridge and tasks while S3 and SQS fail, and while processes are killed: all is done in the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zlib import crc32

from tests.support.chain import Chain, chain, picture
from tests.support.storm import TRIES, WORKERS, storm
from tests.support.waiting import wait_until

#: What S3 does to requests for one object: as often as botocore tries, so that the task has to try again.
S3_FAULTS: dict[str, dict[str, Any]] = {
    "read-500": {"action": "GET", "status": 500, "code": "InternalError", "times": 4},
    "read-slow-down": {"action": "GET", "status": 503, "code": "SlowDown", "times": 4},
    "read-no-reply": {"action": "GET", "kind": "hang", "times": 1},
    "read-closed": {"action": "GET", "kind": "drop", "times": 2},
    "write-500": {"action": "PUT", "status": 500, "code": "InternalError", "times": 4},
    "write-slow-down": {"action": "PUT", "status": 503, "code": "SlowDown", "times": 4},
    "write-no-reply": {"action": "PUT", "kind": "hang", "times": 1},
    "write-closed": {"action": "PUT", "kind": "drop", "times": 2},
}
SQS_FAULTS: list[dict[str, Any]] = [
    {"action": "SendMessage", "status": 503, "times": 3},  # a task publishes the next one of its chain
    {"action": "SendMessage", "kind": "lose_reply", "times": 1},
    {"action": "SendMessageBatch", "kind": "first_entry", "status": 500, "code": "InternalError", "times": 2},
    {"action": "ReceiveMessage", "status": 500, "code": "InternalError", "times": 2},
    {"action": "DeleteMessageBatch", "kind": "first_entry", "status": 500, "code": "InternalError", "times": 2},
]


def all_done(made: Chain, keys: set[str]) -> bool:
    return set(made.outputs("thumbs")) == set(made.outputs("resized")) == keys and made.idle()


def test_everything_is_done_though_s3_and_sqs_fail_and_the_bridge_is_killed(tmp_path: Path) -> None:
    with chain(tmp_path, s3_proxy=True, MESSAGE_VISIBILITY_TIMEOUT_S="5", RETRY_BACKOFF_S="1") as (made, proxy):
        assert proxy is not None
        # The bridge has published, and dies before it deletes.
        made.server.fault("DeleteMessageBatch", queue=f"{made.prefix}events", kind="hang")
        events = [made.upload(f"before/{n}.jpg", picture(n), 1) for n in range(5)]
        made.notify(events)
        made.start_bridge()
        deleting = f"fault DeleteMessageBatch {made.prefix}events"
        wait_until(lambda: made.server.counts()[deleting] == 1, "the bridge is about to delete")
        assert made.server.depth(f"{made.prefix}tasks")[0] == 5
        made.kill("bridge")
        made.start_bridge()

        for fault in SQS_FAULTS:
            made.server.fault(queue=f"{made.prefix}tasks", **fault)
        for name, fault in S3_FAULTS.items():
            proxy.fault(queue=f"{name}.jpg", **fault)
            made.notify([made.upload(f"{name}.jpg", picture(crc32(name.encode())), 1)])
        made.start("worker", "-m", "celery", "-A", "tests.support.impatient", "worker", "-c", "4", "-n", "w@test")
        keys = {f"before/{n}.jpg" for n in range(5)} | {f"{name}.jpg" for name in S3_FAULTS}
        wait_until(lambda: all_done(made, keys), f"all is done: {keys}")
        assert made.dead() == 0
        assert made.outputs("failed") == {}
        faults = {name for name in proxy.counts() if name.startswith("fault ")}
        assert len(faults) == 8, faults


def test_a_small_storm_of_blows_loses_nothing(tmp_path: Path) -> None:
    account = storm(tmp_path, images=40, blow_every=6)
    assert account.is_clean, str(account)
    assert account.blows["soft limit"] >= 1, str(account)
    assert len(account.limited) <= account.blows["soft limit"] * len(WORKERS), str(account)
    assert sum(number for name, number in account.blows.items() if name.startswith("kill")) >= 2, str(account)
    assert account.failed_look_ups >= TRIES, str(account)

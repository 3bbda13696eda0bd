"""A real bridge and a real worker while S3 fails for everybody: it costs time, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.chain import Chain, chain, picture
from tests.support.waiting import wait_until

UPLOADS = 25
FAULTS: dict[str, dict[str, Any]] = {
    "reading": {"action": "GET", "queue": "input", "status": 503, "code": "SlowDown"},
    "policy": {"action": "*", "status": 403, "code": "AccessDenied"},
    "credentials": {"action": "*", "status": 403, "code": "ExpiredToken"},
}


def lines(made: Chain, action: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in made.log("worker").splitlines() if line.startswith("{")]
    return [line for line in found if line.get("action") == action]


def upload(made: Chain, count: int) -> set[str]:
    keys = [f"{number}.jpg" for number in range(count)]
    made.notify([made.upload(key, picture(number), 1) for number, key in enumerate(keys)])
    return set(keys)


@pytest.mark.parametrize("fault", FAULTS)
def test_an_outage_costs_time_and_nothing_else(tmp_path: Path, fault: str) -> None:
    with chain(tmp_path, s3_proxy=True) as (made, proxy):
        assert proxy is not None
        keys = upload(made, UPLOADS)
        proxy.fault(**FAULTS[fault], times=-1)
        made.start_bridge()
        made.start("worker", "-m", "celery", "-A", "tests.support.impatient", "worker", "-c", "2", "-n", "w@test")
        wait_until(lambda: lines(made, "service_unavailable"), "the worker says that it waits")
        wait_until(lambda: made.server.depth(f"{made.prefix}tasks")[1] == 0, "it holds nothing")
        before = made.server.counts()[f"SendMessage {made.prefix}tasks"]
        wait_until(lambda: made.server.counts()[f"SendMessage {made.prefix}tasks"] >= before + 2, "two probes failed")
        proxy.repair()
        wait_until(lambda: set(made.outputs("thumbs")) == keys and made.idle(), "all is done")
        assert made.dead() == 0
        assert made.outputs("failed") == {}
        assert len(lines(made, "service_unavailable")) == len(lines(made, "service_recovered")) == 1
        assert len(lines(made, "deferred")) < 8
        assert lines(made, "released") == []


def test_objects_that_are_denied_hold_up_no_good_ones(tmp_path: Path) -> None:
    """They are in front, more than it takes to close the gate, and each ends as its own record."""
    with chain(tmp_path, s3_proxy=True, MAX_RETRIES="1", RETRY_BACKOFF_S="1") as (made, proxy):
        assert proxy is not None
        proxy.fault(action="GET", queue="denied-", status=403, code="AccessDenied", times=-1)
        keys = [f"denied-{number}.jpg" for number in range(25)] + [f"good-{number}.jpg" for number in range(5)]
        made.notify([made.upload(key, picture(number), 1) for number, key in enumerate(keys)])
        made.start_bridge()
        made.start_worker()
        wait_until(lambda: len(made.outputs("thumbs")) == 5, "the good ones are done")
        wait_until(lambda: len(made.outputs("failed")) == 25, "the others have records")
        assert lines(made, "service_unavailable") == []
        assert made.dead() == 0


def test_it_ends_at_once_while_it_waits(tmp_path: Path) -> None:
    with chain(tmp_path, s3_proxy=True) as (made, proxy):
        assert proxy is not None
        upload(made, UPLOADS)
        proxy.fault(action="*", status=403, code="AccessDenied", times=-1)
        made.start_bridge()
        worker = made.start_worker()
        wait_until(lambda: lines(made, "service_unavailable"), "the worker says that it waits")
        worker.terminate()
        wait_until(lambda: worker.poll() is not None, "it has ended")
        assert worker.returncode == 0
        waiting, in_flight, delayed = made.server.depth(f"{made.prefix}tasks")
        assert (waiting + delayed, in_flight) == (UPLOADS, 0)
        assert made.dead() == 0

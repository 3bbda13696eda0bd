"""The arithmetic of the benchmarks: spreads, ratios, dollars, and what is read from the system."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from benchmarks import dollars, processes
from benchmarks.dollars import Assumed
from benchmarks.end_to_end import plain
from benchmarks.server import unchunked
from benchmarks.spread import Spread, ratio


def test_spread_is_the_median_and_the_extremes():
    assert Spread.of([3.0, 1.0, 2.0, 9.0]) == Spread(2.5, 1.0, 9.0)
    assert Spread.of([0.0123, 0.0119, 0.0128]).shown(1000) == "12.3 (11.9–12.8)"
    assert Spread.of([1234.5]).shown(digits=0) == "1,234"


def test_ratio_is_taken_within_each_round():
    # The second round was twice as slow for both: the ratio does not see it.
    assert ratio([2.0, 4.0], [1.0, 2.0]) == Spread(2.0, 2.0, 2.0)


@pytest.mark.parametrize(("ours", "theirs"), [([], []), ([1.0], [1.0, 2.0])])
def test_ratio_of_unequal_rounds_is_refused(ours: list[float], theirs: list[float]):
    with pytest.raises(ValueError, match=r"nothing was measured|zip"):
        ratio(ours, theirs)


def test_requests_are_priced_by_kind():
    million = {
        "worker GetObject input": 1.0,
        "worker HeadObject output": 1.0,
        "worker PutObject output": 2.0,
        "worker DeleteObjects output": 5.0,  # free
        "bridge SendMessageBatch tasks": 0.1,
        "worker DeleteMessageBatch tasks": 0.4,
        "worker Publish celeryev": 0.1,
    }
    found = dollars.requests(million)
    assert found == pytest.approx({"S3": 0.8 + 10.0, "SQS": 0.2, "SNS": 0.05})


def test_fargate_charges_for_the_time_a_worker_is_taken():
    assumed = replace(Assumed(), s3_wait_s=0.1, processes_per_vcpu=1, worker_vcpu=1, worker_gb=2)
    # 0.1 s of work and 0.1 s of waiting: half a vCPU is used, so an image takes 0.2 s of a worker.
    assert dollars.busy(0.1, assumed) == pytest.approx(0.5)
    assert dollars.fargate(0.1, "x86", assumed) == pytest.approx(0.2 / 3600 * 1e6 * (0.04048 + 2 * 0.004445))
    assert dollars.fargate(0.1, "x86", assumed, spot=True) == pytest.approx(0.3 * dollars.fargate(0.1, "x86", assumed))


def test_more_processes_than_a_vcpu_can_feed_do_not_make_it_faster():
    assert dollars.busy(10.0, Assumed()) == Assumed().busiest


def test_lambda_has_cpu_in_proportion_to_its_memory():
    assumed = replace(Assumed(), lambda_mb=1024, lambda_mb_per_vcpu=2048, s3_wait_s=0.2)
    assert dollars.in_lambda(0.1, "x86", assumed) == pytest.approx(1e6 * (0.4 * 0.0000166667 + 0.0000002))


def test_a_row_for_each_system_and_one_for_lambda():
    photo = {
        name: {"cpu_s": [0.1, 0.3, 0.2], "requests": {"loop GetObject input": 1.0, "loop DeleteMessage events": 1.0}}
        for name in ("ours", "our_loop")
    }
    measured = {
        "photos": {"12 MP JPEG": photo},
        "titles": {"ours": "ours", "our_loop": "loop"},
        "log_bytes_per_image": {"ours": 1000, "our_loop": 100},
    }
    found = dollars.rows(measured, "12 MP JPEG", Assumed())
    assert found["ours"]["logs"] == pytest.approx(0.5)
    assert found["ours"]["SQS"] == pytest.approx(0.4)
    assert found["Lambda with our image code, Pillow alone"]["SQS"] == 0  # S3 calls it without a queue
    assert dollars.total(found["ours"], "Fargate ARM") == pytest.approx(
        0.4 + 0.4 + 0.5 + dollars.fargate(0.2, "ARM", Assumed())
    )


def test_an_idle_month_has_730_hours():
    assert dollars.idle_month({"worker ReceiveMessage tasks": 180}) == pytest.approx(180 * 730 * 0.4e-6)


def test_cpu_of_a_session_includes_its_ended_children():
    script = """
import subprocess, sys, time
subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
print("done", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == b"done\n"
        [(pid, fields)] = list(processes.members([child.pid]))
        assert pid == child.pid
        own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        assert processes.cpu_s([child.pid]) > own
        assert processes.memory(child.pid)[pid].peak > 1_000_000
        child.stdin.close()


def test_chunked_uploads_are_put_together():
    body = b"5;chunk-signature=ab\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    assert unchunked(body) == (b"hello world", {"x-amz-checksum-crc32": "AAAAAA=="})


def test_random_names_of_queues_are_one_kind():
    calls = Counter(
        {
            "worker1 ReceiveMessage 42f7ce77eb87f42d6eb2-pidbox": 1,
            "worker2 ReceiveMessage 02748d261b6535518749-pidbox": 2,
            "flower ReceiveMessage celeryev-d41a7cfc65cb4c0fa19c": 3,
            "flower TagQueue 02748d261b6535518749-reply-pidbox": 4,
            "bridge ReceiveMessage events": 5,
        }
    )
    assert plain(calls) == {
        "worker ReceiveMessage …pidbox": 3,
        "flower ReceiveMessage …celeryev": 3,
        "flower TagQueue …reply-pidbox": 4,
        "bridge ReceiveMessage events": 5,
    }

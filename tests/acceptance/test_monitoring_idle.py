"""What an idle worker asks of AWS: its two long polls and its signs of life, and nothing else."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from pathlib import Path

from pipeline.core.settings import Settings
from tests.support.aws_process import AwsServer
from tests.support.cluster import TOPIC_ARN_PREFIX
from tests.support.waiting import wait_until
from tests.support.worker import Worker

POLL_WAIT_S, HEARTBEAT_S, POLLS = 1, 2, 5


def an_hour(settings: Settings) -> Counter[str]:
    """Requests an hour of an idle worker: the numbers of docs/flower.md."""
    polls = 3600 // settings.poll_wait_s
    return Counter(
        {
            "ReceiveMessage tasks": polls,
            "ReceiveMessage pidbox": polls,
            "Publish celeryev": 3600 // settings.heartbeat_s,
            "TagQueue pidbox": 3600 // (settings.control_queue_ttl_s // 3),
        }
    )


def test_an_idle_worker_only_polls_and_says_that_it_lives(tmp_path: Path) -> None:
    with AwsServer() as server:
        prefix = f"i{secrets.token_hex(4)}-"
        server.make_queue(f"{prefix}tasks")
        for topic in ("celeryev", "pidbox"):
            server.client("sns").create_topic(Name=prefix + topic)
        env = {
            "QUEUE_PREFIX": prefix,
            "TOPIC_ARN_PREFIX": TOPIC_ARN_PREFIX,
            "POLL_WAIT_S": str(POLL_WAIT_S),
            "HEARTBEAT_S": str(HEARTBEAT_S),
        }

        def seen() -> Counter[str]:
            found: Counter[str] = Counter()
            for text, times in server.counts().items():
                action, _, name = text.partition(" ")
                if action[0].isupper() and name:
                    found[f"{action} {name.removeprefix(prefix).rpartition('-')[2]}"] += times
            return found

        with Worker(server, tmp_path, "--concurrency", "1", env=env) as worker:
            worker.wait_ready()
            wait_until(lambda: seen()["ReceiveMessage pidbox"] >= 2, "it listens to commands")
            server.reset()
            began = time.monotonic()
            wait_until(lambda: seen()["ReceiveMessage tasks"] > POLLS, "it has polled some times")
            took_s, counts = time.monotonic() - began, seen()
    # A poll that found nothing lasted its whole time, so there can't have been more in that time.
    assert POLLS < counts.pop("ReceiveMessage tasks") <= took_s / POLL_WAIT_S + 1
    assert 0 < counts.pop("ReceiveMessage pidbox") <= took_s / POLL_WAIT_S + 1
    assert counts.pop("Publish celeryev") <= took_s / HEARTBEAT_S + 1
    assert set(counts) <= {"TagQueue pidbox"}
    expected = an_hour(Settings.from_env({}))
    print(f"An idle worker's hour: {expected.total()} requests: {dict(expected)}")
    assert expected.total() == 492  # docs/flower.md

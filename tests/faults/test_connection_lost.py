"""An error that Celery takes for a lost connection: it connects anew, and must hear again."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.aws_process import AwsServer
from tests.support.stage import Stage
from tests.support.waiting import wait_until
from tests.support.worker import Worker


def test_a_worker_hears_again_after_it_has_connected_anew(stage: Stage) -> None:
    release, lose = stage.folder / "release", stage.folder / "lose"
    with stage.worker("-c", "2", app="tests.support.lossy", LOSE=str(lose), MESSAGE_VISIBILITY_TIMEOUT_S="3") as worker:
        worker.wait_ready()
        stage.send_many("hold", *((f"t{n}", str(release)) for n in range(6)))
        wait_until(lambda: sum(worker.started().values()) == 2, "two tasks run")
        for count in (1, 2):
            lose.touch()
            wait_until(lambda n=count: worker.log().count("Lost the connection to SQS") == n, "the connection is lost")  # type: ignore[misc]
        renewed = stage.count("ChangeMessageVisibilityBatch")
        wait_until(lambda: stage.count("ChangeMessageVisibilityBatch") >= renewed + 3, "what runs stays hidden")
        assert sum(worker.started().values()) == 2
        for count in (3, 4):
            lose.touch()
            wait_until(lambda n=count: worker.log().count("Lost the connection to SQS") == n, "it is lost again")  # type: ignore[misc]
        threads = Path(f"/proc/{worker.process.pid}/task")
        # The main one, the receiving one, two that extend visibility, and a few that end.
        wait_until(lambda: len(list(threads.iterdir())) <= 8, "no connection leaves threads behind")
        release.touch()
        wait_until(lambda: len(worker.done()) == 6, "all is done, by the new connection")
        wait_until(stage.empty, "nothing is left behind")
        assert all(count == 1 for count in worker.done().values())
        worker.send_signal()
        assert worker.wait_exit() == 0


def test_a_worker_that_cannot_reach_sqs_says_so_and_takes_its_time(aws_server: AwsServer, tmp_path: Path) -> None:
    with Worker(aws_server, tmp_path, "-c", "1", env={"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}) as worker:
        wait_until(lambda: worker.log().count("Lost the connection to SQS") == 3, "the third try has failed")
        worker.send_signal()
        assert worker.wait_exit() == 0
    lines = [json.loads(line) for line in worker.log().splitlines() if line.startswith("{")]
    told = [line["message"] for line in lines if line.get("action") == "connection_lost"]
    assert [text.partition(":")[0] for text in told] == [
        "Lost the connection to SQS, retrying now",
        "Lost the connection to SQS, retrying in 1 s",
        "Lost the connection to SQS, retrying in 2 s",
    ]
    assert all("check the network, AWS_REGION and AWS_ENDPOINT_URL" in text for text in told)

"""An error that Celery takes for a lost connection: it connects anew, and must hear again."""

from __future__ import annotations

from tests.support.stage import Stage
from tests.support.waiting import wait_until


def test_a_worker_hears_again_after_it_has_connected_anew(stage: Stage) -> None:
    release, lose = stage.folder / "release", stage.folder / "lose"
    with stage.worker("-c", "2", app="tests.support.lossy", LOSE=str(lose), MESSAGE_LEASE_S="3") as worker:
        worker.wait_ready()
        stage.send_many("hold", *((f"t{n}", str(release)) for n in range(6)))
        wait_until(lambda: sum(worker.started().values()) == 2, "two tasks run")
        for count in (1, 2):
            lose.touch()
            wait_until(lambda n=count: worker.log().count("Connection to broker lost") == n, "the connection is lost")  # type: ignore[misc]
        renewed = stage.count("ChangeMessageVisibilityBatch")
        wait_until(lambda: stage.count("ChangeMessageVisibilityBatch") >= renewed + 3, "what runs keeps its lease")
        assert sum(worker.started().values()) == 2
        release.touch()
        wait_until(lambda: len(worker.done()) == 6, "all is done, by the new connection")
        wait_until(stage.empty, "nothing is left behind")
        assert all(count == 1 for count in worker.done().values())
        worker.send_signal()
        assert worker.wait_exit() == 0

"""After every kind of failed ReceiveMessage the same worker takes the next task."""

from __future__ import annotations

from typing import Any

from tests.support.stage import Stage
from tests.support.waiting import wait_until

FAULTS: dict[str, dict[str, Any]] = {
    "internal-error": {"status": 500, "code": "InternalError"},
    "unavailable": {"status": 503, "code": "ServiceUnavailable"},
    "throttled": {"status": 400, "code": "RequestThrottled"},
    "denied": {"status": 403, "code": "AccessDenied"},
    "connection-closed": {"kind": "drop"},
    "no-reply": {"kind": "hang"},
    "received-but-reply-lost": {"kind": "lose_reply"},
}


def test_a_worker_hears_again_after_each_fault_and_after_an_outage(stage: Stage) -> None:
    with stage.worker("-c", "1", REPLY_MARGIN_S="1", POLL_WAIT_S="1", MESSAGE_VISIBILITY_TIMEOUT_S="2") as worker:
        worker.wait_ready()
        stage.send("note", "before")
        wait_until(lambda: worker.done()["before"], "the first task")
        for number, (name, fault) in enumerate(FAULTS.items(), start=1):
            stage.server.fault("ReceiveMessage", queue=stage.queue, **fault)
            stage.send("note", f"ends-the-open-poll-{number}")
            wait_until(lambda n=number: stage.faults("ReceiveMessage") == n, f"the worker meets {name}")  # type: ignore[misc]
            stage.send("note", name)
            wait_until(lambda n=name: worker.done()[n], f"the task after {name}")  # type: ignore[misc]
        wait_until(stage.empty, "nothing is left behind")
        assert all(count == 1 for count in worker.done().values())

        before = stage.faults("ReceiveMessage")
        began, ended = "Receiving from tasks failed", "Receiving from tasks works again"
        lines = worker.log().count(began)
        stage.server.fault("ReceiveMessage", queue=stage.queue, times=-1)
        stage.send("note", "ends-the-open-poll")
        wait_until(lambda: stage.faults("ReceiveMessage") >= before + 1, "the outage begins")
        stage.send("note", "during")
        wait_until(lambda: stage.faults("ReceiveMessage") >= before + 3, "three failed polls")
        assert not worker.done()["during"]
        stage.server.repair()
        wait_until(lambda: worker.done()["during"], "the task after the outage")
        assert worker.log().count(began) == lines + 1  # said once
        assert worker.log().count(ended) == lines + 1
        assert "Traceback" not in worker.log()

"""DeleteMessageBatch that fails, wholly or for some entries."""

from __future__ import annotations

from tests.support.stage import Stage
from tests.support.waiting import wait_until


def test_what_was_not_deleted_is_deleted_later_or_delivered_again(stage: Stage) -> None:
    with stage.worker("-c", "2", MESSAGE_VISIBILITY_TIMEOUT_S="2") as worker:
        worker.wait_ready()
        faults = (
            {"kind": "first_entry", "status": 500, "code": "InternalError", "times": 3},
            {"kind": "entries", "status": 500, "code": "InternalError", "times": 2},
            {"kind": "error", "status": 503, "times": 2},
            {"kind": "lose_reply", "times": 2},
        )
        for number, fault in enumerate(faults):
            stage.server.fault("DeleteMessageBatch", queue=stage.queue, **fault)
            stage.send_many("note", *((f"{number}-{n}",) for n in range(25)))
            wait_until(lambda n=number: len(worker.done()) == 25 * (n + 1), f"all tasks under {fault}")  # type: ignore[misc]
            wait_until(stage.empty, f"all is deleted in spite of {fault}")
        assert all(count == 1 for count in worker.done().values())

        # Not even trying again helps: SQS delivers it again, and it is done again, which is harmless.
        stage.server.fault(
            "DeleteMessageBatch", queue=stage.queue, kind="entries", status=400, code="ReceiptHandleIsInvalid"
        )
        stage.send("note", "again")
        wait_until(lambda: worker.done()["again"] == 2, "it is delivered again")
        wait_until(stage.empty, "and then deleted")
        assert "is done but could not be deleted (ReceiptHandleIsInvalid" in worker.log()
        worker.send_signal()
        assert worker.wait_exit() == 0


def test_a_worker_that_stops_deletes_what_it_has_done(stage: Stage) -> None:
    names = [f"t{n}" for n in range(40)]
    stage.send_many("note", *((name,) for name in names))
    with stage.worker("-c", "2") as worker:
        wait_until(lambda: len(worker.done()) >= 10, "some are done")
        worker.send_signal()
        assert worker.wait_exit() == 0
        visible, flying, _ = stage.depth()
        assert flying == 0
        assert visible == 40 - len(worker.done())

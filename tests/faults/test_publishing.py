"""A task whose successor can't be published is not acknowledged; neither is one that can't be retried."""

from __future__ import annotations

from celery import chain

from tests.support.stage import Stage
from tests.support.waiting import wait_until

#: As often as botocore tries one call.
TRIES = 4


def test_a_chain_goes_on_after_its_next_task_could_not_be_published(stage: Stage) -> None:
    with stage.worker("-c", "2", GO_ON_IN_PLACE="false") as worker:
        worker.wait_ready()
        stage.server.fault("SendMessage", queue=stage.queue, times=TRIES)
        steps = stage.app.signature("tiny.note", ["first"]), stage.app.signature("tiny.follow", ["second"])
        stage.send_chain(chain(*steps, app=stage.app))
        wait_until(lambda: worker.done()["second"] == 1, "the chain's second task")
        assert worker.done()["first"] == 2
        wait_until(stage.empty, "nothing is left behind")
        assert stage.server.depth(stage.dead_letters)[0] == 0

        stage.server.fault("SendMessage", queue=stage.queue, times=TRIES)
        stage.send_many("retry_once", ("retried", 1))
        wait_until(lambda: worker.done()["retried"] == 1, "the task that retries")
        assert worker.trace().count("retrying retried") == 2
        wait_until(stage.empty, "nothing is left behind")
        assert stage.server.depth(stage.dead_letters)[0] == 0

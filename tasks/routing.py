"""``find_route``: for an object whose route the bridge could not find."""

from __future__ import annotations

import logging
from typing import Any

from pipeline import enqueue
from pipeline.celery import app
from tasks.base import ObjectTask
from tasks.matching import match
from tasks.outcome import Outcome

logger = logging.getLogger(__name__)


@app.task(name=enqueue.FIND_ROUTE, bind=True, base=ObjectTask)
def find_route(self: ObjectTask, source: str | dict[str, Any]) -> dict[str, Any]:
    """Finds the route of one object and enqueues the object there.

    Usually the bridge does this. If a rule for the content fails there repeatedly, this task has more time for the
    object, and ends as all tasks do, in the end with a failure record.
    """
    wanted = self.parse(source).source

    def work() -> dict[str, Any]:
        route = match(self.app.routes, wanted)
        outcome = Outcome.SKIPPED if route is None else Outcome.DONE
        if route is not None:
            # An earlier try may have left a failure record.
            enqueue.send(enqueue.work(self.app, wanted, route=route.name, check_existing=True))
        reason = self.app.routes.skip_reason(wanted) if route is None else f"route {route.name}"
        logger.info(
            "%s: %s: %s",
            outcome.value,
            wanted.uri,
            reason,
            extra={"action": outcome.value, "key": wanted.key, "task": self.name},
        )
        return {"outcome": outcome.value, "source": wanted.to_json()}

    return self.run_with_policy(wanted, work)

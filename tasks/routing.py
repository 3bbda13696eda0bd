"""``find_route``: for an object of which the bridge could not find out which route takes it."""

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

    The bridge does that, unless a rule for the content raises again and again: then it is done here, where there is
    more time for one object, and where it ends as all tasks do, at last with a failure record.
    """
    wanted = self.parse(source).source

    def work() -> dict[str, Any]:
        route = match(self.app.routes, wanted)
        outcome = Outcome.SKIPPED if route is None else Outcome.DONE
        if route is not None:
            # There may be a failure record of an earlier try.
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

"""Wakes workers within seconds when tasks wait and no worker takes any; the metrics alone would need minutes.

The bridge sets the state of the stack's wake alarm, whose action adds workers. It may set this one alarm and nothing
else, so all it can do is add workers: in the policy's steps, within its cooldown, up to the service's maximum.
``ecs:UpdateService`` would also permit another task definition. The alarm's own metrics remain as the backup.

For an alarm with a scaling policy, SetAlarmState needs StateReasonData in CloudWatch's own format; the datapoint in it
selects the policy's step.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_SetAlarmState.html
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-and-eventbridge.html (reasonData)

Reading the queue's depth also keeps CloudWatch publishing its metrics, which stop six hours after the last request.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/monitoring-using-cloudwatch.html
"""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.aws.errors import describe_error

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

    from pipeline.enqueue import Assignment

logger = logging.getLogger(__name__)

#: Seconds between reads of the queue's depth when no task is known to wait: other programs may publish tasks too.
IDLE_S = 60.0
#: Seconds from publishing tasks to reading the depth: a running worker takes them sooner.
SETTLE_S = 2.0
#: Seconds to the next reads, if the first finds no tasks: SQS's counts are approximate, and sometimes late.
LATE_S = (5.0, 15.0)
#: Seconds between reads while tasks wait. The second read that finds no worker wakes some.
WAITING_S = 3.0
#: Seconds until the same workers are requested again: the policy's cooldown, within which they count as running.
AGAIN_S = 180.0
#: Start of the reason in the alarm's history; ``live-check`` searches for it.
REASON = "The bridge"

_WAITING: Final = "ApproximateNumberOfMessages"
_HELD: Final = "ApproximateNumberOfMessagesNotVisible"


@dataclass(frozen=True, slots=True)
class Wake:
    workers: int  # to request; 0: none
    look_again_s: float


class WakePolicy:
    """When to read the queue's depth, and how many workers to wake. Uses no clock and no AWS; times are seconds."""

    def __init__(self, backlog_per_worker: int) -> None:
        self._backlog_per_worker = backlog_per_worker
        self._awake_until = -math.inf  # until then workers are assumed to run
        self._is_published = False  # tasks were published, and no worker has been seen since
        self._late: list[float] = []  # what is left of LATE_S
        self._is_waiting = False  # at the last read tasks waited and none was in flight
        self._woken_at = -math.inf
        self._asked = 0  # workers requested since then

    def published(self, now: float) -> float | None:
        """Call this after publishing tasks. Returns the seconds until the depth must be read; None: no need."""
        if now < self._awake_until or self._is_waiting or self._is_published:
            return None
        self._is_published, self._late = True, list(LATE_S)
        return SETTLE_S

    def decide(self, now: float, waiting: int, held: int) -> Wake:
        """Call this after reading the depth. ``waiting``: visible tasks; ``held``: tasks in flight."""
        if waiting and not held:
            return self._wake(now, waiting)
        self._is_waiting = False
        if held and waiting and now - self._woken_at < AGAIN_S:
            # The first woken worker runs. What has been published meanwhile belongs to the same request.
            return self._ask(waiting)
        self._asked = 0
        if held == 0 and self._late:
            return Wake(0, self._late.pop(0))
        if held or self._is_published:  # the published tasks are in flight, or gone: a worker took them
            self._awake_until = now + IDLE_S
        self._is_published = False
        return Wake(0, IDLE_S)

    def _wake(self, now: float, waiting: int) -> Wake:
        if not self._is_waiting:
            self._is_waiting = True
            return Wake(0, WAITING_S)
        if now - self._woken_at >= AGAIN_S:
            self._woken_at, self._asked = now, 0
        return self._ask(waiting)

    def _ask(self, waiting: int) -> Wake:
        needed = math.ceil(waiting / self._backlog_per_worker)
        more = needed if needed > self._asked else 0
        self._asked = max(needed, self._asked)
        return Wake(more, WAITING_S)


class WakeAlarm:
    """The alarm whose action starts workers. ``wake`` raises nothing: if it fails, the alarm's metrics start them."""

    def __init__(self, name: str, cloudwatch: Callable[[], Any]) -> None:
        self._name = name
        self._cloudwatch = cloudwatch  # makes the client when it is first needed
        self._complained = False

    def wake(self, workers: int, waiting: int) -> None:
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}.000+0000"
        data = {
            "version": "1.0",
            "queryDate": now,
            "startDate": now,
            "period": 60,
            "recentDatapoints": [float(workers)],
            "threshold": 1.0,
            "evaluatedDatapoints": [{"timestamp": now, "value": float(workers)}],
        }
        reason = f"{REASON}: {waiting} tasks wait and no worker receives any"
        try:
            # Only a change of state triggers the action, so the alarm must not be in ALARM already.
            self._set("OK", reason, {**data, "recentDatapoints": [0.0], "evaluatedDatapoints": []})
            self._set("ALARM", reason, data)
        except (ClientError, BotoCoreError) as exc:
            if not self._complained:
                self._complained = True
                logger.warning(
                    "bridge: can't wake workers; the alarm's own metrics start them some minutes later: %s",
                    describe_error(exc),
                    extra={"action": "not_woken"},
                )
            return
        self._complained = False
        logger.info("bridge: %s; requested %d workers", reason, workers, extra={"action": "wake"})

    def _set(self, state: str, reason: str, data: dict[str, Any]) -> None:
        self._cloudwatch().set_alarm_state(
            AlarmName=self._name, StateValue=state, StateReason=reason, StateReasonData=json.dumps(data)
        )


class Waker:
    """A thread that reads the depth of the tasks queue. A context manager, which ends it.

    ``alarm``: None if there is no alarm to set; the reads then only keep the queue's metrics published.
    """

    def __init__(
        self,
        sqs: SQSClient,
        queue: str,
        policy: WakePolicy,
        alarm: WakeAlarm | None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._sqs = sqs
        self._queue = queue
        self._policy = policy
        self._alarm = alarm
        self._clock = clock
        self._changed = threading.Condition()
        self._ended = False
        self._look_at = clock()
        self._thread = threading.Thread(target=self._run, name="waker", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()

    def after(self, publish: Callable[[Sequence[Assignment]], None]) -> Callable[[Sequence[Assignment]], None]:
        """Publishes, and then schedules a read of the queue's depth."""

        def publish_and_look(assignments: Sequence[Assignment]) -> None:
            try:
                publish(assignments)
            finally:  # some may have been published even so
                self._published()

        return publish_and_look if self._alarm is not None else publish

    def _published(self) -> None:
        with self._changed:
            now = self._clock()
            due_s = self._policy.published(now)
            if due_s is not None:
                self._look_at = min(self._look_at, now + due_s)
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._ended and (left_s := self._look_at - self._clock()) > 0:
                    self._changed.wait(left_s)
                if self._ended:
                    return
                self._look_at = self._clock() + IDLE_S
            again_s = self.look()
            with self._changed:
                self._look_at = min(self._look_at, self._clock() + again_s)

    def look(self) -> float:
        """Reads the depth and wakes workers if needed; returns the seconds to the next read. Failures are harmless."""
        try:
            url = self._sqs.get_queue_url(QueueName=self._queue)["QueueUrl"]
            found = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[_WAITING, _HELD])["Attributes"]
        except (ClientError, BotoCoreError) as exc:
            logger.debug("could not read the depth of %s: %s", self._queue, describe_error(exc))
            return IDLE_S
        waiting, held = int(found[_WAITING]), int(found[_HELD])
        with self._changed:
            decision = self._policy.decide(self._clock(), waiting, held)
        if decision.workers and self._alarm is not None:
            self._alarm.wake(decision.workers, waiting)
        return decision.look_again_s if self._alarm is not None else IDLE_S

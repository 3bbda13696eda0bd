"""When the bridge wakes workers, and how many; and what it does when it may not."""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from bridge.wake import AGAIN_S, IDLE_S, LATE_S, SETTLE_S, WAITING_S, WakeAlarm, WakePolicy, Waker
from pipeline.aws import clients
from pipeline.core.errors import TransientError
from pipeline.core.settings import Settings
from pipeline.deploy.live_check import not_woken
from tests.support.waiting import wait_until


def woken(looks: Sequence[tuple[float, int, int]], policy: WakePolicy | None = None) -> list[int]:
    """What is asked for at each look: at a time, with so many waiting and so many held."""
    policy = WakePolicy(100) if policy is None else policy
    return [policy.decide(*look).workers for look in looks]


def test_tasks_that_wait_for_nobody_wake_a_worker_at_the_second_look() -> None:
    policy = WakePolicy(100)
    assert policy.published(0) == SETTLE_S
    assert policy.decide(2, 1, 0).look_again_s == WAITING_S
    assert policy.decide(5, 1, 0).workers == 1
    assert SETTLE_S + WAITING_S <= 5, "of the minute that an upload may take, a container needs 45 s"


@pytest.mark.parametrize(
    "looks",
    [
        [(2, 0, 0), (60, 0, 0)],  # taken and done
        [(2, 0, 1), (5, 3, 1)],  # a worker holds some
        [(2, 1, 0), (5, 0, 1)],  # taken meanwhile
        [(2, 1, 0), (5, 0, 0), (65, 1, 0)],
    ],
)
def test_where_a_worker_is_nobody_is_woken(looks: list[tuple[float, int, int]]) -> None:
    assert sum(woken(looks)) == 0


def test_as_many_are_woken_as_the_backlog_needs_and_each_is_asked_for_once() -> None:
    looks = [(2, 90, 0), (5, 150, 0), (8, 190, 0), (11, 310, 0), (14, 300, 0)]
    assert woken(looks) == [0, 2, 0, 4, 0]


def test_what_comes_while_the_first_of_the_woken_begins_is_asked_for_too() -> None:
    policy = WakePolicy(100)
    assert woken([(2, 90, 0), (5, 90, 0), (50, 450, 8)], policy) == [0, 1, 5]
    assert woken([(5 + AGAIN_S, 900, 8)], policy) == [0], "from here on it is for the target"


def test_they_are_asked_for_again_when_they_do_not_come() -> None:
    policy = WakePolicy(100)
    assert woken([(2, 90, 0), (5, 90, 0), (4 + AGAIN_S, 90, 0), (6 + AGAIN_S, 90, 0)], policy) == [0, 1, 0, 1]


def test_counts_that_come_late_are_looked_at_again() -> None:
    policy = WakePolicy(100)
    assert policy.published(0) == SETTLE_S
    now, pauses = SETTLE_S, []
    for _ in LATE_S:
        pauses.append(policy.decide(now, 0, 0).look_again_s)
        now += pauses[-1]
    assert pauses == list(LATE_S)
    assert woken([(now, 1, 0), (now + WAITING_S, 1, 0)], policy) == [0, 1]


def test_uploads_one_after_the_other_cost_no_look_each() -> None:
    """A worker takes each at once: after that is known, nothing is looked at for a minute."""
    policy = WakePolicy(100)
    looks, due = 0, math.inf
    for second in range(3600):
        wanted = policy.published(second)
        due = min(due, second + wanted) if wanted is not None else due
        if second >= due:
            looks += 1
            due = second + policy.decide(second, 0, 0).look_again_s
    assert looks <= 4 * 3600 / IDLE_S


class Cloudwatch:
    """CloudWatch as SetAlarmState documents it: an action on a change of state, by the datapoint in StateReasonData."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.state = "ALARM"
        self.acted: list[float] = []
        self.tries = 0

    def set_alarm_state(self, *, AlarmName: str, StateValue: str, StateReason: str, StateReasonData: str) -> None:  # noqa: N803
        assert AlarmName == "photos-wake"
        assert len(StateReason) <= 1023
        self.tries += 1
        if self.error is not None:
            raise self.error
        data = json.loads(StateReasonData)
        assert data["version"] == "1.0"
        datetime.strptime(data["queryDate"], "%Y-%m-%dT%H:%M:%S.%f%z")
        if StateValue == "ALARM" != self.state:
            assert data["recentDatapoints"][-1] >= data["threshold"]
            self.acted.append(data["recentDatapoints"][-1])
        self.state = StateValue


def alarm(cloudwatch: Cloudwatch) -> WakeAlarm:
    return WakeAlarm("photos-wake", lambda: cloudwatch)


def test_the_alarm_acts_each_time_also_where_it_is_in_alarm_already(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    cloudwatch = Cloudwatch()
    alarm(cloudwatch).wake(2, 150)
    alarm(cloudwatch).wake(3, 250)  # another bridge
    assert cloudwatch.acted == [2.0, 3.0]
    assert "150 tasks wait" in caplog.messages[0]


def test_a_bridge_that_may_not_says_so_once_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    denied = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "SetAlarmState")
    cloudwatch = Cloudwatch(denied)
    wake = alarm(cloudwatch)
    for error in (denied, EndpointConnectionError(endpoint_url="http://x"), denied):
        cloudwatch.error = error
        wake.wake(1, 1)
    assert (cloudwatch.tries, len(caplog.messages)) == (3, 1)
    assert "some minutes later" in caplog.messages[0]
    cloudwatch.error = None
    wake.wake(1, 1)
    assert cloudwatch.acted == [1.0]


class Sqs:
    """A queue with so many waiting and held; the first looks may fail."""

    def __init__(self, waiting: int, failures: int = 0) -> None:
        self.waiting, self.held, self.failures, self.looks = waiting, 0, failures, 0

    def get_queue_url(self, **_: Any) -> dict[str, str]:
        return {"QueueUrl": "u"}

    def get_queue_attributes(self, *, QueueUrl: str, AttributeNames: Sequence[str]) -> dict[str, dict[str, str]]:  # noqa: N803
        self.looks += 1
        if self.looks <= self.failures:
            raise EndpointConnectionError(endpoint_url="http://x")
        waiting, held = AttributeNames
        return {"Attributes": {waiting: str(self.waiting), held: str(self.held)}}


class Clock:
    """Each look at it is a second later, so that a thread which waits by it is never in want of time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def waker(sqs: Any, alarm: WakeAlarm | None, clock: Callable[[], float]) -> Waker:
    return Waker(sqs, "photos-tasks", WakePolicy(100), alarm, clock)


def test_looks_go_on_whatever_happens_to_them() -> None:
    sqs, cloudwatch = Sqs(waiting=250, failures=2), Cloudwatch()
    each = waker(sqs, alarm(cloudwatch), Clock())
    pauses = [each.look() for _ in range(4)]
    assert pauses == [IDLE_S, IDLE_S, WAITING_S, WAITING_S]
    assert cloudwatch.acted == [3.0]


def test_the_thread_looks_after_a_publishing_and_ends_with_its_bridge() -> None:
    sqs, cloudwatch = Sqs(waiting=0), Cloudwatch()
    each = waker(sqs, alarm(cloudwatch), Clock())
    sent: list[Any] = []

    def publish(assignments: Sequence[Any]) -> None:
        sent.extend(assignments)
        raise TransientError("some were published, some were not")

    with each:
        wait_until(lambda: sqs.looks > 0, "the first look")
        sqs.waiting = 1
        with pytest.raises(TransientError):
            each.after(publish)([1])
        wait_until(lambda: cloudwatch.acted == [1.0], "a worker is woken")
    assert sent == [1]
    wait_until(lambda: "waker" not in {thread.name for thread in threading.enumerate()}, "its end")


def test_without_an_alarm_it_only_keeps_the_metrics_alive() -> None:
    sqs = Sqs(waiting=5)
    each = waker(sqs, None, Clock())
    assert [each.look(), each.look()] == [IDLE_S, IDLE_S]

    def publish(_: Sequence[Any]) -> None:
        """Sends nothing."""

    assert each.after(publish) is publish


def _item(kind: str, summary: str, data: str = "{}") -> dict[str, str]:
    return {"HistoryItemType": kind, "HistorySummary": summary, "HistoryData": data}


def test_the_live_check_reads_the_alarm_s_history() -> None:
    by_bridge = _item("StateUpdate", "Alarm updated from OK to ALARM", '{"stateReason": "The bridge: 500 tasks wait"}')
    by_metric = _item("StateUpdate", "Alarm updated from OK to ALARM", '{"stateReason": "Threshold Crossed"}')
    good = _item("Action", "Successfully executed action arn:aws:autoscaling:…:policyName/photos-wake")
    bad = _item("Action", "Failed to execute action arn:aws:autoscaling:…")
    assert not_woken("photos-wake", [good, by_bridge, by_metric]) == []
    assert "did not set" in not_woken("photos-wake", [good, by_metric])[0]
    assert "Failed to execute" in not_woken("photos-wake", [bad, by_bridge])[0]


def test_a_server_takes_what_the_bridge_sends(stack: Settings) -> None:
    cloudwatch = clients.cloudwatch()
    cloudwatch.put_metric_alarm(
        AlarmName="photos-wake",
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        EvaluationPeriods=1,
        Namespace="AWS/SQS",
        MetricName="ApproximateNumberOfMessagesVisible",
        Period=60,
        Statistic="Maximum",
        Threshold=1,
    )
    WakeAlarm("photos-wake", clients.cloudwatch).wake(3, 250)
    (found,) = cloudwatch.describe_alarms(AlarmNames=["photos-wake"])["MetricAlarms"]
    assert found["StateValue"] == "ALARM"
    assert json.loads(found["StateReasonData"])["recentDatapoints"] == [3.0]

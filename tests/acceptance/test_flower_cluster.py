"""Remote control, events and Flower, with real processes: the tests of this file share two workers and two Flowers.

They run in order: the last ones stop what the first ones used.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import pytest

from pipeline.sqs.monitoring.claimed_queue import UNTIL_TAG
from pipeline.sqs.monitoring.names import Kind
from pipeline.sqs.monitoring.sweep import sweep
from tests.stack.iam import Call, grants
from tests.stack.template import Stack, load
from tests.support.aws_process import ROOT
from tests.support.cluster import Cluster, cluster
from tests.support.waiting import DEADLINE_S, wait_until

__all__ = ["cluster"]

BOTH = {"one@test", "two@test"}
#: What Flower says of a worker that takes longer than Flower waits.
LATE = "it has not answered; it still runs the command"


def run(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, **cluster.env},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


# --- inspect ---


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("ping", lambda reply: reply == {"ok": "pong"}),
        ("stats", lambda reply: reply["pool"]["max-concurrency"] == 1),
        ("active", lambda reply: reply == []),
        ("reserved", lambda reply: reply == []),
        ("scheduled", lambda reply: reply == []),
        ("registered", lambda reply: "tiny.note" in reply),
        ("active_queues", lambda reply: [queue["name"] for queue in reply] == ["tasks"]),
        ("revoked", lambda reply: reply == []),
        ("conf", lambda reply: reply["task_default_queue"] == "tasks"),
    ],
)
def test_inspect_is_answered_by_both_workers(cluster: Cluster, command: str, says: Any) -> None:
    replies = getattr(cluster.app.control.inspect(limit=2, timeout=DEADLINE_S), command)()
    assert set(replies) == BOTH
    assert all(says(reply) for reply in replies.values())


def test_inspect_can_ask_one_worker(cluster: Cluster) -> None:
    assert set(cluster.app.control.inspect(["two@test"], timeout=DEADLINE_S).ping()) == {"two@test"}


def test_the_command_line_inspects_and_leaves_no_queue_behind(cluster: Cluster) -> None:
    before = cluster.queues(Kind.REPLY)
    options = ("--timeout", str(DEADLINE_S), "--destination", ",".join(BOTH))
    done = run(cluster, "celery", "-A", "tests.support.tiny", "inspect", *options, "ping")
    assert done.returncode == 0, done.stderr
    assert all(f"{name}: OK" in done.stdout for name in BOTH)
    assert cluster.queues(Kind.REPLY) <= before  # fewer when a Flower has ended a thread


# --- events ---


def test_every_flower_sees_every_task(cluster: Cluster) -> None:
    sent = [cluster.send("note", f"n{number}") for number in range(25)]
    for task_id in sent:
        cluster.each_flower_says(task_id, "SUCCESS")
    task = cluster.flowers[0].task(sent[0])
    assert (task["name"], task["result"]) == ("tiny.note", "'n0'")
    assert task["runtime"] > 0


# --- control ---


def test_rate_limit_and_time_limit(cluster: Cluster) -> None:
    control = cluster.app.control
    for replies in (
        control.rate_limit("tiny.nothing", "5/m", reply=True, limit=2, timeout=DEADLINE_S),
        control.time_limit("tiny.nothing", soft=50, hard=60, reply=True, limit=2, timeout=DEADLINE_S),
    ):
        assert {name for reply in replies for name, answer in reply.items() if "ok" in answer} == BOTH
    limits = cluster.app.control.inspect(["one@test"], timeout=DEADLINE_S).registered("rate_limit")["one@test"]
    assert any(line.startswith("tiny.nothing") and "5/m" in line for line in limits)


def test_a_task_revoked_before_it_is_received_does_not_run(cluster: Cluster) -> None:
    task_id = "revoked-before-it-was-sent"
    assert len(cluster.app.control.revoke(task_id, reply=True, limit=2, timeout=DEADLINE_S)) == 2
    cluster.send("note", "never", task_id=task_id)
    cluster.each_flower_says(task_id, "REVOKED")
    assert "done never" not in cluster.workers["one@test"].trace()


def test_a_running_task_is_terminated(cluster: Cluster) -> None:
    one = cluster.workers["one@test"]
    task_id = cluster.send("hold", "long", str(cluster.folder / "never-made"))
    wait_until(lambda: one.started()["long"], "the task runs")
    active = cluster.app.control.inspect(limit=2, timeout=DEADLINE_S).active()
    assert [task["id"] for tasks in active.values() for task in tasks] == [task_id]
    cluster.app.control.revoke(task_id, terminate=True)
    cluster.each_flower_says(task_id, "REVOKED")
    assert one.done()["long"] == 0


@pytest.mark.parametrize("queue", ["misspelt", "0123456789abcdef0123-pidbox", "events"])
def test_a_consumer_of_a_queue_that_does_not_exist_is_refused_and_costs_no_worker(cluster: Cluster, queue: str) -> None:
    replies = cluster.app.control.add_consumer(queue, reply=True, limit=2, timeout=DEADLINE_S)
    answers = [answer for reply in replies for answer in reply.values()]
    assert len(answers) == 2
    assert all(queue in answer["error"] for answer in answers)
    assert set(cluster.app.control.inspect(limit=2, timeout=DEADLINE_S).ping()) == BOTH


def test_a_consumer_is_cancelled_and_added_again(cluster: Cluster) -> None:
    control, two = cluster.app.control, ["two@test"]
    control.cancel_consumer("tasks", destination=two, reply=True, timeout=DEADLINE_S)
    queues = control.inspect(two, timeout=DEADLINE_S).active_queues
    wait_until(lambda: queues()["two@test"] == [], "it consumes nothing")
    (reply,) = control.add_consumer("tasks", destination=two, reply=True, timeout=DEADLINE_S)
    assert "ok" in reply["two@test"]
    wait_until(lambda: [queue["name"] for queue in queues()["two@test"]] == ["tasks"], "it consumes again")


# --- Flower ---


def test_flower_s_page_tells_that_the_events_of_uploads_are_not_for_workers(cluster: Cluster) -> None:
    """The queue is one of those that its Broker page lists."""
    flower, two = cluster.flowers[0], ["two@test"]
    assert flower.get("/worker/two@test").status == 200  # opening the page makes Flower ask

    def answered() -> bool:
        answer = flower.post("/api/worker/queue/add-consumer/two@test?queue=events")
        assert answer.status == 403, answer.text
        return "events is not a queue of tasks" in answer.text  # else it has answered late

    wait_until(answered, "the refusal")
    queues = cluster.app.control.inspect(two, timeout=DEADLINE_S).active_queues()
    assert [queue["name"] for queue in queues["two@test"]] == ["tasks"]


def test_the_pool_grows_and_shrinks_by_flower_s_buttons(cluster: Cluster) -> None:
    flower, stats = cluster.flowers[0], cluster.app.control.inspect(["two@test"], timeout=DEADLINE_S).stats
    assert flower.get("/worker/two@test").status == 200  # opening the page makes Flower ask
    for button, size in (("grow", 2), ("shrink", 1)):
        answer = flower.post(f"/api/worker/pool/{button}/two@test?n=1")
        assert answer.status == 200 or LATE in answer.text, answer.text  # the machine may be busy
        wait_until(lambda: len(stats()["two@test"]["pool"]["processes"]) == size, f"the pool has {size}")  # noqa: B023


def pressed(flower: Any, path: str, says: str) -> int:
    """Presses a button until the worker's own words are there; returns how often. A late press is done, too."""
    answers: list[Any] = []

    def answered() -> bool:
        answers.append(flower.post(path))
        return answers[-1].status == 200 and says in answers[-1].text

    wait_until(answered, says)
    return len(answers)


def test_after_a_worker_has_answered_late_everybody_is_answered_again(cluster: Cluster) -> None:
    flower, two, control = cluster.flowers[0], ["two@test"], cluster.app.control
    grow, shrink = "/api/worker/pool/grow/two@test?n=1", "/api/worker/pool/shrink/two@test?n=1"
    buttons = {
        "/api/task/rate-limit/tiny.nothing?workername=two@test&ratelimit=7/m": "new rate limit set",
        "/api/worker/queue/cancel-consumer/two@test?queue=tasks": "no longer consuming from tasks",
        "/api/worker/queue/add-consumer/two@test?queue=tasks": "add consumer tasks",
    }
    assert flower.get("/worker/two@test").status == 200
    with cluster.workers["two@test"].frozen():
        assert control.inspect(two, timeout=0.2).ping() is None
        assert control.rate_limit("tiny.nothing", "5/m", destination=two, reply=True, timeout=0.2) == []
        answer = flower.post(grow)
        assert answer.status == 403
        assert LATE in answer.text
        assert flower.get("/api/workers?refresh=1&workername=two@test").status == 200
        assert flower.get("/worker/two@test").status == 200  # with what it knew
    wanted = 2  # it has also grown by the command that was answered late
    for _ in range(2):
        assert control.inspect(two, timeout=DEADLINE_S).ping() == {"two@test": {"ok": "pong"}}
        (reply,) = control.rate_limit("tiny.nothing", "6/m", destination=two, reply=True, timeout=DEADLINE_S)
        assert "ok" in reply["two@test"]
        wanted += pressed(flower, grow, "Growing")
        wanted -= pressed(flower, shrink, "Shrinking")
        for path, says in buttons.items():
            pressed(flower, path, says)

    def processes() -> int:
        known = flower.get("/api/workers?refresh=1&workername=two@test").json()["two@test"]
        return len(known["stats"]["pool"]["processes"])

    assert "7/m" in str(control.inspect(two, timeout=DEADLINE_S).registered("rate_limit"))
    wait_until(lambda: processes() == wanted, f"{wanted} processes")
    pressed(flower, shrink, "Shrinking")
    wait_until(lambda: processes() == 1, "it has shrunk")


def test_the_pool_restarts_by_flower_s_button(cluster: Cluster) -> None:
    stats = cluster.app.control.inspect(["two@test"], timeout=DEADLINE_S).stats
    before = stats()["two@test"]["pool"]["processes"]
    pressed(cluster.flowers[1], "/api/worker/pool/restart/two@test", "Restarting")

    def others_run() -> bool:
        known = stats()  # None where it has not answered: it is restarting
        return known is not None and not set(known["two@test"]["pool"]["processes"]) & set(before)

    wait_until(others_run, "other processes run")


def test_the_broker_page_shows_depths_and_dead_letters(cluster: Cluster) -> None:
    prefix, client = cluster.settings.queue_prefix, cluster.server.client()

    def put(queue: str, number: int, **options: Any) -> None:
        url = client.get_queue_url(QueueName=prefix + queue)["QueueUrl"]
        for _ in range(number):
            client.send_message(QueueUrl=url, MessageBody="x", **options)

    put("events", 3)
    put("events", 2, DelaySeconds=600)
    put("tasks-dlq", 1)
    url = client.get_queue_url(QueueName=f"{prefix}events")["QueueUrl"]
    client.receive_message(QueueUrl=url, MaxNumberOfMessages=1, VisibilityTimeout=600)

    rows = {row["name"]: row for row in cluster.flowers[0].get("/api/queues/length").json()["active_queues"]}
    assert list(rows) == ["events", "events-dlq", "tasks", "tasks-dlq"]
    events = rows["events"]
    counts = [events[f"messages_{what}"] for what in ("ready", "unacknowledged", "delayed")]
    assert (events["messages"], counts) == (5, [2, 1, 2])
    assert rows["tasks-dlq"]["messages_ready"] == 1
    for flower in cluster.flowers:
        page = flower.get("/broker").text
        assert '<tr id="tasks-dlq" class="table-danger">' in page
        assert f'title="{prefix}events"' in page
        readers = re.findall(r'<tr id="([\w-]+)".*?</td>\s*<td>(.*?)</td>', page, re.DOTALL)
        assert [by.partition(":")[0] for _, by in readers] == ["the bridge", "nobody", "workers", "nobody"]


def test_metrics_and_health_need_no_password_and_all_else_does(cluster: Cluster) -> None:
    flower = cluster.flowers[0]
    assert flower.get("/healthcheck", password=None).text == "OK"
    metrics = flower.get("/metrics", password=None).text
    assert 'pipeline_tasks_total{outcome="done",reason="",task="tiny.note"} 25.0' in metrics
    assert 'pipeline_tasks_total{outcome="revoked",reason="",task="tiny.hold"} 1.0' in metrics
    assert 'pipeline_task_seconds_count{task="tiny.note"} 25.0' in metrics
    for path in ("/", "/tasks", "/broker", "/api/workers"):
        assert flower.get(path, password=None).status == 401
        assert flower.get(path, password="user:wrong").status == 401
    assert flower.post("/api/worker/shutdown/one@test", password=None).status == 401


def test_a_restarted_flower_still_knows_the_tasks_and_leaves_no_queue(cluster: Cluster) -> None:
    task_id = cluster.send("note", "before")
    cluster.each_flower_says(task_id, "SUCCESS")
    before = cluster.queues(Kind.EVENTS)
    assert len(before) == 2
    first = cluster.flowers.pop(0)
    assert first.stop() == 0
    assert len(cluster.queues(Kind.EVENTS)) == 1
    assert len(cluster.queues(Kind.EVENTS) & before) == 1
    assert "Traceback" not in first.log()
    again = cluster.start_flower("first", "--address=127.0.0.1", FLOWER_DB=str(cluster.folder / "first.db"))
    assert again.state(task_id) == "SUCCESS"
    wait_until(lambda: len(cluster.queues(Kind.EVENTS)) == 2, "it listens to events again")
    cluster.each_flower_says(cluster.send("note", "after"), "SUCCESS")


# --- the end of workers ---


def test_a_sweep_removes_nothing_that_is_in_use(cluster: Cluster) -> None:
    kinds = (Kind.CONTROL, Kind.EVENTS, Kind.REPLY)
    before = cluster.queues(*kinds)
    swept = sweep(cluster.settings)
    assert swept.removed == []
    assert not swept.listed  # ListQueues is denied here
    assert set(swept.claimed) == cluster.queues(Kind.CONTROL, Kind.EVENTS)
    assert cluster.queues(*kinds) == before


def test_the_queue_of_a_killed_worker_is_swept_when_its_claim_has_run_out(cluster: Cluster) -> None:
    before = cluster.queues(Kind.CONTROL)
    assert len(before) == 2
    doomed = cluster.start_worker("doomed")
    doomed.wait_ready()
    (left,) = cluster.queues(Kind.CONTROL) - before
    doomed.kill()
    assert "0 removed" in run(cluster, "pipeline", "sweep").stdout
    client = cluster.server.client()
    url = client.get_queue_url(QueueName=left)["QueueUrl"]
    client.tag_queue(QueueUrl=url, Tags={UNTIL_TAG: str(int(time.time()) - 1)})
    done = run(cluster, "pipeline", "sweep")
    assert done.returncode == 0, done.stderr
    assert f"removed {left}\n1 removed, 4 in use" in done.stdout
    assert cluster.queues(Kind.CONTROL) == before
    subscribed = cluster.server.client("sns").list_subscriptions_by_topic(
        TopicArn=f"{cluster.settings.topic_arn_prefix}{cluster.settings.queue_prefix}pidbox"
    )["Subscriptions"]
    assert {each["Endpoint"].rsplit(":", 1)[-1] for each in subscribed} == before
    assert set(cluster.app.control.inspect(limit=2, timeout=DEADLINE_S).ping()) == BOTH


def test_a_worker_is_shut_down_by_flower_s_button_and_its_queue_is_gone(cluster: Cluster) -> None:
    flower, two = cluster.flowers[0], cluster.workers["two@test"]
    answer = flower.post("/api/worker/shutdown/two@test")
    assert answer.status == 200, answer.text
    assert two.wait_exit() == 0
    for each in cluster.flowers:
        wait_until(lambda flower=each: "two@test" not in flower.online(), "Flower sees it go")  # type: ignore[misc]
        assert "one@test" in each.online()
    assert len(cluster.queues(Kind.CONTROL)) == 1


def test_a_stopping_worker_still_says_how_its_last_task_ended_and_then_goodbye(cluster: Cluster) -> None:
    one, release = cluster.workers["one@test"], cluster.folder / "release"
    task_id = cluster.send("hold", "last", str(release))
    wait_until(lambda: one.started()["last"], "the task runs")
    one.send_signal()
    wait_until(lambda: "Shutting down:" in one.log(), "the worker stops")
    release.touch()
    assert one.wait_exit() == 0
    cluster.each_flower_says(task_id, "SUCCESS")
    for each in cluster.flowers:
        wait_until(lambda flower=each: "one@test" not in flower.online(), "Flower sees it go")  # type: ignore[misc]
    assert cluster.queues(Kind.CONTROL) == set()


def test_the_worker_has_written_embedded_metrics_to_its_output(cluster: Cluster) -> None:
    lines = [json.loads(line) for line in cluster.workers["one@test"].log().splitlines() if line.startswith('{"_aws"')]
    ends = Counter[tuple[str, str]]()
    for line in lines:
        ends[line["Task"], line["Outcome"]] += line["Tasks"]
    assert ends["tiny.hold", "done"] == 1
    assert ends["tiny.hold", "revoked"] + ends["tiny.note", "done"] > 0
    assert not [line for line in cluster.workers["two@test"].log().splitlines() if line.startswith('{"_aws"')]


@pytest.mark.parametrize(("caller", "role"), [("worker", "WorkerRole"), ("flower", "FlowerRole")])
def test_every_call_was_one_that_the_stack_s_policies_allow(cluster: Cluster, caller: str, role: str) -> None:
    allowed = grants(Stack(load()), role)
    made = [text.split(" ", 2)[1:] for text in cluster.server.calls() if text.startswith(f"{caller} ")]
    calls = {as_iam_sees_it(action, name.removeprefix(cluster.settings.queue_prefix)) for action, name in made}
    assert len(calls) > 10
    calls.discard(as_iam_sees_it("GetQueueUrl", "misspelt"))  # asked for above; a denial is an answer too
    assert {call for call in calls if not any(grant.allows(call) for grant in allowed)} == set()


def as_iam_sees_it(action: str, name: str) -> Call:
    """A call on the queue or topic ``<prefix><name>`` of the stack ``photos``."""
    if action in ("Publish", "Subscribe", "ListSubscriptionsByTopic"):
        return Call(f"sns:{action}", f"arn:aws:sns:us-east-1:123456789012:photos-{name}")
    if action == "Unsubscribe":
        return Call("sns:Unsubscribe", "*")
    if action == "GetMetricData":
        return Call("cloudwatch:GetMetricData", "*")
    if action == "ListQueues":
        return Call("sqs:ListQueues", "*")
    # IAM knows the batch calls by the single one's name.
    return Call(f"sqs:{action.removesuffix('Batch')}", f"arn:aws:sqs:us-east-1:123456789012:photos-{name}")

"""Temporary queues: made once, claimed, made again when somebody deleted them, swept when abandoned."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from kombu.transport.SQS.exceptions import UndefinedQueueException

from pipeline.aws import clients
from pipeline.celery import make_app
from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.settings import Settings
from pipeline.sqs.monitoring import claimed_queue, names
from pipeline.sqs.monitoring.claimed_queue import UNTIL_TAG
from pipeline.sqs.monitoring.names import Kind
from pipeline.sqs.monitoring.process_queues import OwnedQueues, owned
from pipeline.sqs.monitoring.sweep import sweep
from tests.support.aws_process import ROOT, AwsServer
from tests.support.cluster import TOPIC_ARN_PREFIX
from tests.support.stage import aws_server
from tests.support.waiting import wait_until

__all__ = ["aws_server"]

TTL_S = 900


@dataclass
class Place:
    """A stack of its own on the server: a tasks queue and both topics."""

    server: AwsServer
    settings: Settings

    def name(self, kind: Kind) -> str:
        made = {
            Kind.CONTROL: names.control_queue(),
            Kind.REPLY: names.reply_queue(secrets.token_hex(10)),
            Kind.EVENTS: f"celeryev-{secrets.token_hex(10)}",
        }
        return self.settings.queue_prefix + made[kind]

    def topic_arn(self, kind: Kind) -> str | None:
        exchange = kind.exchange
        return None if exchange is None else names.topics(self.settings)[exchange]["arn"]

    def open(self, owner: OwnedQueues, kind: Kind) -> str:
        name = self.name(kind)
        owner.open(name, kind, self.topic_arn(kind), ttl_s=TTL_S)
        return name

    def names(self) -> set[str]:
        found = self.server.client().list_queues(QueueNamePrefix=self.settings.queue_prefix).get("QueueUrls", [])
        return {url.rsplit("/", 1)[-1] for url in found} - {self.settings.queue_prefix + "tasks"}

    def subscribed(self, kind: Kind) -> list[str]:
        found = self.server.client("sns").list_subscriptions_by_topic(TopicArn=self.topic_arn(kind))
        return [each["Endpoint"].rsplit(":", 1)[-1] for each in found["Subscriptions"]]

    def tags(self, name: str) -> dict[str, str]:
        client = self.server.client()
        tags: dict[str, str] = client.list_queue_tags(QueueUrl=client.get_queue_url(QueueName=name)["QueueUrl"])["Tags"]
        return tags


@pytest.fixture
def place(aws_server: AwsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name, value in aws_server.env.items():
        monkeypatch.setenv(name, value)
    clients.forget_clients()
    prefix = f"q{secrets.token_hex(4)}-"
    aws_server.make_queue(f"{prefix}tasks", dlq=False)
    for topic in ("celeryev", "pidbox"):
        aws_server.client("sns").create_topic(Name=prefix + topic)
    yield Place(aws_server, Settings(queue_prefix=prefix, topic_arn_prefix=TOPIC_ARN_PREFIX, poll_wait_s=1))
    owned().close()
    owned.cache_clear()
    aws_server.repair()
    clients.forget_clients()


@pytest.fixture
def owner() -> Iterator[OwnedQueues]:
    made = OwnedQueues()
    yield made
    made.close()


# --- an owner's queues ---


@pytest.mark.parametrize("kind", list(Kind))
def test_a_queue_is_made_once_with_its_subscription_and_its_claim_and_removed_at_the_end(
    place: Place, owner: OwnedQueues, kind: Kind
) -> None:
    before = place.server.counts()
    name = place.open(owner, kind)
    url = owner.open(name, kind, place.topic_arn(kind), ttl_s=TTL_S)
    assert url == owner.url(name)
    made = place.server.counts() - before
    assert made[f"CreateQueue {name}"] == 1
    tags = place.tags(name)
    assert tags["purpose"] == kind.value
    assert time.time() + TTL_S - 60 < int(tags[UNTIL_TAG]) <= time.time() + TTL_S
    if kind.exchange is not None:
        assert place.subscribed(kind) == [name]
    owner.close()
    assert place.names() == set()
    if kind.exchange is not None:
        assert place.subscribed(kind) == []
    with pytest.raises(PipelineError, match="ending"):
        owner.open(place.name(kind), kind, None, ttl_s=TTL_S)


def test_only_its_topic_may_write_to_it_and_what_is_unread_is_gone_in_a_minute(
    place: Place, owner: OwnedQueues
) -> None:
    name = place.open(owner, Kind.CONTROL)
    client = place.server.client()
    url = client.get_queue_url(QueueName=name)["QueueUrl"]
    attributes = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert attributes["MessageRetentionPeriod"] == "60"
    assert int(attributes["VisibilityTimeout"]) > max(claimed_queue.RETENTION_S.values())
    assert place.topic_arn(Kind.CONTROL) in attributes["Policy"]
    assert f":{name}" in attributes["Policy"]


def test_threads_that_open_the_same_queue_make_it_once(place: Place, owner: OwnedQueues) -> None:
    name = place.name(Kind.REPLY)
    before = place.server.counts()
    start = threading.Barrier(8)

    def work() -> None:
        start.wait(10)
        owner.open(name, Kind.REPLY, None, ttl_s=TTL_S)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (place.server.counts() - before)[f"CreateQueue {name}"] == 1


def test_renewing_moves_the_claim_on_and_removes_what_was_released(
    place: Place, owner: OwnedQueues, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, released = place.open(owner, Kind.CONTROL), place.open(owner, Kind.EVENTS)
    before = int(place.tags(kept)[UNTIL_TAG])
    owner.release(released)
    later = time.time() + 500
    monkeypatch.setattr(claimed_queue.time, "time", lambda: later)
    owner.renew()
    assert int(place.tags(kept)[UNTIL_TAG]) >= before + 499
    assert place.names() == {kept}
    assert place.subscribed(Kind.EVENTS) == []


def test_a_queue_that_somebody_deleted_is_made_again(
    place: Place, owner: OwnedQueues, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = place.open(owner, Kind.CONTROL)
    client = place.server.client()
    client.delete_queue(QueueUrl=owner.url(name))
    owner.renew()  # too early: the name is barred for a minute
    assert place.names() == set()
    assert "QueueDeletedRecently" in caplog.text
    place.server.forget_deletions()
    owner.renew()
    assert place.names() == {name}
    assert place.subscribed(Kind.CONTROL) == [name]


def test_a_renewal_that_fails_is_tried_again_and_loses_nothing(place: Place, owner: OwnedQueues) -> None:
    name = place.open(owner, Kind.CONTROL)
    place.server.fault("TagQueue", times=1, status=400, code="AccessDenied")
    owner.renew()
    owner.renew()
    assert place.server.counts()[f"TagQueue {name}"] >= 2
    assert place.names() == {name}


def test_a_forked_child_leaves_its_parent_s_queues_alone(place: Place, owner: OwnedQueues) -> None:
    name = place.open(owner, Kind.CONTROL)
    child = os.fork()
    if child == 0:
        owner.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert place.names() == {name}


def test_a_process_that_ends_removes_its_queues_and_one_that_is_killed_does_not(place: Place) -> None:
    code = (
        "import sys; from pipeline.sqs.monitoring.process_queues import owned;"
        "from pipeline.sqs.monitoring.names import Kind;"
        f"[owned().open(name, Kind.REPLY, None, ttl_s={TTL_S}) for name in sys.argv[1:2]];"
        "print('made', flush=True); sys.stdin.read()"
    )
    for how, left in (("end", 0), ("kill", 1)):
        name = place.name(Kind.REPLY)
        with subprocess.Popen(
            [sys.executable, "-c", code, name], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"made\n"
            assert name in place.names()
            if how == "kill":
                process.kill()
        assert len(place.names()) == left


# --- the sweep ---


def test_a_sweep_removes_what_is_not_claimed_any_more_and_nothing_else(place: Place, owner: OwnedQueues) -> None:
    mine = {kind: place.open(owner, kind) for kind in Kind}
    client, prefix = place.server.client(), place.settings.queue_prefix
    foreign = prefix + names.control_queue()  # of the right name, but it carries no claim
    client.create_queue(QueueName=foreign)
    longer = f"{prefix}other-{names.control_queue()}"  # of a stack whose prefix begins with ours
    client.create_queue(QueueName=longer, tags={UNTIL_TAG: "0", claimed_queue.APP_TAG: claimed_queue.APP})

    swept = sweep(place.settings)
    assert (swept.removed, set(swept.claimed), swept.unknown) == ([], set(mine.values()), [foreign])
    swept = sweep(place.settings, now=time.time() + TTL_S + 1)
    assert (set(swept.removed), swept.claimed, swept.unknown) == (set(mine.values()), [], [foreign])
    assert place.names() == {foreign, longer}
    assert place.subscribed(Kind.CONTROL) == place.subscribed(Kind.EVENTS) == []
    assert f"3 removed, 0 in use, 1 left alone because they carry no claim: {foreign}" in str(swept)


def test_a_sweep_removes_a_subscription_whose_queue_is_gone(place: Place, owner: OwnedQueues) -> None:
    name = place.open(owner, Kind.CONTROL)
    place.server.client().delete_queue(QueueUrl=owner.url(name))
    assert sweep(place.settings).removed == [name]
    assert place.subscribed(Kind.CONTROL) == []


def test_a_sweep_without_list_queues_sees_what_is_subscribed_and_says_what_it_did_not_see(
    place: Place, owner: OwnedQueues
) -> None:
    mine = {kind: place.open(owner, kind) for kind in Kind}
    place.server.fault("ListQueues", times=-1, status=400, code="AccessDenied")
    swept = sweep(place.settings, now=time.time() + TTL_S + 1)
    place.server.repair()
    assert set(swept.removed) == {mine[Kind.CONTROL], mine[Kind.EVENTS]}
    assert "sqs:ListQueues is denied" in str(swept)
    assert place.names() == {mine[Kind.REPLY]}


def test_two_sweeps_at_once_do_not_mind_each_other(place: Place, owner: OwnedQueues) -> None:
    for _ in range(5):
        place.open(owner, Kind.CONTROL)
    found: list[Any] = []
    later = time.time() + TTL_S + 1
    threads = [threading.Thread(target=lambda: found.append(sweep(place.settings, now=later))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 2  # neither raised
    assert place.names() == set()


def test_a_sweep_that_is_not_allowed_says_so(place: Place) -> None:
    place.server.fault("ListSubscriptionsByTopic", times=-1, status=403, code="AuthorizationError")
    with pytest.raises(PipelineError, match=r"sweep could not be done.*AuthorizationError"):
        sweep(place.settings)


# --- the channel ---


def test_a_topic_that_is_not_there_is_named_by_each_who_needs_it(place: Place, owner: OwnedQueues) -> None:
    wrong = place.settings.model_copy(update={"topic_arn_prefix": "arn:aws:sns:us-east-1:999999999999:"})
    says = r"topic arn:aws:sns:us-east-1:999999999999:\S+ does not exist: .* TOPIC_ARN_PREFIX"
    with pytest.raises(ConfigError, match=says):
        sweep(wrong)
    with pytest.raises(ConfigError, match=says):
        make_app(wrong).control.broadcast("ping")
    name = place.name(Kind.CONTROL)
    with pytest.raises(ConfigError, match=says):
        owner.open(name, Kind.CONTROL, names.topics(wrong)[names.CONTROL_EXCHANGE]["arn"], ttl_s=TTL_S)
    assert name not in place.names()


def test_a_misspelt_task_queue_is_an_error_and_makes_no_queue(place: Place) -> None:
    app = make_app(place.settings)
    with (
        app.producer_pool.acquire(block=True) as producer,
        pytest.raises(UndefinedQueueException, match="tsaks does not exist"),
    ):
        producer.publish({}, routing_key="tsaks", retry=False)
    with app.connection() as connection, pytest.raises(UndefinedQueueException, match="tsaks does not exist"):
        connection.default_channel.queue_declare("tsaks")
    assert place.names() == set()
    app.close()


def test_nobody_makes_a_queue_by_writing_to_it(place: Place) -> None:
    app = make_app(place.settings)
    reply = names.reply_queue(secrets.token_hex(10))
    with app.producer_pool.acquire(block=True) as producer:
        producer.publish({}, exchange=names.REPLY_EXCHANGE, routing_key=reply.removesuffix("-reply-pidbox"))
    assert place.names() == set()  # and no error either: who asked is gone
    app.close()


def test_a_reply_that_cannot_be_sent_is_dropped_at_once(place: Place, owner: OwnedQueues) -> None:
    app, name = make_app(place.settings), place.open(owner, Kind.REPLY)
    place.server.fault("SendMessage", times=-1, status=400, code="KmsThrottled", queue=name)
    reply_id = name.removeprefix(place.settings.queue_prefix).removesuffix("-reply-pidbox")
    with app.producer_pool.acquire(block=True) as producer:
        producer.publish({}, exchange=names.REPLY_EXCHANGE, routing_key=reply_id)
    assert place.server.counts()[f"SendMessage {name}"] == 1
    app.close()


def test_without_topics_remote_control_and_events_say_that_they_are_off(place: Place) -> None:
    app = make_app(Settings(queue_prefix=place.settings.queue_prefix))
    with pytest.raises(ConfigError, match="TOPIC_ARN_PREFIX"):
        app.control.ping(timeout=1)
    with app.connection() as connection, pytest.raises(ConfigError, match="TOPIC_ARN_PREFIX"):
        next(app.events.Receiver(connection).itercapture(timeout=1))
    assert place.names() == set()
    assert not app.conf.worker_enable_remote_control
    app.close()


# --- events ---


def test_events_without_a_listener_cost_one_publish_and_fill_no_queue(place: Place) -> None:
    app = make_app(place.settings.model_copy(update={"events_interval_s": 60.0}))
    before = place.server.counts()
    with app.connection() as connection, app.events.Dispatcher(connection, hostname="w@test") as dispatcher:
        for number in range(200):
            dispatcher.send("task-started", uuid=str(number))
    made = place.server.counts() - before
    assert {name: times for name, times in made.items() if name[0].isupper()} == {
        f"Publish {place.settings.queue_prefix}celeryev": 1
    }
    app.close()


def test_every_listener_receives_every_event_in_order(place: Place) -> None:
    app = make_app(place.settings)
    seen: list[list[str]] = [[], []]
    with app.connection() as first, app.connection() as second:
        receivers = [
            app.events.Receiver(connection, handlers={"task-started": lambda event, got=got: got.append(event["uuid"])})
            for connection, got in zip((first, second), seen, strict=True)
        ]
        captures = [receiver.itercapture(limit=None, timeout=None, wakeup=False) for receiver in receivers]
        threads = [threading.Thread(target=next, args=(capture,), daemon=True) for capture in captures]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(place.subscribed(Kind.EVENTS)) == 2, "both listen")
        with app.connection() as third, app.events.Dispatcher(third, hostname="w@test") as dispatcher:
            for number in range(50):
                dispatcher.send("task-started", uuid=str(number))
        for thread in threads:
            thread.join(20)
        for capture in captures:
            capture.close()
    assert seen[0] == seen[1] == [str(number) for number in range(50)]
    app.close()


def test_events_off_publish_nothing(place: Place) -> None:
    app = make_app(place.settings.model_copy(update={"events": "off"}))
    before = place.server.counts()
    with app.connection() as connection, app.events.Dispatcher(connection, hostname="w@test") as dispatcher:
        dispatcher.send("worker-online", freq=2)
        dispatcher.send("task-started", uuid="1")
    assert not {name for name in place.server.counts() - before if name.startswith("Publish")}
    app.close()

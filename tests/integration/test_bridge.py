"""The bridge against a server: every outcome, and what it does to the message."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from functools import partial

import pytest

from bridge.consumer import Bridge
from bridge.disposition import EFFECTS, EventOutcome
from pipeline.aws import clients
from pipeline.aws.backoff import Backoff
from pipeline.celery import make_app
from pipeline.core.errors import ConfigError
from pipeline.core.settings import Settings
from pipeline.enqueue import Assignment, NotEnqueued, assign
from pipeline.local.stack import INPUT_BUCKET
from tests.support.queues import depth, headers, take_all, url
from tests.unit.test_s3_event import s3_record, sns_wrapped

EVENTS, TASKS, DEAD = "local-events", "local-tasks", "local-events-dlq"


@pytest.fixture
def bridge(stack: Settings) -> Bridge:
    both = stack.model_copy(update={"input_bucket": f"{INPUT_BUCKET}, in"})
    return Bridge(both, clients.sqs(), partial(assign, app=make_app(both)))


def send(body: str) -> None:
    clients.sqs().send_message(QueueUrl=url(EVENTS), MessageBody=body)


def upload(key: str) -> str:
    return clients.s3().put_object(Bucket=INPUT_BUCKET, Key=key, Body=b"x")["ETag"].strip('"')


def test_every_outcome_has_an_effect() -> None:
    assert set(EFFECTS) == set(EventOutcome)


def test_an_upload_becomes_a_chain_and_its_event_is_deleted(bridge: Bridge) -> None:
    etag = upload("räksmörgås & co/a+b 100%.jpg")
    assert bridge.step() == [EventOutcome.DISPATCHED]
    (message,) = take_all(TASKS)
    assert headers(message)["task"] == "tasks.resize"
    assert headers(message)["argsrepr"] == f"{INPUT_BUCKET}/räksmörgås & co/a+b 100%.jpg"
    properties = json.loads(message["Body"])
    assert properties["content-type"] == "application/json"
    (source,), _, embed = decoded_body(message)
    assert source["key"] == "räksmörgås & co/a+b 100%.jpg"
    assert source["etag"] == etag
    assert [step["task"] for step in embed["chain"]] == ["tasks.thumbnail"]
    assert depth(EVENTS) == (0, 0)


def decoded_body(
    message: dict[str, str],
) -> tuple[list[dict[str, str]], dict[str, str], dict[str, list[dict[str, str]]]]:
    envelope = json.loads(message["Body"])
    body = envelope["body"]
    if envelope["properties"]["body_encoding"] == "base64":
        import base64

        body = base64.b64decode(body).decode()
    args, kwargs, embed = json.loads(body)
    return args, kwargs, embed


def test_ten_events_are_one_receive(bridge: Bridge) -> None:
    for n in range(12):
        upload(f"{n}.jpg")
    assert bridge.step() == [EventOutcome.DISPATCHED] * 10
    assert bridge.step() == [EventOutcome.DISPATCHED] * 2
    assert len(take_all(TASKS)) == 12
    assert depth(EVENTS) == (0, 0)


def test_a_message_with_several_records_publishes_what_is_due(bridge: Bridge) -> None:
    records = [s3_record("a.jpg"), s3_record("notes.txt"), s3_record("b.jpg"), s3_record("c.jpg", "ObjectRestore:Post")]
    send(json.dumps(sns_wrapped({"Records": records})))
    assert bridge.step() == [EventOutcome.DISPATCHED]
    assert [headers(message)["argsrepr"] for message in take_all(TASKS)] == ["in/a.jpg", "in/b.jpg"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"Records": [s3_record("notes.txt")]}, "s3://in/notes.txt: its key ends in none of SUFFIXES"),
        ({"Records": [s3_record("folder/", size=0)]}, "it is a folder"),
        ({"Records": [s3_record("a.jpg", "ObjectTagging:Put")]}, "ObjectTagging:Put needs no work"),
        ({"Records": []}, "an event without records"),
        ({"Event": "s3:TestEvent", "Bucket": "in"}, "the bucket's notification is set up"),
    ],
)
def test_what_needs_no_work_is_skipped_for_a_reason_and_deleted(
    bridge: Bridge, caplog: pytest.LogCaptureFixture, body: object, says: str
) -> None:
    send(json.dumps(body))
    with caplog.at_level("INFO"):
        assert bridge.step() == [EventOutcome.SKIPPED]
    assert says in caplog.text
    assert [depth(name) for name in (EVENTS, TASKS, DEAD)] == [(0, 0)] * 3


@pytest.mark.parametrize("body", ["hello", '{"task": "tasks.resize"}', json.dumps({"Records": [{}]})])
def test_what_can_t_be_understood_goes_to_the_dead_letter_queue_with_the_reason(bridge: Bridge, body: str) -> None:
    send(body)
    assert bridge.step() == [EventOutcome.REJECTED]
    assert depth(EVENTS) == (0, 0)
    (dead,) = take_all(DEAD)
    assert dead["Body"] == body
    assert dead["MessageAttributes"]["reason"]["StringValue"]


def test_what_is_not_published_leaves_its_event_and_spares_the_others(stack: Settings) -> None:
    published: list[str] = []

    def publish(due: Sequence[Assignment]) -> None:
        sources = [each.source for each in due]
        published.extend(source.key for source in sources if source.key != "bad.jpg")
        raise NotEnqueued([source for source in sources if source.key == "bad.jpg"], "the broker refuses it")

    for key in ("a.jpg", "bad.jpg", "b.jpg"):
        upload(key)
    outcomes = Bridge(stack, clients.sqs(), publish).step()
    assert sorted(outcome.value for outcome in outcomes) == ["dispatched", "dispatched", "retry"]
    assert sorted(published) == ["a.jpg", "b.jpg"]
    assert depth(EVENTS) == (0, 1)  # in flight until its visibility time-out: nothing is lost


def test_an_unexpected_error_while_publishing_leaves_every_event_that_was_due(stack: Settings) -> None:
    def publish(_: Sequence[Assignment]) -> None:
        raise OSError("the broker is away")

    upload("a.jpg")
    send(json.dumps({"Records": [s3_record("notes/", bucket=INPUT_BUCKET)]}))
    outcomes = Bridge(stack, clients.sqs(), publish).step()
    assert sorted(outcome.value for outcome in outcomes) == ["retry", "skipped"]
    assert depth(EVENTS) == (0, 1)


def test_a_dead_letter_that_can_t_be_sent_stays_where_it_is(
    bridge: Bridge, stack: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    send("hello")
    clients.sqs().delete_queue(QueueUrl=url(DEAD))
    assert bridge.step() == [EventOutcome.REJECTED]
    assert depth(EVENTS) == (0, 1)
    assert "could not dead-letter" in caplog.text


def test_a_missing_queue_is_said_at_the_start(stack: Settings) -> None:
    clients.sqs().delete_queue(QueueUrl=url(EVENTS))
    with pytest.raises(ConfigError, match=r"queue local-events does not exist: .*QUEUE_PREFIX"):
        Bridge(stack, clients.sqs(), lambda _: None)


def test_it_rides_out_an_outage_and_says_when_it_began_and_ended(
    stack: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The queue is away for a while: one line at the start, one at the end, and the event is processed."""
    monkeypatch.setattr("bridge.consumer.OUTAGE_BACKOFF", Backoff(0.001, 0.01))
    done = threading.Event()
    bridge = Bridge(stack, clients.sqs(), lambda _: done.set())
    failures = iter([True, True, True])

    class Flaky:
        exceptions = clients.sqs().exceptions

        def __getattr__(self, name: str) -> object:
            if name == "receive_message" and next(failures, False):
                raise clients.sqs().exceptions.ClientError({"Error": {"Code": "ServiceUnavailable"}}, "ReceiveMessage")
            return getattr(clients.sqs(), name)

    monkeypatch.setattr(bridge._queue, "_sqs", Flaky())
    upload("a.jpg")
    with caplog.at_level("INFO"):
        thread = threading.Thread(target=bridge.run)
        thread.start()
        assert done.wait(20)
        bridge.stop()
        thread.join(20)
    assert not thread.is_alive()
    actions = [record.__dict__.get("action") for record in caplog.records]
    assert actions.count("sqs_unavailable") == 1
    assert actions.count("sqs_recovered") == 1
    assert depth(EVENTS) == (0, 0)

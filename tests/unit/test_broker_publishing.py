from __future__ import annotations

import inspect
import json
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from celery import Celery
from kombu import messaging, pools
from kombu.transport import base, virtual

from pipeline.aws import clients
from pipeline.celery import make_app
from pipeline.core.settings import Settings
from pipeline.sqs.transport import publishing
from pipeline.sqs.transport.publishing import MAX_BATCH_BYTES, PublishError, active_producer, batched
from pipeline.sqs.transport.transport import Transport

URL = "http://127.0.0.1:9/123456789012/p-tasks"


class FakeSqs:
    """Takes everything, unless told to refuse entries by their task's first argument."""

    class exceptions:  # noqa: N801 - as a client has it
        QueueDoesNotExist = KeyError

    def __init__(self) -> None:
        self.calls: list[list[dict[str, Any]]] = []
        self.single: list[dict[str, Any]] = []
        self.refuse: dict[str, int] = {}
        self.sender_fault = False
        self.error: Exception | None = None

    def get_queue_url(self, **_: Any) -> dict[str, Any]:
        return {"QueueUrl": URL}

    def get_queue_attributes(self, **_: Any) -> dict[str, Any]:
        return {"Attributes": {"ApproximateNumberOfMessages": "0"}}

    def send_message(self, **request: Any) -> dict[str, Any]:
        self.single.append(request)
        return {}

    def send_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        if self.error is not None:
            raise self.error
        self.calls.append(Entries)
        failed = []
        for entry in Entries:
            name = argument(entry)
            if self.refuse.get(name, 0):
                self.refuse[name] -= 1
                failed.append({"Id": entry["Id"], "Code": "InternalError", "SenderFault": self.sender_fault})
        return {"Failed": failed}


def argument(entry: dict[str, Any]) -> str:
    name: str = json.loads(json.loads(entry["MessageBody"])["body"])[0][0]
    return name


@pytest.fixture
def sqs(monkeypatch: pytest.MonkeyPatch) -> FakeSqs:
    made = FakeSqs()
    monkeypatch.setattr(clients, "sqs", lambda **_: made)
    monkeypatch.setattr(publishing, "MAX_TRIES", 3)
    monkeypatch.setattr("pipeline.sqs.transport.publishing.time.sleep", lambda _: None)
    return made


@pytest.fixture
def app(sqs: FakeSqs) -> Iterator[Celery]:
    pools.reset()  # kombu keeps them for the process, and tests share their parameters
    made = make_app(Settings(queue_prefix="p-"))
    yield made
    made.close()
    pools.reset()


def send(app: Celery, *names: str, **options: Any) -> list[str]:
    return [app.send_task("t", [name], **options).id for name in names]


def test_sends_in_tens_and_the_rest_at_the_end(app: Celery, sqs: FakeSqs) -> None:
    names = [f"n{n}" for n in range(23)]
    with batched(app):
        send(app, *names[:20])
        assert len(sqs.calls) == 2
        send(app, *names[20:])
        assert len(sqs.calls) == 2
    assert [[argument(entry) for entry in call] for call in sqs.calls] == [names[:10], names[10:20], names[20:]]
    assert sqs.single == []


def test_outside_of_a_block_each_is_sent_at_once(app: Celery, sqs: FakeSqs) -> None:
    send(app, "a", "b")
    assert len(sqs.single) == 2
    assert sqs.calls == []


def test_bodies_are_plain_text(app: Celery, sqs: FakeSqs) -> None:
    send(app, "café")
    body = json.loads(sqs.single[0]["MessageBody"])
    assert json.loads(body["body"])[0] == ["café"]
    assert body["properties"]["body_encoding"] == "utf-8"


def test_a_batch_stays_below_the_byte_limit(app: Celery, sqs: FakeSqs) -> None:
    with batched(app):
        send(app, *(str(n) * (MAX_BATCH_BYTES // 3) for n in range(7)))
    assert len(sqs.calls) >= 3
    for call in sqs.calls:
        assert sum(len(entry["MessageBody"].encode()) for entry in call) <= MAX_BATCH_BYTES


def test_refused_entries_alone_are_sent_again(app: Celery, sqs: FakeSqs) -> None:
    sqs.refuse = {"b": 2}
    with batched(app):
        send(app, "a", "b", "c")
    assert [[argument(entry) for entry in call] for call in sqs.calls] == [["a", "b", "c"], ["b"], ["b"]]


def test_what_stays_refused_is_named_and_all_others_are_sent(app: Celery, sqs: FakeSqs) -> None:
    sqs.refuse = {"n3": 99}
    with pytest.raises(PublishError, match="1 messages could not be published: t\\[") as caught, batched(app):
        ids = send(app, *(f"n{n}" for n in range(25)))
    assert [entry.task_id for entry in caught.value.unsent] == [ids[3]]
    assert caught.value.root_ids == {ids[3]}
    sent = {argument(entry) for call in sqs.calls for entry in call}
    assert sent == {f"n{n}" for n in range(25)}


def test_what_cannot_succeed_is_not_tried_again(app: Celery, sqs: FakeSqs) -> None:
    sqs.refuse, sqs.sender_fault = {"a": 99}, True
    with pytest.raises(PublishError), batched(app):
        send(app, "a", "b")
    assert len(sqs.calls) == 1


def test_an_unreachable_queue_ends_the_block_and_names_what_is_not_sent(app: Celery, sqs: FakeSqs) -> None:
    sqs.error = EndpointConnectionError(endpoint_url=URL)
    with pytest.raises(PublishError) as caught, batched(app):
        send(app, *(f"n{n}" for n in range(12)))
    assert len(caught.value.unsent) == 10
    assert isinstance(caught.value.__cause__, EndpointConnectionError)


def test_a_chain_is_known_by_its_first_task(app: Celery, sqs: FakeSqs) -> None:
    sqs.refuse = {"x": 99}
    with pytest.raises(PublishError) as caught, batched(app):
        result = (app.signature("t", ["x"]) | app.signature("u", ["y"])).apply_async()
    assert caught.value.root_ids == {result.parent.id}
    assert caught.value.unsent[0].task == "t"


def test_an_exception_inside_drops_what_is_not_sent(app: Celery, sqs: FakeSqs) -> None:
    def fail_in_the_middle() -> None:
        with batched(app):
            send(app, *(f"n{n}" for n in range(12)))
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fail_in_the_middle()
    assert [len(call) for call in sqs.calls] == [10]
    send(app, "after")
    assert len(sqs.single) == 1


def test_nested_blocks_are_one(app: Celery, sqs: FakeSqs) -> None:
    with batched(app):
        send(app, "a")
        with batched(app):
            send(app, "b")
        assert sqs.calls == []
    assert [len(call) for call in sqs.calls] == [2]


def test_a_block_is_of_one_app(app: Celery, sqs: FakeSqs) -> None:
    other = make_app(Settings(queue_prefix="p-", poll_wait_s=1))
    with batched(app):
        assert active_producer(other) is None
        send(other, "b")
        assert len(sqs.single) == 1
    other.close()


def test_a_single_publish_that_fails_names_its_task(app: Celery, sqs: FakeSqs, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url=URL)

    monkeypatch.setattr(sqs, "send_message", refuse)
    with pytest.raises(PublishError) as caught:
        send(app, "a")
    assert caught.value.unsent[0].task == "t"


def test_a_look_up_that_fails_names_the_task_like_any_other_request(
    app: Celery, sqs: FakeSqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the first request of a process, so it is the first to meet an expired token."""

    def refuse(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "ExpiredToken"}}, "GetQueueUrl")

    with monkeypatch.context() as patch:
        patch.setattr(sqs, "get_queue_url", refuse)
        with pytest.raises(PublishError) as caught:
            send(app, "a")
        assert caught.value.unsent[0].task == "t"
        with pytest.raises(PublishError) as caught, batched(app):
            send(app, "b")
        assert caught.value.unsent[0].task == "t"
    assert (sqs.single, sqs.calls) == ([], [])
    send(app, "c")
    assert len(sqs.single) == 1


def test_the_error_survives_the_way_from_a_pool_process_to_its_worker(app: Celery, sqs: FakeSqs) -> None:
    sqs.refuse = {"a": 99}
    with pytest.raises(PublishError) as caught, batched(app):
        send(app, "a", "b")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.unsent) == (str(caught.value), caught.value.unsent)


def test_a_countdown_is_the_delay_of_its_entry(app: Celery, sqs: FakeSqs) -> None:
    with batched(app):
        send(app, "a", countdown=30)
        send(app, "b")
    assert [entry.get("DelaySeconds") for entry in sqs.calls[0]] == [30, None]


def test_the_places_in_kombu_and_celery_that_publishing_is_fastened_to() -> None:
    assert Transport.implements.batch_publish
    assert not base.default_transport_capabilities.batch_publish
    source = inspect.getsource(messaging._ProducerBatchState)
    for used in ("create_publish_batch", "supports_batch_publish", "session.publish(", "session.flush()",
                 "session.discard()", "session.close()", "session.channel"):  # fmt: skip
        assert used in source
    assert list(inspect.signature(messaging.Producer.batch).parameters) == ["self", "max_size"]
    assert "self._put(routing_key, message, **kwargs)" in inspect.getsource(virtual.Channel.basic_publish)
    assert "with self.producer_or_acquire(producer) as P:" in inspect.getsource(Celery.send_task)

"""Which objects are not in the queue when publishing fails: exactly those are named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from kombu import pools

from pipeline.aws import clients
from pipeline.celery import PipelineApp, make_app
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.enqueue import NotEnqueued, process_many
from tests.unit.test_broker_publishing import URL, FakeSqs, argument


class KeyedSqs(FakeSqs):
    """Refuses by the key of the source that a chain begins with; may stop to work after some calls."""

    works_for = 99

    def send_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        if len(self.calls) == self.works_for:
            raise EndpointConnectionError(endpoint_url=URL)
        self.calls.append(Entries)
        return {
            "Failed": [
                {"Id": entry["Id"], "Code": "InternalError", "SenderFault": True}
                for entry in Entries
                if keyed(entry) in self.refuse
            ]
        }


def keyed(entry: dict[str, Any]) -> str:
    source: Any = argument(entry)
    key: str = source["key"]
    return key


@pytest.fixture
def sqs(monkeypatch: pytest.MonkeyPatch) -> KeyedSqs:
    made = KeyedSqs()
    monkeypatch.setattr(clients, "sqs", lambda **_: made)
    return made


@pytest.fixture
def app(sqs: KeyedSqs) -> Iterator[PipelineApp]:
    pools.reset()
    made = make_app(Settings(queue_prefix="p-"))
    yield made
    made.close()
    pools.reset()


def sources(count: int, pad: int = 0) -> list[Source]:
    return [Source("in", f"{n}.jpg", event_time="x" * pad) for n in range(count)]


def sent(sqs: KeyedSqs) -> list[str]:
    return [keyed(entry) for call in sqs.calls for entry in call]


def test_all_are_sent_in_tens(app: PipelineApp, sqs: KeyedSqs) -> None:
    process_many(iter(sources(25)), app=app)
    assert [len(call) for call in sqs.calls] == [10, 10, 5]
    assert sent(sqs) == [source.key for source in sources(25)]


def test_refused_ones_are_named(app: PipelineApp, sqs: KeyedSqs) -> None:
    sqs.refuse = {"3.jpg": 1, "24.jpg": 1}
    with pytest.raises(NotEnqueued, match="2 objects were not enqueued") as caught:
        process_many(sources(25), app=app)
    assert [source.key for source in caught.value.sources] == ["3.jpg", "24.jpg"]


@pytest.mark.parametrize("works_for", [0, 1, 2])
@pytest.mark.parametrize("pad", [0, 200_000])  # full batches, and batches that the byte limit ends
def test_when_the_queue_cannot_be_reached_all_that_are_not_sent_are_named(
    app: PipelineApp, sqs: KeyedSqs, works_for: int, pad: int
) -> None:
    sqs.works_for = works_for
    with pytest.raises(NotEnqueued) as caught:
        process_many(iter(sources(25, pad)), app=app)
    named = [source.key for source in caught.value.sources]
    assert sorted(named + sent(sqs)) == sorted(source.key for source in sources(25, pad))
    assert len(sqs.calls) == works_for

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from pipeline.aws.backoff import Backoff
from pipeline.sqs.transport import batcher
from pipeline.sqs.transport.batcher import Batcher, BatchFailure, failed_entries
from tests.support.waiting import wait_until


class Sender:
    """Records the batches that it is given; fails what the test says."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.failing: dict[str, int] = {}  # item: how often
        self.final: set[str] = set()
        self.lost: list[BatchFailure[str]] = []
        self.errors: list[Exception] = []  # what the next calls raise
        self.gate = threading.Event()
        self.gate.set()
        self.batcher = Batcher("test", send=self.send, give_up=self.lost.append, key=lambda item: item[0])

    def send(self, items: Sequence[str]) -> list[BatchFailure[str]]:
        self.gate.wait(10)
        self.batches.append(list(items))
        if self.errors:
            raise self.errors.pop()
        failures = []
        for item in items:
            if item in self.final or self.failing.get(item, 0) > 0:
                self.failing[item] = self.failing.get(item, 0) - 1
                failures.append(BatchFailure(item, "refused", final=item in self.final))
        return failures


@pytest.fixture
def sender(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sender]:
    monkeypatch.setattr(batcher, "BACKOFF", Backoff(0.01, 0.01))
    made = Sender()
    yield made
    made.gate.set()
    made.batcher.close()


def test_sends_ten_at_once_and_the_rest_after_a_moment(sender: Sender) -> None:
    items = [f"a{n}" for n in range(23)]
    for item in items:
        sender.batcher.put(item)
    wait_until(lambda: not len(sender.batcher), "all is sent")
    assert [item for batch in sender.batches for item in batch] == items
    assert max(map(len, sender.batches)) == 10
    assert len(sender.batches) <= 4


def test_put_does_not_wait_for_a_call_that_hangs(sender: Sender) -> None:
    sender.gate.clear()
    for n in range(50):
        sender.batcher.put(f"a{n}")
    assert len(sender.batcher) == 50
    sender.gate.set()
    assert sender.batcher.flush(10)
    assert sum(map(len, sender.batches)) == 50


def test_a_batch_is_of_one_key(sender: Sender) -> None:
    for n in range(6):
        sender.batcher.put(f"a{n}")
        sender.batcher.put(f"b{n}")
    assert sender.batcher.flush(10)
    assert sorted(sender.batches) == [[f"a{n}" for n in range(6)], [f"b{n}" for n in range(6)]]


def test_only_what_failed_is_sent_again(sender: Sender) -> None:
    sender.failing = {"a1": 2}
    for n in range(3):
        sender.batcher.put(f"a{n}")
    wait_until(lambda: not len(sender.batcher), "all is sent")
    assert sender.batches == [["a0", "a1", "a2"], ["a1"], ["a1"]]
    assert sender.lost == []


def test_what_keeps_failing_is_given_up_with_the_reason(sender: Sender) -> None:
    sender.failing = {"a0": 1000}
    sender.batcher.put("a0")
    wait_until(lambda: sender.lost, "it is given up")
    assert sender.lost == [BatchFailure("a0", "refused")]
    assert len(sender.batches) == batcher.MAX_TRIES
    assert len(sender.batcher) == 0


def test_what_cannot_succeed_is_given_up_at_once(sender: Sender) -> None:
    sender.final = {"a0"}
    sender.batcher.put("a0")
    sender.batcher.put("a1")
    wait_until(lambda: sender.lost, "it is given up")
    assert sender.batches == [["a0", "a1"]]


def test_an_exception_fails_the_whole_batch_and_the_thread_lives_on(sender: Sender) -> None:
    sender.errors = [RuntimeError("no network")] * 2
    sender.batcher.put("a0")
    wait_until(lambda: not len(sender.batcher), "it is sent in the end")
    assert sender.batches == [["a0"]] * 3
    assert sender.lost == []


def test_close_sends_what_is_left_and_gives_up_what_it_cannot(sender: Sender) -> None:
    sender.failing = {"a1": 1000}
    sender.batcher.put("a0")
    sender.batcher.put("a1")
    sender.batcher.close(within_s=0.5)
    assert sender.batches[0] == ["a0", "a1"]
    assert [failure.item for failure in sender.lost] == ["a1"]
    sender.batcher.put("a2")  # late: not lost silently
    assert [failure.item for failure in sender.lost] == ["a1", "a2"]


def test_no_thread_is_left_when_there_is_nothing_to_send(sender: Sender) -> None:
    quick = Batcher("quick", send=sender.send, give_up=sender.lost.append, key=lambda item: item[0], idle_s=0.01)
    for item in ("a0", "a1"):  # the second one starts another
        quick.put(item)
        wait_until(lambda: not [t for t in threading.enumerate() if t.name == "quick"], "its thread has ended")
    assert sender.batches == [["a0"], ["a1"]]


def test_reads_the_failed_entries_of_a_reply() -> None:
    reply: dict[str, Any] = {
        "Successful": [{"Id": "0"}],
        "Failed": [
            {"Id": "1", "Code": "ReceiptHandleIsInvalid", "SenderFault": True, "Message": "bad"},
            {"Id": "2", "Code": "InternalError", "SenderFault": False},
        ],
    }
    assert failed_entries(reply, ["a", "b", "c"]) == [
        BatchFailure("b", "ReceiptHandleIsInvalid: bad", final=True),
        BatchFailure("c", "InternalError", final=False),
    ]

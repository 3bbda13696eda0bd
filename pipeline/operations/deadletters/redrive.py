"""Redrives dead letters: by a message move task of SQS where possible; else by receiving, sending and deleting."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from pipeline.aws import clients, queues
from pipeline.aws.batches import MAX_ENTRIES, batches
from pipeline.aws.errors import code, status
from pipeline.core.errors import TransientError
from pipeline.operations.deadletters.letter import DeadLetter
from pipeline.operations.deadletters.queue import QUIET_S, DeadLetterQueue

#: Seconds between checks of SQS's move task.
LOOK_S = 1.0
#: SQS's limit for MaxNumberOfMessagesPerSecond.
MAX_PER_S = 500
#: Error codes of servers without message move tasks.
_UNSUPPORTED = ("InvalidAction", "NotImplemented", "UnknownOperationException", "UnsupportedOperation")


class Unsupported(Exception):
    """This server has no message move tasks."""


def move(dead: DeadLetterQueue, destination: str, per_s: float | None, on_progress: Callable[[int], None]) -> int:
    """Lets SQS move all messages, and waits; returns how many. An interruption cancels the task.

    Raises ``Unsupported`` and ``PipelineError``.
    """
    source_arn, destination_arn = (_arn(url) for url in (dead.url, destination))
    request: dict[str, Any] = {"SourceArn": source_arn, "DestinationArn": destination_arn}
    if per_s is not None:
        request["MaxNumberOfMessagesPerSecond"] = max(1, min(MAX_PER_S, round(per_s)))
    with queues.sqs_errors(dead.full_name, "StartMessageMoveTask"):
        try:
            handle = clients.sqs().start_message_move_task(**request)["TaskHandle"]
        except ClientError as exc:
            if code(exc).rpartition(".")[2] in _UNSUPPORTED or status(exc) in (404, 405, 500, 501):
                raise Unsupported from None
            raise
        try:
            moved = _wait(source_arn, on_progress)
        except BaseException:
            clients.sqs().cancel_message_move_task(TaskHandle=handle)
            raise
    deadline = time.monotonic() + QUIET_S
    while dead.count_unseen() and time.monotonic() < deadline:
        time.sleep(LOOK_S)  # SQS may still count moved messages
    return moved


def _wait(source_arn: str, on_progress: Callable[[int], None]) -> int:
    while True:
        (task, *_) = clients.sqs().list_message_move_tasks(SourceArn=source_arn)["Results"]
        moved = int(task.get("ApproximateNumberOfMessagesMoved", 0))
        on_progress(moved)
        status = task["Status"]
        if status == "COMPLETED":
            return moved
        if status in ("FAILED", "CANCELLED"):
            why = task.get("FailureReason", "it gives no reason")
            raise TransientError(f"SQS ended its move as {status.lower()}: {why}")
        time.sleep(LOOK_S)


def _arn(url: str) -> str:
    with queues.sqs_errors(url.rsplit("/", 1)[-1], "GetQueueAttributes"):
        found = clients.sqs().get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return found["Attributes"]["QueueArn"]


def send_each(
    dead: DeadLetterQueue,
    destination: str,
    wanted: Callable[[DeadLetter], bool],
    limit: int | None,
    per_s: float | None,
    on_progress: Callable[[int], None],
) -> int:
    """Receives, sends and deletes the wanted messages, in that order; returns how many. Raises ``PipelineError``.

    ``limit``: maximum number of received messages; None: all.
    """
    pace, moved = Pace(per_s), 0
    for batch in batches(filter(wanted, dead.receive(limit)), MAX_ENTRIES):
        pace.wait(len(batch))
        moved += dead.send_back(batch, destination)
        on_progress(moved)
    return moved


class Pace:
    """Limits the rate. ``wait(count)`` returns when ``count`` more may be done."""

    def __init__(self, per_s: float | None) -> None:
        self._per_s = per_s
        self._next = time.monotonic()

    def wait(self, count: int) -> None:
        if self._per_s is None:
            return
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = max(self._next, time.monotonic()) + count / self._per_s

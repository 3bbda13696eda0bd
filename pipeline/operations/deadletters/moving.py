"""Sends dead letters back: SQS does it where it can, in one task; else they are received, sent, deleted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from pipeline.aws import clients, queues
from pipeline.aws.errors import code, status
from pipeline.core.errors import TransientError
from pipeline.core.queue_names import MAX_ENTRIES
from pipeline.operations.deadletters.letter import DeadLetter
from pipeline.operations.deadletters.queue import DeadLetterQueue, Pace

#: Seconds between looks at SQS's own move.
LOOK_S = 1.0
#: SQS's limit for MaxNumberOfMessagesPerSecond.
MAX_PER_S = 500
#: What servers say that don't have message move tasks.
_UNSUPPORTED = ("InvalidAction", "NotImplemented", "UnknownOperationException", "UnsupportedOperation")


class Unsupported(Exception):
    """This server can't move messages by itself."""


def move(dead: DeadLetterQueue, destination: str, per_s: float | None, on_progress: Callable[[int], None]) -> int:
    """Has SQS move everything, and waits for the end; returns how many. A stop cancels what is left.

    Raises ``Unsupported`` and ``PipelineError``.
    """
    source_arn, destination_arn = (_arn(url) for url in (dead.url, destination))
    request: dict[str, Any] = {"SourceArn": source_arn, "DestinationArn": destination_arn}
    if per_s is not None:
        request["MaxNumberOfMessagesPerSecond"] = max(1, min(MAX_PER_S, round(per_s)))
    with queues.sqs_errors(dead.name, "StartMessageMoveTask"):
        try:
            handle = clients.sqs().start_message_move_task(**request)["TaskHandle"]
        except ClientError as exc:
            if code(exc).rpartition(".")[2] in _UNSUPPORTED or status(exc) in (404, 405, 500, 501):
                raise Unsupported from None
            raise
        try:
            return _wait(source_arn, on_progress)
        except BaseException:
            clients.sqs().cancel_message_move_task(TaskHandle=handle)
            raise


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
    limit: int,
    per_s: float | None,
    on_progress: Callable[[int], None],
) -> int:
    """Receives, sends and deletes, in that order, what is wanted; gives back the rest. Raises ``PipelineError``."""
    pace, moved = Pace(per_s), 0
    batch: list[DeadLetter] = []
    held: dict[str, str] = {}  # receipt handles by message id: to be given back, whatever happens

    def send() -> int:
        pace.wait(len(batch))
        done = dead.send_back(batch, destination)
        for letter in batch:
            held.pop(letter.message_id)
        batch.clear()
        return done

    try:
        for letter in dead.receive(limit):
            held[letter.message_id] = letter.handle
            if wanted(letter):
                batch.append(letter)
            if len(batch) == MAX_ENTRIES:
                moved += send()
                on_progress(moved)
        if batch:
            moved += send()
            on_progress(moved)
    finally:
        dead.give_back(held.values())
    return moved

"""Checks queues (long polls, visibility, delays, dead letters, batches) and topics that deliver to them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.aws import clients
from pipeline.operations.check.guarantee import Broken, Guarantee
from pipeline.operations.check.place import Place

#: Long enough to be distinguished from a poll that does not wait.
WAIT_S = 3


def received(url: str, wait_s: int = 0) -> list[dict[str, Any]]:
    answer: Any = clients.sqs().receive_message(
        QueueUrl=url, WaitTimeSeconds=wait_s, MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"]
    )
    found: list[dict[str, Any]] = answer.get("Messages", [])
    return found


def awaited(url: str, within_s: float, wanted: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
    """Waits for a message that is wanted; deletes others. Raises ``Broken``."""
    sqs = clients.sqs()
    deadline = time.monotonic() + within_s
    while True:
        for message in received(url, wait_s=1):
            if wanted(message):
                return message
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        if time.monotonic() > deadline:
            raise Broken(f"no message came within {within_s:g} s")


@contextmanager
def _during(url: str) -> Iterator[list[dict[str, Any]]]:
    """Runs a long poll during the body; the list has the received messages afterwards."""
    brought: list[dict[str, Any]] = []
    poll = threading.Thread(target=lambda: brought.extend(received(url, WAIT_S)), daemon=True)
    poll.start()
    yield brought
    poll.join()


def long_poll(place: Place) -> str:
    url, _ = place.queue("poll")
    started = time.monotonic()
    if received(url, wait_s=WAIT_S):
        raise Broken("a new queue has a message")
    if time.monotonic() - started < WAIT_S / 2:
        raise Broken(f"a poll of {WAIT_S} s on an empty queue is answered at once")
    with _during(url) as brought:
        clients.sqs().send_message(QueueUrl=url, MessageBody="for who waits")
    if not brought and not received(url, wait_s=1):
        raise Broken("a message that was sent during a poll was lost")
    return "waits on an empty queue, and receives what is sent meanwhile"


def visibility(place: Place) -> str:
    sqs = clients.sqs()
    url, _ = place.queue("visibility", VisibilityTimeout="2")
    sqs.send_message(QueueUrl=url, MessageBody="x")
    held = awaited(url, 10)
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=held["ReceiptHandle"], VisibilityTimeout=60)
    if received(url, wait_s=3):
        raise Broken("a message is delivered again although its visibility time-out was extended")
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=held["ReceiptHandle"], VisibilityTimeout=0)
    again = awaited(url, 10)
    count = int(again.get("Attributes", {}).get("ApproximateReceiveCount", "0"))
    if count < 2:
        raise Broken(f"at the second receive, ApproximateReceiveCount is {count}")
    sqs.delete_message(QueueUrl=url, ReceiptHandle=again["ReceiptHandle"])
    return "extended, ended at once, and each receive counted"


def dead_letters(place: Place) -> str:
    dead_url, dead_arn = place.queue("dead")
    policy = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 1})
    url, _ = place.queue("redrive", RedrivePolicy=policy)
    sqs = clients.sqs()
    sqs.send_message(QueueUrl=url, MessageBody="poison")
    held = awaited(url, 10)
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=held["ReceiptHandle"], VisibilityTimeout=0)
    if received(url, wait_s=1):
        raise Broken("a message is received more often than maxReceiveCount says")
    if awaited(dead_url, 10)["Body"] != "poison":
        raise Broken("the dead letter is not what was sent")
    return "moved after maxReceiveCount receives"


def delay(place: Place) -> str:
    url, _ = place.queue("delay")
    clients.sqs().send_message(QueueUrl=url, MessageBody="x", DelaySeconds=3)
    if received(url):
        raise Broken("a delayed message is delivered at once")
    awaited(url, 10)
    return "a delayed message is delivered later"


def batch(place: Place) -> str:
    url, _ = place.queue("batch")
    entries: Any = [{"Id": str(number), "MessageBody": f"{number} \u00e9 \U0001f600"} for number in range(10)]
    answer = clients.sqs().send_message_batch(QueueUrl=url, Entries=entries)
    if len(answer.get("Successful", [])) != len(entries):
        raise Broken(f"of ten messages sent at once, {len(answer.get('Successful', []))} were accepted")
    sent = {entry["MessageBody"] for entry in entries}
    body = awaited(url, 10)["Body"]
    if body not in sent:
        raise Broken(f"a message comes back as {body!r}")
    return "ten at once, and texts beyond ASCII come back as they were"


def topic(place: Place) -> str:
    url, arn = place.open_queue("topic", "sns.amazonaws.com")
    topic_arn = place.topic()
    sns = clients.sns()
    subscription = sns.subscribe(
        TopicArn=topic_arn,
        Protocol="sqs",
        Endpoint=arn,
        Attributes={"RawMessageDelivery": "true"},
        ReturnSubscriptionArn=True,
    )
    deadline = time.monotonic() + place.patience_s
    while True:  # a queue's policy may take a minute to apply
        sns.publish(TopicArn=topic_arn, Message="to all")
        try:
            message = awaited(url, 5)
        except Broken:
            if time.monotonic() > deadline:
                raise
        else:
            break
    sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
    if message["Body"] != "to all":
        raise Broken(f"raw delivery is not raw: {message['Body'][:60]}")
    return "delivered raw to a queue"


GUARANTEES = (
    Guarantee("long poll", "bridge and workers would poll without a pause, or would miss messages", long_poll),
    Guarantee("visibility", "a second worker would get a task while the first one still runs it", visibility),
    Guarantee("dead letters", "a task that crashes its worker would be delivered for ever", dead_letters),
    Guarantee("delay", "retries and second checks would not wait", delay),
    Guarantee("batches", "the bridge and programs could not send their tasks", batch),
    Guarantee("topic to queue", "Flower would see no workers, and remote control would not reach them", topic),
)

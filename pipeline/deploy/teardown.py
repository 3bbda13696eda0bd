"""``python -m pipeline teardown``: drains, deletes, and leaves nothing behind but what it was told to keep."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click
from botocore.exceptions import ClientError
from rich.console import Console

from pipeline.aws import clients, queues
from pipeline.aws.errors import is_missing_queue, plainly
from pipeline.core.console import counted
from pipeline.core.errors import PipelineError
from pipeline.deploy import account, buckets
from pipeline.deploy.follow import Follower
from pipeline.deploy.shown import follow
from pipeline.sqs.monitoring.names import kind_of

POLL_S = 10.0
#: The queues' depths are approximate, so they must be seen empty more than once.
LOOKS = 3
#: Queues whose messages are work; and those that hold what has failed.
EVENTS = "events"
WORK, DEAD = (EVENTS, "tasks"), ("events-dlq", "tasks-dlq")


@dataclass(frozen=True, slots=True)
class Belongings:
    """What a stack consists of that deleting it does not remove, or would lose."""

    prefix: str
    buckets: tuple[str, ...]  # that it made itself: those that it only uses are none of its


def teardown(
    stack: str,
    *,
    delete_data: bool,
    yes: bool,
    drain_s: float,
    console: Console | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Drains the queues, deletes the stack and what its processes left, and with ``delete_data`` the buckets.

    ``drain_s``: seconds to wait for work to be finished; 0 does not wait. Raises ``PipelineError``.
    """
    console = Console(highlight=False) if console is None else console
    here = account.current()
    found = account.describe(stack)
    if found is None:
        raise PipelineError(f"there is no stack {stack} in {here.region}, account {here.id}")
    ours = _belongings(stack, found)
    _say(stack, ours, here, delete_data, console)
    if not (yes or _agreed(stack, console)):
        console.print("Nothing was changed.")
        return
    if drain_s > 0:
        _drain(ours, drain_s, console, sleep)
    follower = Follower(found["StackId"], sleep=sleep)
    with plainly(f"deleting stack {stack}"):
        clients.client("cloudformation").delete_stack(StackName=found["StackId"])
    follow(follower, None, console)
    for name in _sweep(ours.prefix):
        console.print(f"Removed the queue {name}, which a process had left behind.")
    for bucket, count in buckets.empty(ours.buckets if delete_data else ()).items():
        console.print(f"Removed {bucket} and {counted(count, 'version')} of objects in it.")
    for bucket in ours.buckets:
        if buckets.exists(bucket):
            console.print(f"Kept {bucket}; a stack of the same name takes it over.")
    console.print(f"Stack {stack} is gone.")


def _belongings(stack: str, found: dict[str, Any]) -> Belongings:
    return Belongings(prefix=f"{stack}-", buckets=buckets.made_by(found["StackId"]))


def _say(stack: str, ours: Belongings, here: account.Account, delete_data: bool, console: Console) -> None:
    console.print(f"Stack {stack} in {here.region}, account {here.id}, will be deleted.")
    fate = "[red]will be deleted with all versions of all objects[/]" if delete_data else "will be kept"
    for bucket in ours.buckets:
        if buckets.exists(bucket):
            console.print(f"Bucket {bucket} {fate}.", soft_wrap=True)
    dead = sum(_depth(ours.prefix + name) for name in DEAD)
    if dead:
        console.print(
            f"[red]About {counted(dead, 'dead letter')} will be lost[/]; "
            "`python -m pipeline deadletters export` keeps them."
        )


def _agreed(stack: str, console: Console) -> bool:
    if not console.is_terminal:
        raise PipelineError("nobody is there to agree: give --yes")
    typed: str = click.prompt(f"Type {stack} to go on", default="", show_default=False)
    return typed == stack


# --- draining


def _drain(ours: Belongings, drain_s: float, console: Console, sleep: Callable[[float], None]) -> None:
    """Takes no more uploads, and waits until what was taken is done. Raises ``PipelineError`` when it isn't.

    The queue's policy is what is taken away, since the queue goes with the stack: the bucket's notification must
    stay as it is, or a later stack of this name would take over a bucket that sends no events.
    """
    sqs: Any = clients.sqs()
    with plainly("ending the intake"):
        url = _url(ours.prefix + EVENTS)
        if url is None:
            return
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"]).get("Attributes", {})
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})
    try:
        _wait_until_empty(ours, drain_s, console, sleep)
    except BaseException:
        with plainly("taking uploads again"):
            sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": found.get("Policy", "")})
        raise
    console.print("The queues are empty.")


def _wait_until_empty(ours: Belongings, drain_s: float, console: Console, sleep: Callable[[float], None]) -> None:
    deadline = time.monotonic() + drain_s
    empty = 0
    with console.status("Draining ...") as spinner:
        while empty < LOOKS:
            left = sum(_depth(ours.prefix + name) for name in WORK)
            empty = 0 if left else empty + 1
            if left and time.monotonic() > deadline:
                raise PipelineError(
                    f"about {counted(left, 'message')} left after {drain_s:g} s, which deleting would lose. "
                    "Nothing was changed: run it again with a longer --drain, or with --no-drain to give them up"
                )
            spinner.update(f"Draining: about {counted(left, 'message')} left ...")
            sleep(min(POLL_S, drain_s))


def _url(name: str) -> str | None:
    sqs = clients.sqs()
    try:
        return sqs.get_queue_url(QueueName=name)["QueueUrl"]
    except ClientError as exc:
        if is_missing_queue(exc):
            return None
        raise


def _depth(name: str) -> int:
    """Messages in a queue, whatever their state; none when it does not exist."""
    with plainly(f"looking at queue {name}"):
        url = _url(name)
    return 0 if url is None else queues.depth(url)


# --- what the stack's deletion leaves


def _sweep(prefix: str) -> Iterator[str]:
    """Removes the queues of processes that could not do it themselves; their stack is gone, so none is in use."""
    sqs = clients.sqs()
    with plainly("removing leftover queues"):
        pages = sqs.get_paginator("list_queues").paginate(QueueNamePrefix=prefix, PaginationConfig={"PageSize": 1000})
        for url in [url for page in pages for url in page.get("QueueUrls", [])]:
            name = url.rsplit("/", 1)[-1]
            if kind_of(name, prefix) is not None:
                sqs.delete_queue(QueueUrl=url)
                yield name

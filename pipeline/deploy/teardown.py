"""``python -m pipeline teardown``: drains and deletes a stack, and keeps only its data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console

from pipeline.aws import clients
from pipeline.aws.errors import translate_errors
from pipeline.core.console import pluralize
from pipeline.core.errors import PipelineError
from pipeline.core.queue_names import DEAD_LETTER_QUEUES
from pipeline.deploy import account, alarms, buckets, drain, inputs
from pipeline.deploy.follow import Follower
from pipeline.deploy.shown import follow
from pipeline.sqs.monitoring.names import kind_of


@dataclass(frozen=True, slots=True)
class Belongings:
    """What a stack's deletion does not remove or would lose, and what the stack has changed elsewhere."""

    stack: str
    buckets: tuple[str, ...]  # that it created, not those that it only uses
    inputs: tuple[str, ...]  # buckets that it takes uploads from
    switched_on: tuple[str, ...]  # buckets where a deployment switched EventBridge on

    @property
    def prefix(self) -> str:
        return f"{self.stack}-"


def teardown(
    stack: str,
    *,
    delete_data: bool,
    yes: bool,
    drain_s: float,
    console: Console | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Drains the queues, deletes the stack and its processes' queues, and with ``delete_data`` the buckets.

    ``drain_s``: maximum seconds to wait for work to finish; 0: don't wait. Raises ``PipelineError``.
    """
    console = Console(highlight=False) if console is None else console
    here = account.current()
    found = account.describe(stack)
    if found is None:
        _finish(stack, here, console, delete_data=delete_data, yes=yes)
        return
    ours = _belongings(stack, found)
    _say(ours, here, delete_data, console)
    if not (yes or _agreed(stack, console)):
        console.print("Nothing was changed.")
        return
    if drain_s > 0:
        drain.drain(ours.prefix, ours.inputs, drain_s, console, sleep)
    alarms.teardown(stack, console, sleep)
    _take_back(ours, console)  # while the stack exists: it records where
    follower = Follower(found["StackId"], sleep=sleep)
    with translate_errors(f"deleting stack {stack}"):
        clients.client("cloudformation").delete_stack(StackName=found["StackId"])
    follow(follower, None, console)
    _clear(ours, console, delete_data=delete_data)
    console.print(f"Stack {stack} is gone.")


def _clear(ours: Belongings, console: Console, *, delete_data: bool) -> None:
    """Removes what a deleted stack has left."""
    for name in _sweep(ours.prefix):
        console.print(f"Removed the queue {name}, which a process had left behind.")
    for bucket, count in buckets.empty(ours.buckets if delete_data else ()).items():
        console.print(f"Removed {bucket} and {pluralize(count, 'version')} of objects in it.")
    for bucket in ours.buckets:
        if buckets.exists(bucket):
            console.print(f"Kept {bucket}; a stack of the same name takes it over.")


def _finish(stack: str, here: account.Account, console: Console, *, delete_data: bool, yes: bool) -> None:
    """Continues a teardown that was interrupted after the stack's deletion, or deletes the data that it kept.

    Raises ``PipelineError`` if nothing of such a stack is left.
    """
    named = (f"{stack}-{side}-{here.id}-{here.region}" for side in ("input", "output"))
    kept = tuple(bucket for bucket in named if buckets.owner(bucket, stack) is buckets.Owner.STACK)
    ours = Belongings(stack, kept, (), ())
    if not kept:
        for name in _sweep(ours.prefix):
            console.print(f"Removed the queue {name}, which a process had left behind.")
        raise PipelineError(f"there is no stack {stack} in {here.region}, account {here.id}")
    _say(ours, here, delete_data, console)
    if not (yes or _agreed(stack, console)):
        console.print("Nothing was changed.")
        return
    _clear(ours, console, delete_data=delete_data)


def _belongings(stack: str, found: dict[str, Any]) -> Belongings:
    outputs = account.outputs_of(found)  # none if the creation failed
    taken = outputs.get("InputBucketNames", outputs.get("InputBucketName", ""))
    return Belongings(
        stack,
        buckets=buckets.made_by(found["StackId"]),
        inputs=tuple(inputs.listed(taken)),
        switched_on=tuple(inputs.listed(account.parameters_of(found).get("EventBridgeSwitchedOn", ""))),
    )


def _say(ours: Belongings, here: account.Account, delete_data: bool, console: Console) -> None:
    gone = account.describe(ours.stack) is None
    state = "is gone; this is left of it" if gone else "will be deleted"
    console.print(f"Stack {ours.stack} in {here.region}, account {here.id}, {state}.")
    fate = "[red]will be deleted with all versions of all objects[/]" if delete_data else "will be kept"
    for bucket in ours.buckets:
        if buckets.exists(bucket):
            console.print(f"Bucket {bucket} {fate}.", soft_wrap=True)
    for bucket in ours.switched_on:
        console.print(f"Bucket {bucket} will be kept; EventBridge is switched off again.", soft_wrap=True)
    dead = sum(drain.depth(ours.prefix + name) for name in DEAD_LETTER_QUEUES)
    if dead:
        console.print(
            f"[red]About {pluralize(dead, 'dead letter')} will be lost[/]; "
            "`python -m pipeline deadletters export` keeps them."
        )


def _agreed(stack: str, console: Console) -> bool:
    if not console.is_terminal:
        raise PipelineError("not a terminal, so it can't ask for confirmation: pass --yes")
    typed: str = click.prompt(f"Type {stack} to go on", default="", show_default=False)
    return typed == stack


def _take_back(ours: Belongings, console: Console) -> None:
    """Switches EventBridge off where a deployment switched it on, unless others use it now."""
    for bucket in ours.switched_on:
        try:
            rules = inputs.used_by_others(bucket, ours.stack)
            if not rules:
                inputs.switch_off(bucket)
                console.print(f"Switched EventBridge off for {bucket} again.")
            else:
                console.print(f"Left EventBridge on for {bucket}: the rule {rules[0]} may need it.")
        except PipelineError as exc:  # continue with the rest
            console.print(f"[red]EventBridge is still on for {bucket}[/]: {exc}", soft_wrap=True)


def _sweep(prefix: str) -> Iterator[str]:
    """Deletes the temporary queues of killed processes; their stack is deleted, so none is in use."""
    sqs = clients.sqs()
    with translate_errors("removing leftover queues"):
        pages = sqs.get_paginator("list_queues").paginate(QueueNamePrefix=prefix, PaginationConfig={"PageSize": 1000})
        for url in [url for page in pages for url in page.get("QueueUrls", [])]:
            name = url.rsplit("/", 1)[-1]
            if kind_of(name, prefix) is not None:
                sqs.delete_queue(QueueUrl=url)
                yield name

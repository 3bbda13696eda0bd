"""Stops the intake of a stack, and waits until its work is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from pipeline.aws import clients, queues
from pipeline.aws.errors import translate_errors
from pipeline.core.console import pluralize
from pipeline.core.errors import PipelineError
from pipeline.core.queue_names import EVENTS_QUEUE, QUEUES

POLL_S = 10.0
#: The queues' depths are approximate, so they must be empty in several checks.
LOOKS = 3
#: Queues with work.


def drain(
    prefix: str, inputs: Sequence[str], wait_s: float, console: Console, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Stops the intake of uploads, and waits until the queued work is done.

    ``prefix``: of the queues; ``inputs``: buckets whose uploads send no event meanwhile. Raises ``PipelineError`` if
    the work isn't done within ``wait_s``; the intake then continues, and the error says which uploads were missed.
    """
    with translate_errors("ending the intake"):
        url = queues.found_url(prefix + EVENTS_QUEUE)
    if url is None:
        return
    with _no_intake(url, inputs, console):
        _wait_until_empty(prefix, wait_s, console, sleep)
    console.print("The queues are empty.")


@contextmanager
def _no_intake(url: str, inputs: Sequence[str], console: Console) -> Iterator[None]:
    """Removes the queue's policy, since the queue is deleted with the stack. The bucket's notification must stay, or a
    later stack of this name would import a bucket that sends no events.
    """
    sqs: Any = clients.sqs()
    since = datetime.now(UTC).replace(microsecond=0)
    with translate_errors("ending the intake"):
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"]).get("Attributes", {})
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})
    try:
        yield
    except BaseException as exc:
        with translate_errors("taking uploads again"):
            sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": found.get("Policy", "")})
        commands = [
            f"  python -m pipeline backfill s3://{bucket} --newer-than {since.isoformat()}" for bucket in inputs
        ]
        missed = (
            f"Nothing was deleted, and uploads are taken again. Those since {since.isoformat()} sent no event; enqueue "
            "them, a minute from now:\n" + "\n".join(commands)
        )
        if isinstance(exc, PipelineError):
            raise PipelineError(f"{exc}\n{missed}") from exc
        console.print(missed, soft_wrap=True)
        raise


def _wait_until_empty(prefix: str, wait_s: float, console: Console, sleep: Callable[[float], None]) -> None:
    deadline = time.monotonic() + wait_s
    empty = 0
    with console.status("Draining ...") as spinner:
        while empty < LOOKS:
            left = sum(depth(prefix + name) for name in QUEUES)
            empty = 0 if left else empty + 1
            if left and time.monotonic() > deadline:
                raise PipelineError(
                    f"about {pluralize(left, 'message')} left after {wait_s:g} s, which deleting would lose: run it "
                    "again with a longer --drain, or with --no-drain to give them up"
                )
            spinner.update(f"Draining: about {pluralize(left, 'message')} left ...")
            sleep(min(POLL_S, wait_s))


def depth(name: str) -> int:
    """All messages in a queue, whatever their state; 0 if it does not exist. Raises ``PipelineError``."""
    with translate_errors(f"looking at queue {name}"):
        url = queues.found_url(name)
    return 0 if url is None else queues.depth(url)

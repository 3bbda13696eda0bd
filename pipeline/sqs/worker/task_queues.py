"""Checks that a worker consumes only task queues, whether by option or by remote control."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.aws.plain_errors import ConfigError
from pipeline.sqs.installation import Installation
from pipeline.sqs.monitoring import names
from pipeline.sqs.settings import DEAD_LETTERS


def check_task_queue(queue: str, installed: Installation) -> None:
    """``queue``: the name without the prefix. Raises ``ConfigError`` if it is not for tasks."""
    if queue in installed.other_queues:
        why = installed.other_queues[queue].why
    elif queue.endswith(DEAD_LETTERS):
        why = f"it has dead letters, which are read by {installed.dead_letters_hint}"
    elif names.kind_of(queue) is not None:
        why = "it belongs to one process, for events or remote control"
    else:
        return
    raise ConfigError(f"{queue} is not a queue of tasks: {why}; a worker would take its messages out as dead letters")


def check_chosen_queues(app: Any, chosen: Iterable[str]) -> None:
    """``chosen``: the queues of ``-Q``. Raises ``ConfigError`` for one that is unknown to the app or not for tasks."""
    chosen, known = list(chosen), app.amqp.queues
    for queue in chosen:
        try:
            check_task_queue(queue, app.sqs)
        except ConfigError as exc:
            raise ConfigError(f"-Q {','.join(chosen)}: {exc}") from None
    if not set(chosen) <= set(known):
        raise ConfigError(f"-Q {','.join(chosen)}: the app's queues are {', '.join(known)}")

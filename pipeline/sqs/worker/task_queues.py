"""Which queues a worker consumes: those that tasks are in, and no others, whoever asks."""

from __future__ import annotations

from pipeline.core.errors import ConfigError
from pipeline.sqs.monitoring import names

#: Queues of the stack, and of ``python -m pipeline local``, whose messages are no tasks.
_OTHERS = {
    "events": "it has the events of S3, which the bridge reads",
    "results": "it has the events of the output bucket",
}


def check_task_queue(queue: str) -> None:
    """``queue``: its name without QUEUE_PREFIX. Raises ``ConfigError`` where its messages are no tasks."""
    if queue in _OTHERS:
        why = _OTHERS[queue]
    elif queue.endswith("-dlq"):
        why = "it has dead letters, which `python -m pipeline deadletters` reads, and sends back"
    elif names.kind_of(queue) is not None:
        why = "it belongs to one process, for events or remote control"
    else:
        return
    raise ConfigError(f"{queue} is not a queue of tasks: {why}; a worker would take its messages out as dead letters")

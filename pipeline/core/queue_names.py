"""The queues' names, without QUEUE_PREFIX."""

from __future__ import annotations

#: S3's events; the bridge reads it.
EVENTS_QUEUE = "events"
#: Celery's only task queue.
TASKS_QUEUE = "tasks"
#: The queues with a dead-letter queue, and the suffix of its name.
QUEUES = (EVENTS_QUEUE, TASKS_QUEUE)
DEAD_LETTERS = "-dlq"
DEAD_LETTER_QUEUES = tuple(name + DEAD_LETTERS for name in QUEUES)

"""What the queues are called: written here alone.

On SQS each name has QUEUE_PREFIX before it.
"""

from __future__ import annotations

#: S3's events, which the bridge reads.
EVENTS_QUEUE = "events"
#: Celery's one task queue.
TASKS_QUEUE = "tasks"
#: Those that have a dead-letter queue, and what that has behind their name.
QUEUES = (EVENTS_QUEUE, TASKS_QUEUE)
DEAD_LETTERS = "-dlq"
DEAD_LETTER_QUEUES = tuple(name + DEAD_LETTERS for name in QUEUES)

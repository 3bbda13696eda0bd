"""What the queues are called, and what SQS takes at once: written here alone.

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

#: Messages of a receive, and entries of a batch call, at most.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
MAX_ENTRIES = 10

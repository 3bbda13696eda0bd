"""The pipeline's own queues, for the commands."""

from __future__ import annotations

from pipeline.aws import queues
from pipeline.core.errors import PipelineError
from pipeline.core.queue_names import QUEUES
from pipeline.core.settings import Settings


def url_of(settings: Settings, name: str) -> str:
    """The URL of ``events``, ``tasks`` or one of their ``-dlq``. Raises ``ConfigError`` and ``TransientError``."""
    return queues.url_of(settings.queue_prefix + name)


def waiting(settings: Settings) -> int:
    """The number of messages in both queues; 0 if it can't be read."""
    try:
        return sum(queues.depth(url_of(settings, name)) for name in QUEUES)
    except PipelineError:
        return 0

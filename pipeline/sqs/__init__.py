"""Celery on SQS, for any app: ``install(app, queue_prefix=…)``. See docs/celery-on-sqs.md.

Each public name is loaded at its first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.aws.plain_errors import ConfigError
    from pipeline.sqs.installation import Number, OtherQueue, ResultFacts
    from pipeline.sqs.installing import install
    from pipeline.sqs.monitoring.sweep import sweep
    from pipeline.sqs.settings import BrokerSettings
    from pipeline.sqs.settled import Defer
    from pipeline.sqs.transport.publishing import BatchEnded, PublishError, batched

__all__ = [
    "BatchEnded",
    "BrokerSettings",
    "ConfigError",
    "Defer",
    "Number",
    "OtherQueue",
    "PublishError",
    "ResultFacts",
    "batched",
    "install",
    "sweep",
]

_HOMES = {
    "BatchEnded": "pipeline.sqs.transport.publishing",
    "BrokerSettings": "pipeline.sqs.settings",
    "ConfigError": "pipeline.aws.plain_errors",
    "Defer": "pipeline.sqs.settled",
    "Number": "pipeline.sqs.installation",
    "OtherQueue": "pipeline.sqs.installation",
    "PublishError": "pipeline.sqs.transport.publishing",
    "ResultFacts": "pipeline.sqs.installation",
    "batched": "pipeline.sqs.transport.publishing",
    "install": "pipeline.sqs.installing",
    "sweep": "pipeline.sqs.monitoring.sweep",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

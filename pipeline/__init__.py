"""What lands in S3 becomes renditions: Celery on SQS.

``app`` (for ``celery -A pipeline …``), ``process``, ``batched``, and what routes are declared with are loaded when
first used, so that importing one module of this package loads nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.celery import app
    from pipeline.core.outputs import Output
    from pipeline.core.routes import Route
    from pipeline.enqueue import process
    from pipeline.s3.content import begins_with
    from pipeline.sqs.transport.publishing import batched

__all__ = ["Output", "Route", "app", "batched", "begins_with", "process"]

_HOMES = {
    "Output": "pipeline.core.outputs",
    "Route": "pipeline.core.routes",
    "app": "pipeline.celery",
    "batched": "pipeline.sqs.transport.publishing",
    "begins_with": "pipeline.s3.content",
    "process": "pipeline.enqueue",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

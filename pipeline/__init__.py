"""What lands in S3 becomes renditions: Celery on SQS.

``app`` (for ``celery -A pipeline …``), ``process`` and ``batched`` are loaded when first used, so that
importing one module of this package loads nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.broker.publishing import batched
    from pipeline.celery import app
    from pipeline.enqueue import process

__all__ = ["app", "batched", "process"]

_HOMES = {
    "app": "pipeline.celery",
    "batched": "pipeline.broker.publishing",
    "process": "pipeline.enqueue",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except PipelineError as exc:
        import click

        context = click.get_current_context(silent=True)
        if context is None or context.find_root().command.name != "celery":
            raise
        # Celery's command line would show a traceback.
        click.echo(f"Error: {exc}", err=True)
        raise SystemExit(2) from None

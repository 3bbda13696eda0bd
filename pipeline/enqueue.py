"""How work gets into the tasks queue: one object, one chain of ``resize`` and ``thumbnail``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from celery import Celery, chain
from celery.canvas import Signature
from celery.result import AsyncResult

from pipeline.source import Source

RESIZE = "tasks.resize"
THUMBNAIL = "tasks.thumbnail"


def renditions(app: Celery, source: Source) -> Signature:
    """The chain that makes both renditions of one object; nothing is sent yet."""
    shown = f"{source.bucket}/{source.key}"
    return chain(
        app.signature(RESIZE, args=(source.to_json(),), options={"argsrepr": shown}),
        app.signature(THUMBNAIL, options={"argsrepr": shown}),
        app=app,
    )


def process(source: str | dict[str, Any] | Source, *, app: Celery | None = None) -> AsyncResult:
    """Enqueues one object: ``process("s3://bucket/a/b.jpg")``.

    ``source`` is an URI, whose key is taken literally, or a ``Source`` (or its JSON form) that also
    names a version. Returns the result of the chain's last task; waiting for it needs RESULT_BACKEND.
    Raises ``MessageError`` for a source that names no object.
    """
    app = _default_app() if app is None else app
    return renditions(app, Source.parse(source)).apply_async()


def process_many(sources: Iterable[Source], *, app: Celery | None = None) -> None:
    """Enqueues many objects over one connection. Returns when all are in the queue; raises what the broker raises."""
    app = _default_app() if app is None else app
    with app.producer_or_acquire() as producer:
        for source in sources:
            renditions(app, source).apply_async(producer=producer)


def _default_app() -> Celery:
    from pipeline.celery import app

    return app

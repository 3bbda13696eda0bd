"""The first stage of a task: parses its argument, once. Later stages get only the parsed ``Job``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

from pipeline.core.errors import MessageError
from pipeline.core.source import Source
from pipeline.enqueue import CHECK_EXISTING
from tasks import handover
from tasks.handover import Handover
from tasks.outcome import Outcome

if TYPE_CHECKING:
    from pipeline.celery import PipelineApp
    from tasks.base import ObjectTask


#: The key of a task's result with the outputs that the chain has stored so far, for the following tasks.
STORED = "stored"


@dataclass(frozen=True, slots=True)
class Job:
    """One object, and the state of the work on it."""

    app: PipelineApp
    task_name: str
    source: Source  # the object, and its version if known
    stored: tuple[Source, ...]  # the outputs of the chain's earlier tasks, in their order
    check_existing: bool  # check what is stored before working, since this may not be the first try
    is_repeated: bool  # an earlier try of this same message may have written
    is_last: bool  # whether this is the chain's last task
    handover: Handover | None  # the previous task's output, if that ran in this process
    began_at: float  # ``time.monotonic()``
    leave: Callable[..., None]  # passes the new output to the next task: see ``tasks.handover``

    @property
    def end_level(self) -> int:
        """The level at which the task logs that its output is stored: INFO only for the last task of a chain."""
        return logging.INFO if self.is_last else logging.DEBUG

    def ended(self, outcome: Outcome) -> dict[str, Any]:
        """The searchable fields of that log line."""
        runtime_s = round(monotonic() - self.began_at, 3)
        return {"action": outcome.value, "key": self.source.key, "task": self.task_name, "runtime_s": runtime_s}

    @classmethod
    def parse(cls, task: ObjectTask, argument: Any, *, check_existing: bool = False) -> Self:
        """``argument``: ``s3://bucket/key``, the JSON of a ``Source``, or the result of the chain's previous task.

        Raises ``MessageError``.
        """
        known: Mapping[str, Any] = argument if isinstance(argument, dict) else {}
        is_result = "rendition" in known
        source = Source.parse(known.get("source") if is_result else argument)
        stored: tuple[Source, ...] = ()
        if is_result:
            stored = tuple(_stored(each) for each in (*known.get(STORED, ()), known["rendition"]))
            for each in stored:
                if not task.app.routes.is_output(each.bucket, each.key):
                    raise MessageError(f"{each.uri} was not stored by a task of the pipeline")
            check_existing = check_existing or known.get("outcome") == Outcome.DUPLICATE.value
        elif not source.from_event:  # enqueued by a person or a program
            check_existing = True
        return cls(
            app=task.app,
            task_name=task.name,
            source=source,
            stored=stored,
            check_existing=check_existing or bool(known.get(CHECK_EXISTING)) or task.is_repeated,
            is_repeated=task.is_repeated,
            is_last=not task.request.chain,
            handover=handover.found(task),
            began_at=monotonic(),
            leave=partial(handover.leave, task),
        )


def _stored(rendition: Any) -> Source:
    if not isinstance(rendition, dict):
        raise MessageError(f"the rendition of a task's result is a JSON object, not {rendition!r}")
    return Source.parse({name: rendition.get(name) for name in ("bucket", "key", "etag")})

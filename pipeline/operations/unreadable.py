"""Objects that can't be looked at: each is named and counted, and the others go on."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.core.errors import PipelineError, ServiceUnavailable
from pipeline.core.source import Source


@dataclass(frozen=True, slots=True)
class Unreadable:
    """``reason`` is a fixed word: ``archived``, ``unavailable``…; ``message`` says what is wrong and what to do."""

    source: Source
    reason: str
    message: str


def unreadable(source: Source, exc: Exception) -> Unreadable:
    """What to say of an object that raised this while it was looked at, or while a rule for its content was asked.

    Raises it again where the others would raise it, too: a service that fails, or credentials that may not ask.
    """
    if isinstance(exc, ServiceUnavailable):
        raise exc
    if isinstance(exc, PipelineError):
        return Unreadable(source, exc.reason, " ".join(filter(None, [str(exc), getattr(exc, "advice", "")])))
    return Unreadable(source, "internal-error", f"{source.uri}: a rule for its content raised {exc!r}")

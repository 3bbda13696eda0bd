"""Objects that can't be read: the commands report and count each, and continue with the others."""

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
    """Describes an object that could not be read, or for which a rule for the content failed.

    Raises ``exc`` again if other objects would fail in the same way: a service fails, or permissions are missing.
    """
    if isinstance(exc, ServiceUnavailable):
        raise exc
    if isinstance(exc, PipelineError):
        return Unreadable(source, exc.reason, " ".join(filter(None, [str(exc), getattr(exc, "advice", "")])))
    return Unreadable(source, "internal-error", f"{source.uri}: a rule for its content raised {exc!r}")

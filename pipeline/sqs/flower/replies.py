"""Flower's message for a command that a worker refused or did not answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: A command waits for the worker for a minute: ``RETENTION_S`` of its queue.
UNANSWERED = "it has not answered; it still runs the command if it reads it within a minute"


def error_reason(_handler: object, worker: str, replies: Sequence[Mapping[str, Any]]) -> str:
    """The worker's own error, from replies ``[{worker: {"error": …}}]``. Replaces ``ControlHandler.error_reason``.

    Flower's own reports "Unknown reason" for a late worker, which then still runs the command.
    """
    for reply in replies:
        if worker in reply:
            return str(reply[worker].get("error", f"it answered {reply[worker]}"))
    return UNANSWERED

"""How a task about an object ends well: a closed set, which its result names."""

from __future__ import annotations

from enum import Enum


class Outcome(Enum):
    """The chain goes on after the first two; after any other there is nothing left to make."""

    DONE = "done"  # stored
    DUPLICATE = "duplicate"  # the same was stored already
    SUPERSEDED = "superseded"  # the object has been overwritten since
    GONE = "gone"  # the object has been deleted since
    SKIPPED = "skipped"  # the object was written by the pipeline
    REMOVED = "removed"  # reconciled: what was outdated is removed
    RECONCILED = "reconciled"  # nothing was outdated

    @property
    def goes_on(self) -> bool:
        return self in (Outcome.DONE, Outcome.DUPLICATE)

"""The outcomes of a task about an object; each result names one."""

from __future__ import annotations

from enum import Enum


class Outcome(Enum):
    """The chain goes on after the first two; after the others there is nothing left to do."""

    DONE = "done"  # stored
    DUPLICATE = "duplicate"  # already stored
    SUPERSEDED = "superseded"  # the object has been overwritten since
    GONE = "gone"  # the object has been deleted since
    SKIPPED = "skipped"  # the object was written by the pipeline
    REMOVED = "removed"  # reconciled: outdated outputs were removed
    RECONCILED = "reconciled"  # nothing was outdated

    @property
    def goes_on(self) -> bool:
        return self in (Outcome.DONE, Outcome.DUPLICATE)

"""Infers from a few renditions at which times the current recipe was in use.

A listing shows when an object was written, not how. But settings change for all workers at once, so each recipe was in
use for a period of time. A rendition written between two up-to-date ones, not long after the first, is therefore up to
date as well.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from datetime import datetime, timedelta

#: The audit may miss a recipe that was in use for less time than this.
LONGEST_GAP = timedelta(days=1)


class RecipeTimeline:
    """Records when the checked renditions were written. Stores about one time per ``LONGEST_GAP``."""

    def __init__(self) -> None:
        self._times: list[tuple[datetime, bool]] = []  # sorted; whether a rendition written then is up to date

    def __len__(self) -> int:
        return len(self._times)

    def learn(self, written: datetime, up_to_date: bool) -> None:
        before, after = self._around(written)
        if before is not None and after is not None and before[1] == after[1] == up_to_date:
            if not up_to_date or after[0] - before[0] <= LONGEST_GAP:
                return  # adds no information
        elif before is not None and before == (written, up_to_date):
            return
        insort(self._times, (written, up_to_date))

    def is_up_to_date(self, written: datetime) -> bool:
        """True only if it is certain."""
        before, after = self._around(written)
        if before is None or not before[1] or written - before[0] > LONGEST_GAP:
            return False
        return after is None or after[1]

    def _around(self, written: datetime) -> tuple[tuple[datetime, bool] | None, tuple[datetime, bool] | None]:
        """The nearest known times: at or before, and at or after this one."""
        end = bisect_right(self._times, (written, True))
        start = bisect_left(self._times, (written, False))
        before = self._times[end - 1] if end else None
        after = self._times[start] if start < len(self._times) else None
        return before, after

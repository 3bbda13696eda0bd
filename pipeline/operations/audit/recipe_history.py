"""When renditions were made as they would be made now: known from looking at a few of them.

A listing tells when an object was written, not how. But a recipe belongs to a time: settings change for all
workers at once, and what is written later is written by the new ones. So a rendition that was written between
two that are known to be up to date, not long after the first, is taken to be up to date as well.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from datetime import datetime, timedelta

#: A recipe that was in use for a shorter time than this, and was then taken back, may stay unnoticed.
LONGEST_GAP = timedelta(days=1)


class RecipeTimeline:
    """Remembers when what was looked at had been written. Holds about one time for each ``LONGEST_GAP``."""

    def __init__(self) -> None:
        self._times: list[tuple[datetime, bool]] = []  # sorted; whether what was written then is up to date

    def __len__(self) -> int:
        return len(self._times)

    def learn(self, written: datetime, up_to_date: bool) -> None:
        before, after = self._around(written)
        if before is not None and after is not None and before[1] == after[1] == up_to_date:
            if not up_to_date or after[0] - before[0] <= LONGEST_GAP:
                return  # says nothing new
        elif before is not None and before == (written, up_to_date):
            return
        insort(self._times, (written, up_to_date))

    def is_up_to_date(self, written: datetime) -> bool:
        """True only where there is no doubt."""
        before, after = self._around(written)
        if before is None or not before[1] or written - before[0] > LONGEST_GAP:
            return False
        return after is None or after[1]

    def _around(self, written: datetime) -> tuple[tuple[datetime, bool] | None, tuple[datetime, bool] | None]:
        """The nearest known times, not after and not before this one."""
        end = bisect_right(self._times, (written, True))
        start = bisect_left(self._times, (written, False))
        before = self._times[end - 1] if end else None
        after = self._times[start] if start < len(self._times) else None
        return before, after

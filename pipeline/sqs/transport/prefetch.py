"""Decides how many messages a worker holds, and when it receives more.

Celery's prefetch count is the number of the pool's processes (its multiplier stays 1). In addition, a worker prefetches
as many messages as it finishes in PREFETCH_S seconds, so that it can receive up to ten at once and no process waits for
the network. The maximum is one message more for each process, and one whole receive. With slow tasks it prefetches
nothing, so no message waits behind them while other workers are idle.
"""

from __future__ import annotations

from pipeline.aws.batches import MAX_ENTRIES

#: Default of the transport option, in seconds.
DEFAULT_PREFETCH_S = 5.0
#: Weight of the newest observation in the moving average.
SMOOTHING = 0.1


class PrefetchController:
    """Decides from the observed throughput. Times are in seconds, all of the same clock."""

    def __init__(self, prefetch_s: float) -> None:
        self._prefetch_s = prefetch_s
        self._since = 0.0
        self._interval_s: float | None = None  # average time from one finished message to the next, without pauses

    def on_work(self, now: float) -> None:
        """Call this when work arrives after a pause, so that the pause does not count as work."""
        self._since = now

    def on_done(self, now: float) -> None:
        """Call this when a message is done."""
        interval_s, self._since = now - self._since, now
        if self._interval_s is None:
            self._interval_s = interval_s
        else:
            self._interval_s += SMOOTHING * (interval_s - self._interval_s)

    def limit(self, processes: int) -> int:
        """How many messages may be in flight."""
        if self._interval_s is None:
            return processes
        most = 2 * processes + MAX_ENTRIES
        return min(most, max(processes, round(self._prefetch_s / max(self._interval_s, 0.001))))

    def capacity(self, in_flight: int, processes: int) -> int:
        """How many messages to receive now; 0: wait, so that the next receive brings many."""
        limit = self.limit(processes)
        if in_flight > min(2 * processes, limit - 1):
            return 0
        return min(limit - in_flight, MAX_ENTRIES)

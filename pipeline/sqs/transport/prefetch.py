"""How many messages a worker holds, and when it asks for more.

Celery's prefetch count is the number of the pool's processes (its multiplier stays 1). On top of that
a worker holds a reserve, so that it can receive up to ten messages at once and no process waits for
the network. The reserve is what gets done in RESERVE_S seconds, at most one message more for each
process and a whole receive: with slow tasks it shrinks to nothing, so that nothing waits here behind
them while other workers are idle.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import SQS

from pipeline.sqs.transport.batcher import MAX_ENTRIES
from pipeline.sqs.transport.inflight import HeldMessages

#: Unless the transport options say otherwise.
DEFAULT_RESERVE_S = 5.0
#: Weight of the newest observation in the moving average.
SMOOTHING = 0.1


class Reserve:
    """Decides from the observed throughput. Times are in seconds, of any one clock."""

    def __init__(self, reserve_s: float) -> None:
        self._reserve_s = reserve_s
        self._since = 0.0
        self._interval_s: float | None = None  # between two messages done, while there is work

    def begin(self, now: float) -> None:
        """There is work again: the time without any is not to count."""
        self._since = now

    def done(self, now: float) -> None:
        """One message is done."""
        interval_s, self._since = now - self._since, now
        if self._interval_s is None:
            self._interval_s = interval_s
        else:
            self._interval_s += SMOOTHING * (interval_s - self._interval_s)

    def limit(self, processes: int) -> int:
        """How many messages may be held."""
        if self._interval_s is None:
            return processes
        most = 2 * processes + MAX_ENTRIES
        return min(most, max(processes, round(self._reserve_s / max(self._interval_s, 0.001))))

    def room(self, held: int, processes: int) -> int:
        """How many messages to ask for now; 0: not yet, so that the next receive brings many."""
        limit = self.limit(processes)
        if held > min(2 * processes, limit - 1):
            return 0
        return min(limit - held, MAX_ENTRIES)


class QoS(SQS.QoS):
    """kombu's, with a reserve; tells the channel what is held, and when there is room for more."""

    def append(self, message: Any, delivery_tag: str) -> None:
        super().append(message, delivery_tag)
        info = message.delivery_info
        if "sqs_message" in info:
            self.channel.hold(info["sqs_queue"], info["sqs_message"])

    def ack(self, delivery_tag: str) -> None:
        super().ack(delivery_tag)
        self.channel.poll_again()

    def can_consume(self) -> bool:
        return self.can_consume_max_estimate() != 0

    def can_consume_max_estimate(self) -> int | None:
        """None: as many as a receive brings (no prefetch count was set)."""
        if not self.prefetch_count:
            return None
        room: int = self.channel.reserve.room(len(self.channel.held), self.prefetch_count)
        return room

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """The channel closes, or is garbage."""
        self._on_collect.cancel()
        self.channel.let_go()


class Prefetch(SQS.Channel):
    """Transport option: ``reserve_s``."""

    QoS: Any = QoS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.held = HeldMessages()
        super().__init__(*args, **kwargs)
        # Read now: what is in the pool is settled even after this channel was closed.
        self.reserve = Reserve(float(self.transport_options.get("reserve_s", DEFAULT_RESERVE_S)))

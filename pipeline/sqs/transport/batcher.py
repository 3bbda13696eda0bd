"""Gathers items for SQS, and sends ten at a time from a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pipeline.aws.backoff import Backoff
from pipeline.aws.batches import MAX_ENTRIES

#: Default of the maximum seconds that an item waits for others. It must be well below what is left of the shortest
#: visibility time-out (2 s) when the work is done.
LINGER_S = 0.5
#: Tries of one item; with the back-off between them they take about half a minute.
MAX_TRIES = 7
BACKOFF = Backoff(0.5, 8)
#: Maximum seconds that the end of a process waits for unsent items.
CLOSE_S = 5.0
#: Seconds without an item after which a thread ends; the next item starts another. So no owner has to end it.
IDLE_S = 5.0

Item = TypeVar("Item")


def failed_entries(reply: Any, items: Sequence[Item]) -> list[BatchFailure[Item]]:
    """The failures in a batch call's reply. The ids of its entries were their positions in ``items``."""
    return [
        BatchFailure(
            items[int(entry["Id"])],
            f"{entry['Code']}: {entry.get('Message', '')}".rstrip(": "),
            final=bool(entry.get("SenderFault")),
        )
        for entry in reply.get("Failed", [])
    ]


@dataclass(frozen=True, slots=True)
class BatchFailure(Generic[Item]):
    """An item that SQS refused, and why; ``final``: another try would fail in the same way."""

    item: Item
    reason: str
    final: bool = False


@dataclass(slots=True)
class _Waiting(Generic[Item]):
    item: Item
    due_at: float
    tries: int = 0


class Batcher(Generic[Item]):
    """Sends items from a thread of its own. ``put`` never blocks on the network.

    The thread calls ``send`` with up to ten items of the same ``key``; it returns those that failed, which are retried.
    The thread calls ``give_up`` with an item that has failed for good. It starts with the first item, and ends after
    ``idle_s`` seconds without one.
    """

    def __init__(
        self,
        name: str,
        *,
        send: Callable[[Sequence[Item]], Sequence[BatchFailure[Item]]],
        give_up: Callable[[BatchFailure[Item]], None],
        key: Callable[[Item], Hashable],
        linger_s: float = LINGER_S,
        idle_s: float = IDLE_S,
    ) -> None:
        self._name = name
        self._send = send
        self._give_up = give_up
        self._key = key
        self._linger_s = linger_s
        self._idle_s = idle_s
        self._changed = threading.Condition()
        self._waiting: list[_Waiting[Item]] = []
        self._sending = 0
        self._hurry = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        """The number of items that are not sent yet."""
        return len(self._waiting) + self._sending

    def put(self, item: Item) -> None:
        with self._changed:
            if not self._closed:
                self._waiting.append(_Waiting(item, time.monotonic() + self._linger_s))
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                    self._thread.start()
                # The thread is asleep until the first item is due; only a full batch is worth waking it for.
                if len(self._waiting) == 1 or len(self._waiting) >= MAX_ENTRIES:
                    self._changed.notify_all()
                return
        self._give_up(BatchFailure(item, "this process ends"))

    def flush(self, within_s: float) -> bool:
        """Sends all items without waiting for more; returns False if some are left after ``within_s`` seconds."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: not len(self), within_s)
            self._hurry = False
            return done

    def close(self, within_s: float = CLOSE_S) -> None:
        """Flushes, ends the thread, and gives up the items that are unsent by then."""
        if self._closed:
            return
        self.flush(within_s)
        with self._changed:
            self._closed = True
            left, self._waiting = self._waiting, []
            self._changed.notify_all()
        for waiting in left:
            self._give_up(BatchFailure(waiting.item, "this process ends"))

    def _run(self) -> None:
        while True:
            with self._changed:
                batch = self._take()
                while not batch and not self._closed:
                    in_time = self._changed.wait(self._pause_s())
                    batch = self._take()
                    if not in_time and not self._waiting and not batch:
                        break
                if not batch:
                    self._thread = None
                    return
                self._sending = len(batch)
            failures = self._try(batch)
            with self._changed:
                self._sending = 0
                self._changed.notify_all()
            for failure in failures:
                self._give_up(failure)

    def _take(self) -> list[_Waiting[Item]]:
        """The next batch, if it is full or its first item has waited long enough; else an empty list."""
        now = time.monotonic()
        due = [waiting for waiting in self._waiting if waiting.due_at <= now or (self._hurry and not waiting.tries)]
        first = due[0] if due else None
        if first is None and len(self._waiting) >= MAX_ENTRIES:
            first = next((waiting for waiting in self._waiting if not waiting.tries), None)
        if first is None:
            return []
        # Items that wait for their next try may not be due yet.
        ready = [w for w in self._waiting if not w.tries or w.due_at <= now]
        batch = [w for w in ready if self._key(w.item) == self._key(first.item)][:MAX_ENTRIES]
        taken = set(map(id, batch))
        self._waiting = [w for w in self._waiting if id(w) not in taken]
        return batch

    def _pause_s(self) -> float:
        if not self._waiting:
            return self._idle_s
        return max(0.0, min(waiting.due_at for waiting in self._waiting) - time.monotonic())

    def _try(self, batch: list[_Waiting[Item]]) -> list[BatchFailure[Item]]:
        """Sends a batch; keeps failed items for another try, and returns those that failed for good."""
        try:
            failures = list(self._send([waiting.item for waiting in batch]))
        except Exception as exc:
            failures = [BatchFailure(waiting.item, f"{type(exc).__name__}: {exc}") for waiting in batch]
        by_item = {id(waiting.item): waiting for waiting in batch}
        lost = []
        with self._changed:
            for failure in failures:
                waiting = by_item[id(failure.item)]
                waiting.tries += 1
                if failure.final or waiting.tries >= MAX_TRIES or self._closed:
                    lost.append(failure)
                    continue
                waiting.due_at = time.monotonic() + BACKOFF.pause_s(waiting.tries)
                self._waiting.append(waiting)
        return lost

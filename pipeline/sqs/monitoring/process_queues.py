"""The temporary queues that this process owns: created, kept alive, and removed with the process."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from dataclasses import dataclass, field
from functools import cache

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.aws.errors import describe_error
from pipeline.aws.plain_errors import PlainError
from pipeline.sqs.monitoring.claimed_queue import ClaimedQueue, claim, make, remove
from pipeline.sqs.monitoring.names import Kind

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class OwnedQueues:
    """All queues that this process owns. A thread renews their claims until the process ends."""

    _queues: dict[str, ClaimedQueue] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closing: threading.Event = field(default_factory=threading.Event)
    _keeper: threading.Thread | None = None
    _pid: int = field(default_factory=os.getpid)

    @property
    def closed(self) -> bool:
        return self._closing.is_set()

    def url(self, name: str) -> str | None:
        queue = self._queues.get(name)
        return None if queue is None else queue.url

    def open(self, name: str, kind: Kind, topic_arn: str | None, *, ttl_s: int) -> str:
        """Creates the queue, subscribed to the topic, unless it is open; returns its URL.

        Raises botocore's errors, and ``PlainError`` when the process is ending.
        """
        with self._lock:
            if (known := self._queues.get(name)) is not None:
                known.released = False
                return known.url
            if self.closed:
                raise PlainError(f"{name} was not made: this process is ending")
            queue = ClaimedQueue(name, kind, topic_arn, ttl_s)
            make(queue)
            self._queues[name] = queue
            if self._keeper is None:
                atexit.register(self.close)
                self._keeper = threading.Thread(target=self._keep, name="queue-keeper", daemon=True)
                self._keeper.start()
            return queue.url

    def release(self, name: str) -> None:
        """Marks a queue that nobody reads: it is removed at the next renewal, when no poll is open, or at exit."""
        if (queue := self._queues.get(name)) is not None:
            queue.released = True

    def renew(self) -> None:
        """Renews the claims, removes released queues, and creates queues again that somebody deleted."""
        for name in list(self._queues):
            try:
                with self._lock:
                    self._renew(name)
            except (ClientError, BotoCoreError) as exc:
                logger.warning("%s: its claim could not be renewed: %s", name, describe_error(exc))

    def _renew(self, name: str) -> None:
        queue = self._queues.get(name)
        if queue is None:
            return  # the process is ending
        if queue.released:
            del self._queues[name]
            remove(queue.url, queue.subscription_arn)
        else:
            claim(queue)

    def close(self) -> None:
        """Removes all queues. Called at exit; a forked child keeps its parent's."""
        if os.getpid() != self._pid:
            return
        self._closing.set()
        with self._lock:
            queues, self._queues = self._queues, {}
        for queue in queues.values():
            try:
                remove(queue.url, queue.subscription_arn)
            except (ClientError, BotoCoreError) as exc:
                logger.warning("%s: not removed, which is left to the sweep: %s", queue.name, describe_error(exc))

    def _keep(self) -> None:
        # Renews three times within the claim's time, so that one failed call does no harm.
        while not self._closing.wait(min((queue.ttl_s for queue in list(self._queues.values())), default=60) / 3):
            self.renew()


@cache
def owned() -> OwnedQueues:
    """The queues of this process."""
    return OwnedQueues()


def _own_nothing() -> None:
    owned.cache_clear()
    owned()


owned()  # now, since threads that make the first call at the same time would each get their own
# A forked child owns none of its parent's.
os.register_at_fork(after_in_child=_own_nothing)

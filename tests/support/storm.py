"""A storm on real processes: bridge and workers under duplicates, reordering, overwrites, deletions and blows.

A blow comes when some more images are done, whatever that takes: a storm that is quicker than the machine would kill
what has not begun. An account tells what came out.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

from tests.support.chain import Chain, chain, picture
from tests.support.waiting import wait_until

WORKERS = ("worker-a", "worker-b")
#: In turn: a process that has not published yet can't look its queue up (as often as botocore tries), one of the
#: processes is killed, and a pool process gets the soft time limit's signal wherever it is.
BLOWS = ("GetQueueUrl", "kill worker-a", "soft limit", "kill bridge", "soft limit", "kill worker-b")
TRIES = 4
#: A message that is hit again and again would be a dead letter: where it ends, and not what is looked for here.
MAX_RECEIVES = 50


@dataclass
class Account:
    """What went in, what was done to it, and what came out."""

    images: int
    events: int = 0
    overwritten: int = 0
    deleted: int = 0
    blows: Counter[str] = field(default_factory=Counter)
    deliveries: int = 0
    failed_look_ups: int = 0
    seconds: float = 0.0
    lost: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    orphaned: list[str] = field(default_factory=list)
    limited: list[str] = field(default_factory=list)  # with a record that says that they took too long
    dead: int = 0
    left: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.stale or self.orphaned or self.dead or any(map(sum, self.left)))

    def __str__(self) -> str:
        blows = ", ".join(f"{number} x {name}" for name, number in sorted(self.blows.items()))
        return "\n".join(
            [
                f"images            {self.images}; meanwhile {self.overwritten} overwritten, {self.deleted} deleted",
                f"events sent       {self.events}, in random order, many of them twice or three times",
                f"blows             {blows or 'none'}; {self.failed_look_ups} look-ups of a queue failed",
                f"deliveries        {self.deliveries} of messages, in {self.seconds:.0f} s",
                f"lost              {len(self.lost)} {self.lost[:5] or ''}",
                f"stale             {len(self.stale)} {self.stale[:5] or ''}",
                f"orphaned          {len(self.orphaned)} {self.orphaned[:5] or ''}",
                f"took too long     {len(self.limited)}, as their records say",
                f"dead letters      {self.dead}",
                f"left in queues    {self.left} (visible, in flight, delayed)",
            ]
        )


def storm(
    folder: Path, *, images: int, blow_every: int, seed: int = 1, say: Callable[[str], None] = lambda _: None
) -> Account:
    """Runs it until all queues are empty, and counts. ``folder`` gets the logs."""
    with chain(
        folder, max_receives=MAX_RECEIVES, MESSAGE_VISIBILITY_TIMEOUT_S="5", POLL_WAIT_S="2", S3_CLIENT="auto"
    ) as (made, _):
        begun = time.monotonic()
        running = _Storm(made, Account(images), random.Random(seed), blow_every, say)
        running.upload()
        for name in (*WORKERS, "bridge"):
            running.start(name)
        wait_until(running.is_over, "the storm is over", 60 + 10 * images)
        running.account.seconds = time.monotonic() - begun
        running.count()
        return running.account


@dataclass
class _Storm:
    made: Chain
    account: Account
    rng: random.Random
    blow_every: int
    say: Callable[[str], None]
    newest: dict[str, str | None] = field(default_factory=dict)  # ETags by key; None: deleted
    plan: list[Callable[[], list[str]]] = field(default_factory=list)  # what people will still do; gives events
    waiting: list[list[str]] = field(default_factory=list)  # events that are still to come
    next_blow: int = 0

    def upload(self) -> None:
        """All objects; the plan is to overwrite some, and to delete others. With each blow come more of the events."""
        for first in range(0, self.account.images, self.blow_every):
            numbers = range(first, min(first + self.blow_every, self.account.images))
            events = [event for number in numbers for event in self._put(f"{number:04}.jpg", 1)]
            self.rng.shuffle(events)
            self.waiting.append(events)
        self.rng.shuffle(self.waiting)
        for _ in range(2):
            self._tell_of_more()
        some = self.rng.sample(sorted(self.newest), self.account.images // 5)
        for key in some[::2]:
            self.plan.append(lambda key=key: self._put(key, 2))  # type: ignore[misc]
        for key in some[1::2]:
            self.plan.append(lambda key=key: self._delete(key, 2))  # type: ignore[misc]
        self.next_blow = self.blow_every

    def _put(self, key: str, sequence: int) -> list[str]:
        self.account.overwritten += sequence > 1
        event = self.made.upload(key, picture(crc32(f"{key} {sequence}".encode())), sequence)
        self.newest[key] = etag_of(event)
        return [event] * self.rng.choice((1, 1, 2, 3))

    def _delete(self, key: str, sequence: int) -> list[str]:
        self.account.deleted += 1
        self.newest[key] = None
        return [self.made.delete(key, sequence)] * self.rng.choice((1, 2))

    def _tell_of_more(self) -> None:
        if self.waiting:
            self._notify(self.waiting.pop())

    def _notify(self, events: list[str]) -> None:
        self.made.notify(events)
        self.account.events += len(events)

    def start(self, name: str) -> None:
        if name == "bridge":
            self.made.start_bridge()
        else:
            command = ("-m", "celery", "-A", "tests.support.brisk", "worker", "-c", "1", "-n", f"{name}@test")
            # One goes on with a chain in place, the other publishes its next task.
            self.made.start(name, *command, env={"GO_ON_IN_PLACE": str(name == "worker-a").lower()})

    def is_over(self) -> bool:
        """Looks, and does what is due. Whatever has ended is begun again, as ECS does."""
        for name, process in list(self.made.processes.items()):
            if process.poll() is not None:
                self.start(name)
        is_idle = self.made.idle()
        if is_idle and not self.plan and not self.waiting:
            return True
        done = len(self.made.outputs("thumbs"))
        if self.plan and done >= self.account.images // 8:  # an event that overtakes others, or comes late
            self._notify(self.plan.pop()())
        if done >= self.next_blow or (is_idle and self.waiting):  # however fast it is, it meets a blow for each part
            self._tell_of_more()
            self.next_blow = done + self.blow_every
            blow = BLOWS[self.account.blows.total() % len(BLOWS)]
            self.account.blows[blow] += 1
            self.say(f"{blow}; {done} of {self.account.images} images are done")
            self._strike(blow)
        time.sleep(0.1)
        return False

    def _strike(self, blow: str) -> None:
        if blow == "GetQueueUrl":  # of a process that has not published yet
            self.made.server.fault("GetQueueUrl", queue=f"{self.made.prefix}tasks", status=500, times=TRIES)
            for process in _children(self.made.processes["worker-b"].pid):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        elif blow == "soft limit":
            for name in WORKERS:
                for process in _children(self.made.processes[name].pid):
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGUSR1)
        else:
            name = blow.removeprefix("kill ")
            self.made.kill(name)
            self.start(name)

    def count(self) -> None:
        made, account = self.made, self.account
        counts = made.server.counts()
        account.deliveries = counts["messages received"]
        account.failed_look_ups = counts[f"fault GetQueueUrl {made.prefix}tasks"]
        records = {name.removesuffix(".json"): made.record(name) for name in made.outputs("failed")}
        for key, record in list(records.items()):
            # A soft limit that comes while the image is made is that object's end, as its record says.
            if "SOFT_TIME_LIMIT_S" in record and f'"etag": "{self.newest[key]}"' in record:
                account.limited.append(key)
                del records[key]
        account.orphaned += [f"failed/{key}: {record}" for key, record in records.items()]
        for folder in ("resized", "thumbs"):
            found = made.outputs(folder)
            for key, etag in self.newest.items():
                name = f"{folder}/{key}"
                if etag is None:
                    account.orphaned += [name] * (key in found)
                elif key not in found:
                    account.lost += [name] * (key not in account.limited)
                elif made.source_etag(name) != etag:
                    account.stale.append(name)
        account.dead = made.dead()
        account.left = [made.server.depth(made.prefix + name) for name in ("events", "tasks")]


def _children(pid: int) -> list[int]:
    """The processes of a worker's pool (Linux)."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []  # it ended meanwhile


def etag_of(event: str) -> str:
    return event.partition('"eTag": "')[2].partition('"')[0]

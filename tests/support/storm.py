"""A kill storm: the real bridge and workers under duplicates, reordering, overwrites and kill -9, and an account."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

from tests.support.chain import Chain, chain, picture
from tests.support.waiting import wait_until

WORKERS = ("worker-a", "worker-b")


@dataclass
class Account:
    """What went in, what was done to it, and what came out."""

    images: int
    events: int = 0
    overwritten: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    deliveries: int = 0
    seconds: float = 0.0
    lost: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    dead: int = 0
    left: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.stale or self.dead or any(map(sum, self.left)))

    def __str__(self) -> str:
        killed = ", ".join(f"{number} x {name}" for name, number in sorted(self.kills.items()))
        return "\n".join(
            [
                f"images            {self.images}, of which {self.overwritten} were overwritten while it ran",
                f"events sent       {self.events}, in random order, many of them twice or three times",
                f"kill -9           {killed or 'none'}",
                f"deliveries        {self.deliveries} of messages, in {self.seconds:.0f} s",
                f"lost              {len(self.lost)} {self.lost[:5] or ''}",
                f"stale             {len(self.stale)} {self.stale[:5] or ''}",
                f"dead letters      {self.dead}",
                f"left in queues    {self.left} (visible, in flight, delayed)",
            ]
        )


def storm(
    folder: Path,
    *,
    images: int,
    kill_every_s: float,
    seed: int = 1,
    say: Callable[[str], None] = lambda _: None,
    within_s: float = 300,
) -> Account:
    """Runs it, killing until all is done, and counts. ``folder`` gets the logs."""
    rng = random.Random(seed)
    with chain(folder, MESSAGE_VISIBILITY_TIMEOUT_S="5", POLL_WAIT_S="2") as (made, _):
        account = Account(images)
        newest, later = _upload(made, account, rng)
        begun = time.monotonic()
        made.start_bridge()
        for name in WORKERS:
            made.start_worker(name, concurrency=1)
        _kill_until_done(made, account, rng, later, newest, kill_every_s, say, begun + within_s)
        wait_until(made.idle, f"all queues are empty, after\n{account}", within_s)
        account.seconds = time.monotonic() - begun
        _count(made, account, newest)
        return account


def _upload(made: Chain, account: Account, rng: random.Random) -> tuple[dict[str, str], list[tuple[str, int]]]:
    """Returns each key's newest ETag, and which keys are overwritten later, with the sequence of that."""
    events, newest = [], {}
    for number in range(account.images):
        key = f"{number:04}.jpg"
        event = made.upload(key, picture(number), sequence=1)
        newest[key] = etag_of(event)
        events += [event] * rng.choice((1, 1, 2, 3))
    rng.shuffle(events)
    made.notify(events)
    account.events = len(events)
    later = rng.sample(sorted(newest), account.images // 10)
    account.overwritten = len(later)
    return newest, [(key, 2) for key in later]


def _kill_until_done(
    made: Chain,
    account: Account,
    rng: random.Random,
    later: list[tuple[str, int]],
    newest: dict[str, str],
    kill_every_s: float,
    say: Callable[[str], None],
    deadline: float,
) -> None:
    next_kill = time.monotonic() + kill_every_s
    victims = [*WORKERS, "bridge"]
    rng.shuffle(victims)
    while time.monotonic() < deadline:
        if later and rng.random() < 0.5:  # an overwrite, whose event overtakes others or comes late
            key, sequence = later.pop()
            event = made.upload(key, picture(crc32(f"{key} {sequence}".encode())), sequence)
            newest[key] = etag_of(event)
            made.notify([event] * rng.choice((1, 2)))
            account.events += 1
        elif not later and len(made.outputs("thumbs")) == account.images and made.idle():
            return
        if time.monotonic() < next_kill:
            time.sleep(0.1)
            continue
        next_kill = time.monotonic() + kill_every_s
        name = victims.pop(0)
        victims.append(name)
        made.kill(name)
        account.kills[name] = account.kills.get(name, 0) + 1
        say(f"kill -9 {name}; {len(made.outputs('thumbs'))} of {account.images} images are done")
        made.start_bridge() if name == "bridge" else made.start_worker(name, concurrency=1)


def _count(made: Chain, account: Account, newest: dict[str, str]) -> None:
    account.deliveries = made.server.counts()["messages received"]
    for folder in ("resized", "thumbs"):
        found = made.outputs(folder)
        for key, etag in newest.items():
            if key not in found:
                account.lost.append(f"{folder}/{key}")
            elif made.source_etag(f"{folder}/{key}") != etag:
                account.stale.append(f"{folder}/{key}")
    account.dead = made.dead()
    account.left = [made.server.depth(made.prefix + name) for name in ("events", "tasks")]


def etag_of(event: str) -> str:
    return event.partition('"eTag": "')[2].partition('"')[0]

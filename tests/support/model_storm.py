"""A fault storm in one process: many uploads at once on modelled S3 and SQS, all that can go wrong, and an account.

The bridge and the tasks are the real ones (see ``pipeline.testing.model``). Each task may be interrupted before any of
its requests, by the soft time limit among others; any request may fail, or be done while its answer is lost, and a
process may be gone. Half of the tasks run in a process that has not published yet, whose look-up of the queue may fail.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from pipeline.core.names import failure_key
from pipeline.testing.model import INPUT, INTERRUPTS, Attempt, PipelineModel
from tests.support import own_route
from tests.support.objects import CONTENTS, PICTURES, expected

#: Objects that are under way together, and tasks that run together.
OBJECTS, WORKERS = 24, 6
#: What a request meets, and how many of them do; of those that look a queue up, how many fail.
TROUBLE = ("crash", "fail", "lose", *INTERRUPTS)
MEET_TROUBLE, LOOK_UP_FAILS = 0.1, 0.25


@dataclass
class ModelAccount:
    """What went in, what was done to it, and what came out."""

    uploads: int = 0
    deletions: int = 0
    events: int = 0
    trouble: Counter[tuple[str, str]] = field(default_factory=Counter)  # what, and before which operation
    objects: Counter[str] = field(default_factory=Counter)  # done, recorded, gone
    lost: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    orphaned: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.stale or self.orphaned)

    def count(self, what: str | None = None, operation: str | None = None) -> int:
        """How often this happened, there or anywhere."""
        return sum(
            number for (each, at), number in self.trouble.items() if what in (None, each) and operation in (None, at)
        )

    def __str__(self) -> str:
        kinds = sorted({what for what, _ in self.trouble})
        return "\n".join(
            [
                f"uploads     {self.uploads} of {self.objects.total()} objects, {self.deletions} deletions",
                f"events      {self.events}, in random order, some of them twice",
                f"trouble     {', '.join(f'{self.count(kind)} x {kind}' for kind in kinds)}",
                f"            {self.count(operation='GetQueueUrl')} of it at GetQueueUrl",
                f"objects     {', '.join(f'{number} {state}' for state, number in sorted(self.objects.items()))}",
                f"lost        {len(self.lost)} {self.lost[:5] or ''}",
                f"stale       {len(self.stale)} {self.stale[:5] or ''}",
                f"orphaned    {len(self.orphaned)} {self.orphaned[:5] or ''}",
            ]
        )


def model_storm(uploads: int, seed: int = 1) -> ModelAccount:
    """Goes on until so many uploads have come to rest; each batch of objects begins on an empty store."""
    account, rng = ModelAccount(), random.Random(seed)
    while account.uploads < uploads:
        with pytest.MonkeyPatch.context() as patch:
            _Batch(PipelineModel(patch, env={"ROUTES": own_route.NAMES}), account, rng).run()
    return account


class _Batch:
    def __init__(self, model: PipelineModel, account: ModelAccount, rng: random.Random) -> None:
        self._model, self._account, self._rng = model, account, rng
        suffixes = [key[key.rindex(".") :] for key in CONTENTS]
        self._keys = [f"{number:02}{rng.choice(suffixes)}" for number in range(OBJECTS)]
        #: What people do: each object is uploaded, some again, some are deleted then.
        self._plan = [*self._keys, *rng.choices(self._keys, k=OBJECTS // 3)]
        rng.shuffle(self._plan)

    def run(self) -> None:
        model = self._model
        try:
            while self._plan or model.events.bodies or model.visible() or model.attempts:
                self._rng.choice(self._moves())()
            model.settle()
            for key in self._keys:
                self._judge(key)
        finally:
            model.close()

    def _moves(self) -> list[Callable[[], None]]:
        model = self._model
        moves: list[Callable[[], None]] = [self._go] * (6 if model.attempts else 0)
        if self._plan:
            moves.append(self._act)
        if model.events.bodies:
            moves.append(self._bridge)
        if len(model.attempts) < WORKERS and model.visible():
            moves += [self._receive] * 2
        return moves

    def _act(self) -> None:
        model, rng, account = self._model, self._rng, self._account
        key = self._plan.pop()
        if model.s3.buckets[INPUT].current(key) is not None and rng.random() < 0.3:
            model.delete(key)
            account.deletions += 1
        else:
            model.upload(key, PICTURES[rng.choice(CONTENTS[_like(key)])])
            account.uploads += 1
        if rng.random() < 0.2:
            model.events.bodies.append(rng.choice(model.past_events))
        account.events = account.events + 1
        model.clock += rng.choice((0, 0, 1, 20, 61))

    def _bridge(self) -> None:
        events, is_killed = self._model.events, self._rng.random() < 0.05
        self._model.bridge(self._rng.randrange(len(events.bodies)), crash=is_killed)
        self._account.trouble["crash", "DeleteMessage"] += is_killed

    def _receive(self) -> None:
        self._model.receive(self._rng.choice(self._model.visible()))

    def _go(self) -> None:
        model, rng = self._model, self._rng
        attempt = rng.choice(model.attempts)
        order = self._order(attempt)
        if order != "go":
            self._account.trouble[order, attempt.at.partition(" ")[0]] += 1
        model.go(attempt, order)
        if not attempt.finished and rng.random() < 0.01:
            model.expire_visibility(attempt)
            self._account.trouble["expired visibility", attempt.at.partition(" ")[0]] += 1

    def _order(self, attempt: Attempt) -> str:
        rng = self._rng
        if attempt.at.startswith("GetQueueUrl") and rng.random() < LOOK_UP_FAILS:
            return "fail"
        if rng.random() >= MEET_TROUBLE:
            return "go"
        order = rng.choice(TROUBLE)
        is_request = not attempt.at.startswith(("start", "settle"))
        return order if is_request or order == "crash" else "go"

    def _judge(self, key: str) -> None:
        model, account = self._model, self._account
        name = f"{model.s3.requests.total()} {key}"  # tells batches apart
        found = {
            stored: version for stored, version in model.stored().items() if stored.split("/", 1)[1].startswith(key)
        }
        source = model.s3.buckets[INPUT].current(key)
        if source is None or source.data is None:
            account.objects["gone"] += 1
            account.orphaned += [f"{name}: {stored}" for stored in found]
            return
        if any(version.metadata["source-etag"] != source.etag for version in found.values()):
            account.stale.append(name)
        wanted, record = expected(key, source.data), found.pop(failure_key(key), None)
        if record is None:
            account.objects["done"] += 1
            if wanted is None or {each: version.data for each, version in found.items()} != {
                each: data for each, (data, _) in wanted.items()
            }:
                account.lost.append(name)
        else:
            account.objects["recorded"] += 1
            if wanted is not None and b'"retryable": true' not in (record.data or b""):
                account.lost.append(f"{name}: recorded without a reason")


def _like(key: str) -> str:
    return next(each for each in CONTENTS if each.endswith(key[key.rindex(".") :]))

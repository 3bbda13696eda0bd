"""Whatever is raised, at whatever line: a message is deleted only where what follows from it is in place.

Each case is run once for every line that it executes of the code which decides how a task ends, and at that line
something is raised that can be raised anywhere.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from pipeline import enqueue
from pipeline.celery import app
from pipeline.core.source import Source
from pipeline.sqs.settled import Effect
from pipeline.testing.model import INPUT, PipelineModel, TaskMessage
from tests.support import own_route
from tests.support.injection import terse
from tests.support.objects import PICTURES

__all__ = ["terse"]
pytestmark = pytest.mark.usefixtures("terse")
ROOT = Path(enqueue.__file__).parents[1]
#: What carries out how a task ends, and what it asks of the store and of the queue.
SETTLING = {
    str(ROOT / name)
    for name in (
        "tasks/base.py",
        "tasks/cleanup.py",
        "tasks/failures.py",
        "tasks/making.py",
        "tasks/convergence.py",
        "tasks/job.py",
        "pipeline/enqueue.py",
        "pipeline/sqs/settled.py",
    )
}
#: Functions of these modules that the worker itself calls.
OF_THE_WORKER = ("on_raise", "on_return", "raised")
#: What a signal, the allocator or the interpreter raises wherever a process is.
ANYWHERE = (SoftTimeLimitExceeded, MemoryError, OSError, SystemExit, KeyboardInterrupt)
KEY = "a.png"


@dataclass
class Interrupt:
    """Raises at the n-th line; counts how many there are."""

    kind: type[BaseException]
    at: int
    count: int = 0

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> Any:
        is_ours = frame.f_code.co_filename in SETTLING and frame.f_code.co_name not in OF_THE_WORKER
        return self.line if is_ours else None

    def line(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            self.count += 1
            if self.count == self.at:
                raise self.kind
        return self.line


@pytest.fixture
def model() -> Iterator[PipelineModel]:
    with pytest.MonkeyPatch.context() as patch:
        yield PipelineModel(patch, env={"ROUTES": own_route.NAMES})


def arrange_good(model: PipelineModel) -> None:
    model.upload(KEY, PICTURES["red"])


def arrange_bad(model: PipelineModel) -> None:
    model.upload(KEY, PICTURES["text"])


def arrange_overwritten(model: PipelineModel) -> None:
    model.upload(KEY, PICTURES["red"])
    model.upload(KEY, PICTURES["bright"])


def arrange_deleted(model: PipelineModel) -> None:
    model.upload(KEY, PICTURES["red"])
    model.s3.remove(INPUT, KEY)


def resize(model: PipelineModel) -> None:
    model.bridge(0)
    model.events.bodies.clear()


def on_its_last_try(model: PipelineModel) -> None:
    resize(model)
    model.tasks[0].headers["retries"] = model.settings.max_retries


def reconcile(model: PipelineModel) -> None:
    model.events.bodies.clear()
    enqueue.reconciliation(app, Source(INPUT, KEY)).apply_async()


CASES = [
    (arrange_good, resize),
    (arrange_bad, resize),
    (arrange_bad, on_its_last_try),
    (arrange_overwritten, resize),
    (arrange_deleted, resize),
    (arrange_good, reconcile),
]


def is_in_place(model: PipelineModel, before: TaskMessage) -> bool:
    """Whether what follows from a message is: its record, or the next message about the object."""
    following = [message for message in model.tasks if message is not before]
    assert all(json.loads(message.body)[0] for message in following)
    return bool(following) or f"failed/{KEY}.json" in model.stored()


@pytest.mark.parametrize(
    ("arrange", "enqueue_it", "kind"),
    # Of a bad file the first try runs lines that the last one runs too, but for the retry.
    [(*case, kind) for case in CASES for kind in ANYWHERE if case is not CASES[1] or kind is SoftTimeLimitExceeded],
)
def test_at_every_line(
    model: PipelineModel,
    arrange: Callable[[PipelineModel], None],
    enqueue_it: Callable[[PipelineModel], None],
    kind: type[BaseException],
) -> None:
    at, outcomes = 0, set()
    interrupt = Interrupt(kind, 0)
    arrange(model)
    enqueue_it(model)
    (arranged,) = model.tasks
    versions = {name: dict(bucket.versions) for name, bucket in model.s3.buckets.items()}
    while at <= interrupt.count:
        at += 1
        message = deepcopy(arranged)
        model.tasks[:] = [message]
        for name, bucket in model.s3.buckets.items():
            bucket.versions = {key: list(stored) for key, stored in versions[name].items()}
            bucket._sorted = None
        interrupt = Interrupt(kind, at)
        sys.settrace(interrupt)
        try:
            decision, exc = model.run(message)
        finally:
            sys.settrace(None)
        outcomes.add(decision.effect)
        if decision.effect is Effect.DELETE:
            assert is_in_place(model, message), f"line {at}: deleted, and nothing follows from it"
        elif at <= interrupt.count:
            # One that may be S3's is taken for a service that fails: then a copy takes the message's place.
            kept = (Effect.RELEASE, Effect.DEFER) if kind is OSError else (Effect.RELEASE,)
            assert decision.effect in kept, f"line {at}: {decision} {exc!r}"
    assert outcomes - {Effect.DEFER} == {Effect.DELETE, Effect.RELEASE}, "it was interrupted, and in the end it was not"
    assert at > 20, "the lines were not seen"

"""Whatever happens in whatever order: once quiet, what is stored is of the newest version, or there is nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from pipeline.core.names import failure_key
from pipeline.testing.model import INPUT, INTERRUPTS, Attempt, PipelineModel
from tests.support import own_route
from tests.support.injection import terse
from tests.support.objects import CONTENTS, PICTURES, expected

__all__ = ["terse"]
pytestmark = pytest.mark.usefixtures("terse")
#: Of each example, episodes; of the run, examples. The run by hand: CONVERGENCE_EXAMPLES=5000.
STEPS = 10
EXAMPLES = int(os.environ.get("CONVERGENCE_EXAMPLES", "25"))
#: Shrinking takes minutes: CONVERGENCE_SHRINK=1 asks for it.
PHASES = [Phase.generate, *([Phase.shrink] if "CONVERGENCE_SHRINK" in os.environ else [])]


TROUBLE = ["crash", "expiry", "fault", "interrupt", "outage", "wait", "delete", "undo", "repeat"]


def check(model: PipelineModel, key: str, *, faults: bool) -> None:
    """What is stored of one object, once everything is quiet."""
    found = {name: version for name, version in model.stored().items() if name.partition("/")[2].startswith(key)}
    source = model.s3.buckets[INPUT].current(key)
    if source is None or source.data is None:
        assert found == {}, "renditions or a record of what does not exist"
        return
    wanted = expected(key, source.data)
    record = found.pop(failure_key(key), None)
    if record is not None:
        assert record.metadata["source-etag"] == source.etag, "a record of an old version"
        assert wanted is None or (faults and b'"retryable": true' in (record.data or b"")), "a record without reason"
        assert all(version.metadata["source-etag"] == source.etag for version in found.values()), "stale"
        # Two chains on the same version: one gave up, and the other, enqueued before that, came to its end long after.
        alike = [version for version in model.s3.buckets[INPUT].versions[key] if version.etag == source.etag]
        assert len(found) < 2 or len(alike) > 1
        return
    assert wanted is not None, "no record of a failure"
    assert {name: (version.data, version.content_type) for name, version in found.items()} == wanted
    assert all(version.metadata["source-etag"] == source.etag for version in found.values()), "stale"


class Convergence(RuleBasedStateMachine):
    """Episodes about one object: a person does a few things while machines do their steps; then all comes to rest.

    A slip shows only where nothing that happens later repairs it, so each episode is short and each example has
    only some kinds of trouble.
    """

    def __init__(self, model: PipelineModel) -> None:
        super().__init__()
        self.model = model
        self.trouble: set[str] = set()
        self.key = ""
        self.left = 0  # what the person will still do
        self.faults = False

    @initialize(trouble=st.sets(st.sampled_from(TROUBLE), max_size=2))
    def choose(self, trouble: set[str]) -> None:
        self.trouble = trouble

    @rule(
        key=st.sampled_from(sorted(CONTENTS)),
        first=st.integers(0, 255),
        left=st.integers(0, 3),
        choices=st.binary(min_size=300, max_size=300),
    )
    def episode(self, key: str, first: int, left: int, choices: bytes) -> None:
        """Two bytes for what happens next, one for the details of what a person does."""
        self.key, self.left = key, left
        self.upload(first)
        for high, low, detail in zip(choices[::3], choices[1::3], choices[2::3], strict=False):
            moves = self.moves(detail)
            if not moves:
                break
            moves[(high * 256 + low) % len(moves)]()
        self.come_to_rest()

    def moves(self, detail: int) -> list[Callable[[], object]]:
        """What may happen next, each as often as it is likely."""
        model, trouble, key = self.model, self.trouble, self.key
        moves: list[Callable[[], object]] = []
        for index in range(len(model.events.bodies)):
            moves += [partial(model.bridge, index)] * 9
            moves += [partial(model.bridge, index, crash=True)] * ("crash" in trouble)
        for message in model.visible():
            moves += [partial(model.receive, message)] * 6
        for attempt in model.attempts:
            # Some are slow to write what they know: it may be stale by then.
            is_slow = attempt.serial % 2 == 0 and attempt.at.startswith(("Put", "Delete", "publish"))
            moves += [partial(model.go, attempt)] * (1 if is_slow else 40)
            moves += [partial(model.go, attempt, "crash")] * ("crash" in trouble)
            moves += [partial(model.expire_visibility, attempt)] * ("expiry" in trouble)
            moves += [partial(self.fault, attempt, "fail"), partial(self.fault, attempt, "lose")] * ("fault" in trouble)
            if "interrupt" in trouble:
                moves += [partial(self.fault, attempt, order) for order in INTERRUPTS]
        if "outage" in trouble and model.attempts:
            moves += [self.begin_or_end_outage] * 2
        if model.tasks and "wait" in trouble:
            moves += [partial(self.wait, seconds) for seconds in (5, 59, 61, 91, 91, 91)]
        if self.left:
            moves += [partial(self.act, self.upload, detail)] * 15
            if "delete" in trouble and model.s3.buckets[INPUT].current(key) is not None:
                moves += [partial(self.act, model.delete, key)] * 8
            if "undo" in trouble and model.s3.buckets[INPUT].versions.get(key):
                moves += [partial(self.act, model.undo, key)] * 5
        if "repeat" in trouble and model.past_events:
            event = model.past_events[-1 - detail % min(len(model.past_events), 4)]
            moves.append(partial(model.events.bodies.append, event))
        return moves

    def act(self, action: Callable[..., object], *details: object) -> None:
        self.left -= 1
        action(*details)

    def upload(self, detail: int) -> None:
        names = CONTENTS[self.key]
        self.model.upload(self.key, PICTURES[names[detail % len(names)]])

    def fault(self, attempt: Attempt, order: str) -> None:
        self.faults = True
        self.model.go(attempt, order)

    def begin_or_end_outage(self) -> None:
        self.model.is_outage = not self.model.is_outage

    def wait(self, seconds: int) -> None:
        self.model.clock += seconds

    def come_to_rest(self) -> None:
        self.model.settle()
        for key in CONTENTS:
            check(self.model, key, faults=self.faults)

    def teardown(self) -> None:
        try:
            self.come_to_rest()
        finally:
            self.model.close()


@contextmanager
def modelled(*, sequencers: bool) -> Iterator[Callable[[], Convergence]]:
    """Makes state machines, each on a fresh model."""
    patches: list[pytest.MonkeyPatch] = []

    def fresh() -> Convergence:
        while patches:
            patches.pop().undo()
        patches.append(pytest.MonkeyPatch())
        return Convergence(PipelineModel(patches[-1], sequencers=sequencers, env={"ROUTES": own_route.NAMES}))

    try:
        yield fresh
    finally:
        while patches:
            patches.pop().undo()


@pytest.mark.parametrize("sequencers", [True, False], ids=["sequencers", "no sequencers"])
def test_it_converges(sequencers: bool) -> None:
    with modelled(sequencers=sequencers) as fresh:
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            fresh,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                derandomize="CONVERGENCE_EXAMPLES" not in os.environ,
                phases=[
                    Phase.explicit,
                    Phase.generate,
                    *([Phase.shrink] if "CONVERGENCE_SHRINK" in os.environ else []),
                ],
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )

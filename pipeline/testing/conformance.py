"""Runs routes through all that may happen, and says what broke: see ``check_routes``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from pipeline.core.errors import TransientError
from pipeline.core.provenance import Provenance
from pipeline.core.routes import Routes
from pipeline.core.source import Source
from pipeline.operations.audit.audit import Audit
from pipeline.operations.audit.classify import Status
from pipeline.s3.content import look
from pipeline.testing.model import INPUT, INTERRUPTS, Attempt, PipelineModel
from pipeline.testing.patches import Patches

#: Seconds that pass where a scenario waits: more than a write may take to land unchecked.
LATE_S = 61


class BrokenRoute(AssertionError):
    """What a route does not hold to, in which scenario, at which step."""


@dataclass(frozen=True, slots=True)
class Made:
    """What is stored of one version of an object that nothing happened to."""

    outputs: Mapping[str, tuple[bytes | None, str]]  # bytes (None: not the same each time) and content type, by name
    reason: str | None = None  # of its failure record, where it has one


Scenario = Callable[["_Run", int], bool]


def check_routes(
    modules: str, uploads: Mapping[str, Sequence[bytes]], *, settings: Mapping[str, str] | None = None
) -> int:
    """Raises ``BrokenRoute``, with what broke; returns how many runs held.

    ``modules``: as ROUTES names them. ``uploads``: by key, the contents that it has one after another, at least two;
    bad ones too, which are to end as failure records. ``settings``: other variables.

    Whatever happens, once all is quiet there must be exactly what a run makes to which nothing happens, of the newest
    version; or nothing, where the object is gone; or a failure record, of that version, where it is bad or a service
    failed to the last try. ``audit`` must say the same. Nothing may be left in a queue.
    """
    env = {"ROUTES": modules, **(settings or {})}
    runs = 0
    for key, contents in uploads.items():
        if len(contents) < 2:
            raise ValueError(f"{key}: give at least two contents, so that it can be overwritten")
        made = [_undisturbed(env, key, data) for data in contents]
        for scenario in SCENARIOS:
            for step in count():
                with _model(env) as model:
                    run = _Run(model, key, contents, made, scenario.__name__.strip("_").replace("_", " "))
                    reached = scenario(run, step)
                    run.come_to_rest()
                runs += 1
                if not reached:
                    break
    return runs


@contextmanager
def _model(env: Mapping[str, str]) -> Iterator[PipelineModel]:
    with Patches() as patches:
        model = PipelineModel(patches, env=env)
        try:
            yield model
        finally:
            model.close()


def _undisturbed(env: Mapping[str, str], key: str, data: bytes) -> Made:
    """Twice, to tell whether the same object gives the same bytes."""
    found = []
    for _ in range(2):
        with _model(env) as model:
            model.upload(key, data)
            model.settle()
            routes = Routes.load(model.settings, look)
            route = routes.match(Source(INPUT, key))
            if route is None:
                raise BrokenRoute(f"{key}: no route takes it: {routes.skip_reason(Source(INPUT, key))}")
            stored = model.stored()
            failed = model.settings.failed_folder
            record = next((each for name, each in stored.items() if name.startswith(failed)), None)
            if record is not None:
                reason = str(json.loads(record.data or b"{}").get("reason"))
                if reason == TransientError.reason:
                    raise BrokenRoute(f"{key}: {json.loads(record.data or b'{}').get('message')}")
                found.append(Made({}, reason))
                continue
            if not route.complete(key, stored):
                missing = [output.name(key) for output in route.outputs if output.name(key) not in stored]
                raise BrokenRoute(
                    f"{key}: all tasks of route {route.name} have ended, and {', '.join(missing)} is missing"
                )
            strange = set(stored) - route.complete(key, stored)
            if strange:
                raise BrokenRoute(f"{key}: {', '.join(sorted(strange))} is no output of route {route.name}")
            found.append(Made({name: (each.data, each.content_type) for name, each in stored.items()}))
    first, second = found
    if first.outputs.keys() != second.outputs.keys() or first.reason != second.reason:
        raise BrokenRoute(f"{key}: the same object is stored under other names each time, or fails only sometimes")
    same = {
        name: (data if second.outputs[name][0] == data else None, kind) for name, (data, kind) in first.outputs.items()
    }
    return Made(same, first.reason)


class _Run:
    """One model, one key, one scenario."""

    def __init__(
        self, model: PipelineModel, key: str, contents: Sequence[bytes], made: Sequence[Made], scenario: str
    ) -> None:
        self.model = model
        self.key = key
        self.contents = contents
        self.scenario = scenario
        self.at = ""
        self.may_give_up = False  # a service failed, so it may end as a record that says so
        self._made = dict(zip(contents, made, strict=True))

    def upload(self, version: int = 0) -> None:
        self.model.upload(self.key, self.contents[version])

    def bridge(self, index: int = 0) -> None:
        self.model.bridge(index)

    def attempts(self) -> Iterator[Attempt]:
        """Each before its next step, until no task is due; whoever is given one lets it go on."""
        while visible := self.model.visible():
            attempt = self.model.receive(visible[0])
            while attempt is not None and not attempt.finished:
                self.at = f"{attempt.message.name} before {attempt.at}"
                yield attempt

    def come_to_rest(self) -> None:
        """Raises ``BrokenRoute``."""
        try:
            self.model.settle()
        except Exception as exc:  # whatever the model or the task raises outside of a task's own ways to end
            raise self.broken(f"{type(exc).__name__}: {exc}") from exc
        self._check_stored()
        self._check_audit()

    def broken(self, what: str) -> BrokenRoute:
        return BrokenRoute(f"{self.key}: {self.scenario}, at {self.at or 'the end'}: {what}")

    def _check_stored(self) -> None:
        stored, source = self.model.stored(), self.model.s3.buckets[INPUT].current(self.key)
        if source is None or source.data is None:
            if stored:
                raise self.broken(f"the object is gone, and {', '.join(stored)} is left")
            return
        old = [name for name, each in stored.items() if Provenance.read(each.metadata).etag != source.etag]
        if old:
            raise self.broken(f"{', '.join(old)} is of an older version")
        made = self._made[source.data]
        record = next((name for name in stored if name.startswith(self.model.settings.failed_folder)), None)
        if record is not None:
            said = json.loads(stored[record].data or b"{}")
            if said.get("reason") == made.reason or (self.may_give_up and said.get("retryable")):
                return
            raise self.broken(f"it failed: {said.get('reason')}: {said.get('message')}")
        if made.reason is not None:
            raise self.broken(f"it has no failure record, and {', '.join(stored) or 'nothing'} is stored")
        if stored.keys() != made.outputs.keys():
            raise self.broken(f"stored is {', '.join(stored) or 'nothing'}, not {', '.join(made.outputs)}")
        for name, (data, content_type) in made.outputs.items():
            if data not in (None, stored[name].data) or stored[name].content_type != content_type:
                raise self.broken(f"{name} is another than when nothing happens")

    def _check_audit(self) -> None:
        with Audit(Routes.load(self.model.settings, look), INPUT, full=True) as audit:
            found = +audit.run().counts
        wrong = {status for status in found if status not in (Status.DONE, Status.FAILED)}
        if wrong:
            raise self.broken(f"audit calls it {', '.join(status.value for status in wrong)}")


def _nothing_happens(run: _Run, step: int) -> bool:
    run.upload()
    return False


def _every_message_comes_twice(run: _Run, step: int) -> bool:
    run.upload()
    run.model.events.bodies *= 2
    for _ in range(2):
        run.bridge()
    for attempt in run.attempts():
        run.model.go(attempt)
    return False


def _events_in_the_wrong_order(run: _Run, step: int) -> bool:
    for version in range(len(run.contents)):
        run.upload(version)
    while run.model.events.bodies:
        run.bridge(len(run.model.events.bodies) - 1)
    for message in reversed(run.model.visible()):
        run.model.receive(message)
    for attempt in list(run.model.attempts):
        while not attempt.finished:
            run.model.go(attempt)
    return False


def _at_each_step(meanwhile: Callable[[_Run, Attempt], object]) -> Scenario:
    def scenario(run: _Run, step: int) -> bool:
        run.upload()
        run.bridge()
        for number, attempt in enumerate(run.attempts()):
            if number == step:
                meanwhile(run, attempt)
                return True
            run.model.go(attempt)
        return False

    scenario.__name__ = meanwhile.__name__
    return scenario


def _overwritten(run: _Run, attempt: Attempt) -> None:
    run.upload(1)


def _overwritten_and_late(run: _Run, attempt: Attempt) -> None:
    """The newer version is done first; then the older one goes on where it stands."""
    run.upload(1)
    run.model.clock += LATE_S
    run.model.settle_others(attempt)


def _overwritten_by_every_version(run: _Run, attempt: Attempt) -> None:
    for version in range(1, len(run.contents)):
        run.upload(version)
        run.bridge()


def _deleted(run: _Run, attempt: Attempt) -> None:
    run.model.delete(run.key)


def _deleted_and_late(run: _Run, attempt: Attempt) -> None:
    run.model.delete(run.key)
    run.model.settle_others(attempt)


def _process_killed(run: _Run, attempt: Attempt) -> None:
    run.model.go(attempt, "crash")


def _taken_for_dead(run: _Run, attempt: Attempt) -> None:
    """Another worker gets its message, while it is still at work."""
    run.model.expire_visibility(attempt)
    other = run.model.receive(attempt.message)
    while other is not None and not other.finished:
        run.model.go(other)


def _request_fails(run: _Run, attempt: Attempt) -> None:
    run.may_give_up = True
    run.model.go(attempt, "fail")


def _answer_lost(run: _Run, attempt: Attempt) -> None:
    run.may_give_up = True
    run.model.go(attempt, "lose")


def _out_of_time(run: _Run, attempt: Attempt) -> None:
    run.may_give_up = True
    run.model.go(attempt, next(iter(INTERRUPTS)))


def _cold_caches(run: _Run, step: int) -> bool:
    """Every process is one that has not published yet."""
    while next(run.model.serials) % 2:
        pass
    run.upload()
    run.bridge()
    for attempt in run.attempts():
        attempt.serial = 2 * attempt.serial
        run.model.go(attempt)
    return False


SCENARIOS: tuple[Scenario, ...] = (
    _nothing_happens,
    _every_message_comes_twice,
    _events_in_the_wrong_order,
    _cold_caches,
    *map(
        _at_each_step,
        (
            _overwritten,
            _overwritten_and_late,
            _overwritten_by_every_version,
            _deleted,
            _deleted_and_late,
            _process_killed,
            _taken_for_dead,
            _request_fails,
            _answer_lost,
            _out_of_time,
        ),
    ),
)

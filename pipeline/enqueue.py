"""Puts work into the tasks queue: for an object the chain of its route's tasks, or a ``reconcile`` task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.aws.plain_errors import PlainError
from pipeline.core.errors import MessageError, TransientError
from pipeline.core.source import Source

if TYPE_CHECKING:
    from celery.canvas import Signature
    from celery.result import AsyncResult

    from pipeline.celery import PipelineApp
    from pipeline.core.settings import Settings

RECONCILE = "tasks.reconcile"
#: Set in a task's argument, and in its result for the next task, if outputs of the object may exist already.
CHECK_EXISTING = "check_existing"
FIND_ROUTE = "tasks.find_route"


class Purpose(Enum):
    """What to do with an object."""

    PROCESS = "process"  # run the chain of its route's tasks
    RECONCILE = "reconcile"  # remove outdated outputs and records
    FIND_ROUTE = "find_route"  # a worker finds its route, and enqueues it


@dataclass(frozen=True, slots=True)
class Assignment:
    """What to enqueue for one object."""

    source: Source
    purpose: Purpose = Purpose.PROCESS
    route: str | None = None  # its name, if it is known already


def check_bucket(settings: Settings, source: Source) -> None:
    """Raises ``MessageError`` for an object of a bucket that INPUT_BUCKET does not name."""
    foreign = settings.foreign_reason(source.bucket)
    if foreign is not None:
        raise MessageError(f"{source.uri}: {foreign}")


def work(app: PipelineApp, source: Source, *, route: str | None = None, check_existing: bool = False) -> Signature:
    """The chain of tasks for one object, by its route; sends nothing.

    ``check_existing``: a failure record or outputs of it may exist. Tasks of manually enqueued objects always check.
    Raises ``MessageError`` if no route is named and none takes it, and as ``check_bucket`` does.
    """
    from celery import chain

    check_bucket(app.settings, source)
    shown = {"argsrepr": f"{source.bucket}/{source.key}"}
    known = source.to_json() | ({CHECK_EXISTING: True} if check_existing else {})
    first, *others = app.routes.resolve(source, route).steps
    return chain(
        app.signature(first.task, args=(known,), kwargs=dict(first.arguments), options=shown),
        *(app.signature(step.task, kwargs=dict(step.arguments), options=shown) for step in others),
        app=app,
    )


def reconciliation(app: PipelineApp, source: Source, **flags: bool) -> Signature:
    """The task that removes outdated outputs of one object; sends nothing.

    ``flags``: the task's ``second_look`` and ``thorough``.
    """
    check_bucket(app.settings, source)
    known = {name: True for name, is_set in flags.items() if is_set}
    shown = f"{source.bucket}/{source.key}"
    return app.signature(RECONCILE, args=(source.to_json(),), kwargs=known, options={"argsrepr": shown})


def search(app: PipelineApp, source: Source) -> Signature:
    """The task that finds the route of one object, and enqueues it; sends nothing."""
    check_bucket(app.settings, source)
    shown = f"{source.bucket}/{source.key}"
    return app.signature(FIND_ROUTE, args=(source.to_json(),), options={"argsrepr": shown})


def send(signature: Signature, *, countdown_s: int = 0) -> None:
    """Sends a task or chain from inside a task. Raises ``TransientError`` if the broker does not accept it.

    Other errors, such as the task's own time limit, are passed on.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from kombu.exceptions import OperationalError

    try:
        signature.apply_async(countdown=countdown_s or None)
    except (PlainError, ClientError, BotoCoreError, OperationalError, OSError) as exc:
        raise TransientError(f"could not enqueue {signature.task}: {exc}") from exc


def process(
    source: str | dict[str, Any] | Source, *, route: str | None = None, app: PipelineApp | None = None
) -> AsyncResult:
    """Enqueues one object: ``process("s3://bucket/a/b.jpg")``.

    ``source`` is a URI, whose key is taken literally, or a ``Source`` (or its JSON form) that also
    names a version. ``route``: a route's name; by default the first route that takes the object.
    Returns the result of the chain's last task; waiting for it needs RESULT_BACKEND.
    Raises ``MessageError`` for a source that names no object, that no route takes, or that is of a foreign bucket.
    """
    app = _default_app() if app is None else app
    return work(app, Source.parse(source), route=route).apply_async()


class NotEnqueued(TransientError):
    """The objects ``sources`` are not in the queue; all others of the call are.

    ``is_outage``: none is, because the service fails; False: SQS rejected only these.
    """

    def __init__(self, sources: Sequence[Source], reason: str, *, is_outage: bool = False) -> None:
        self.sources = tuple(sources)
        self.is_outage = is_outage
        super().__init__(f"{len(self.sources)} objects were not enqueued, enqueue them again: {reason}")


def process_many(
    sources: Iterable[Source],
    *,
    app: PipelineApp | None = None,
    check_existing: Callable[[str], bool] = lambda _: False,
) -> None:
    """Enqueues many objects, ten per call. Returns when all are in the queue; raises ``NotEnqueued``.

    ``check_existing`` is called with each key: see ``work``.
    """
    assign((Assignment(source) for source in sources), app=app, check_existing=check_existing)


def reconcile_many(sources: Iterable[Source], *, app: PipelineApp | None = None, thorough: bool = False) -> None:
    """As ``process_many``, for ``reconcile``."""
    app = _default_app() if app is None else app
    due = partial(reconciliation, app, thorough=thorough)
    _enqueue_all(((source, partial(due, source)) for source in sources), app)


def assign(
    assignments: Iterable[Assignment],
    *,
    app: PipelineApp | None = None,
    check_existing: Callable[[str], bool] = lambda _: False,
) -> None:
    """As ``process_many``, for all purposes together."""
    app = _default_app() if app is None else app

    def due(assignment: Assignment) -> Signature:
        source = assignment.source
        match assignment.purpose:
            case Purpose.PROCESS:
                return work(app, source, route=assignment.route, check_existing=check_existing(source.key))
            case Purpose.RECONCILE:
                return reconciliation(app, source)
            case Purpose.FIND_ROUTE:
                return search(app, source)

    _enqueue_all(((each.source, partial(due, each)) for each in assignments), app)


def _enqueue_all(signatures: Iterable[tuple[Source, Callable[[], Signature]]], app: PipelineApp) -> None:
    from pipeline.sqs.transport.publishing import PublishError, batched

    waiting = iter(signatures)
    by_root_id: dict[str, Source] = {}
    trying: list[Source] = []
    try:
        with batched(app):
            for source, due in waiting:
                trying = [source]
                by_root_id[_root_id(due().apply_async())] = source
                trying = []
    except PublishError as exc:
        unsent = [source for root_id, source in by_root_id.items() if root_id in exc.root_ids]
        unsent += [*trying, *(source for source, _ in waiting)]
        is_outage = not exc.is_refusal and len(unsent) >= len(by_root_id) + len(trying)
        raise NotEnqueued(unsent, str(exc), is_outage=is_outage) from exc


def _root_id(result: AsyncResult) -> str:
    """The id of a chain's first task, which its messages have in common."""
    while result.parent is not None:
        result = result.parent
    root_id: str = result.id
    return root_id


def _default_app() -> PipelineApp:
    from pipeline.celery import app

    return app

"""``python -m pipeline backfill``: enqueues objects that are in a bucket already.

They are processed like uploads, so a worker skips an object that is done, whatever happened since the listing.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import click

from pipeline.aws import queues
from pipeline.aws.backoff import Backoff
from pipeline.celery import make_app
from pipeline.core import console
from pipeline.core.errors import PipelineError
from pipeline.core.queue_names import TASKS_QUEUE
from pipeline.core.routes import Routes
from pipeline.core.settings import Settings
from pipeline.core.source import Source, place
from pipeline.core.times import age, parse_time
from pipeline.enqueue import NotEnqueued, process_many
from pipeline.operations import own_queues
from pipeline.operations.unreadable import Unreadable, unreadable
from pipeline.s3.listing import list_objects
from pipeline.s3.storage import Found

#: Objects per batch: ten calls.
BATCH = 100
#: Default limit of messages in the tasks queue, above which it waits.
MAX_QUEUED = 10_000
#: Key of the stack's name in click's ``meta``.
STACK = "pipeline.stack"
#: Seconds between checks of a full queue.
PAUSE_S = 5.0
#: Before retrying messages that SQS did not accept.
BACKOFF = Backoff(2, 15)
MAX_TRIES = 5


@dataclass(slots=True)
class Backfill:
    """One run over a listing. ``last_key``: the last key that was enqueued or skipped.

    ``enqueue`` raises ``NotEnqueued`` for a part of its batch; ``has_room`` waits until the queue has room;
    ``on_unreadable`` is called for each object whose route can't be determined; it is skipped.
    """

    routes: Routes
    bucket: str
    enqueue: Callable[[list[Source]], None]
    has_room: Callable[[], None]
    on_unreadable: Callable[[Unreadable], None]
    newer_than: datetime | None = None
    last_key: str = ""
    enqueued: int = 0
    skipped: int = 0
    unreadable: int = 0

    def run(self, listing: Iterator[Found], on_progress: Callable[[int], None] = lambda _: None) -> None:
        """Raises ``PipelineError``; ``last_key`` then says where to continue."""
        for batch, last in self._batches(listing):
            if batch:
                self.has_room()
                self._enqueue(batch)
                self.enqueued += len(batch)
            self.last_key = last
            on_progress(self.enqueued)

    def _batches(self, listing: Iterator[Found]) -> Iterator[tuple[list[Source], str]]:
        """Batches to enqueue, each with the last key that it covers. Yields what it has before it raises an error."""
        batch: list[Source] = []
        last = self.last_key
        try:
            for found in listing:
                source = Source(self.bucket, found.key, etag=found.etag, size=found.size)
                if self._is_due(source, found.modified):
                    batch.append(source)
                last = found.key
                if len(batch) == BATCH:
                    yield batch, last
                    batch = []
        except PipelineError:
            yield batch, last
            raise
        yield batch, last

    def _is_due(self, source: Source, modified: datetime) -> bool:
        try:
            if (self.newer_than is None or modified > self.newer_than) and self.routes.match(source) is not None:
                return True
        except Exception as exc:  # whatever a rule for the content raises
            self.on_unreadable(unreadable(source, exc))
            self.unreadable += 1
            return False
        self.skipped += 1
        return False

    def _enqueue(self, batch: list[Source]) -> None:
        for attempt in range(1, MAX_TRIES + 1):
            try:
                self.enqueue(batch)
            except NotEnqueued as exc:
                if attempt == MAX_TRIES:
                    raise
                batch = list(exc.sources)
                time.sleep(BACKOFF.pause_s(attempt))
            else:
                return


def wait_for_room(url: str, limit: int, say: Callable[[str], None]) -> None:
    """Waits until fewer than ``limit`` messages are in the queue. Raises ``PipelineError``."""
    while (waiting := queues.depth(url)) >= limit:
        say(f"waiting: {console.pluralize(waiting, 'message')} in the queue")
        time.sleep(PAUSE_S)


def backfill(
    target: str,
    *,
    start_after: str,
    newer_than: str | None,
    max_queued: int,
    dry_run: bool,
    expected: int | None = None,
) -> int:
    """Returns the exit status: 1 if objects could not be read. Raises ``PipelineError``.

    ``expected``: the number of objects to enqueue, if known.
    """
    settings = Settings.from_env()
    bucket, prefix = place(target)
    since = None if newer_than is None else parse_time(newer_than)
    listing = list_objects(bucket, prefix, after=start_after)
    app = make_app(settings)
    if dry_run:
        run = Backfill(app.routes, bucket, _print_all, lambda: None, _name, since, start_after)
        run.run(listing)
        console.echo_err(f"{console.pluralize(run.enqueued, 'object')} would be enqueued, {_beside(run)}.")
        return 1 if run.unreadable else 0
    url = own_queues.url_of(settings, TASKS_QUEUE)
    remaining = _remaining(expected)
    with console.progress("Enqueuing", total=expected) as bar:
        run = Backfill(
            app.routes,
            bucket,
            partial(process_many, app=app),
            lambda: wait_for_room(url, max_queued, lambda text: bar(run.enqueued, text)),
            _name,
            since,
            start_after,
        )
        try:
            run.run(listing, lambda done: bar(done, remaining(done)))
        except BaseException:
            console.echo_err(
                f"{console.pluralize(run.enqueued, 'object')} enqueued, {_beside(run)}, then it stopped. To go on:"
            )
            console.echo_err(_command(target, since, max_queued, run.last_key))
            raise
    console.echo_err(f"{console.pluralize(run.enqueued, 'object')} enqueued, {_beside(run)}.")
    return 1 if run.unreadable else 0


def _name(found: Unreadable) -> None:
    console.echo_err(f"not enqueued: {found.message}")


def _beside(run: Backfill) -> str:
    return f"{run.skipped:,} skipped" + (f", {run.unreadable:,} unreadable" if run.unreadable else "")


def _print_all(batch: list[Source]) -> None:
    for source in batch:
        click.echo(source.uri)


def _remaining(expected: int | None) -> Callable[[int], str]:
    """Estimates the remaining time from the number of enqueued objects; time spent waiting for room counts."""
    started = time.monotonic()

    def text(done: int) -> str:
        if not (expected and done):
            return ""
        left_s = (time.monotonic() - started) / done * max(0, expected - done)
        return f"about {age(left_s)} left"

    return text


def _command(target: str, since: datetime | None, max_queued: int, last_key: str) -> str:
    """The command that continues later: it has a fixed time, since an age would mean another time then."""
    words = ["python", "-m", "pipeline", "backfill", target]
    context = click.get_current_context(silent=True)
    stack = None if context is None else context.meta.get(STACK)
    if stack is not None:
        words += ["--stack", stack]
    if since is not None:
        words += ["--newer-than", since.isoformat()]
    if max_queued != MAX_QUEUED:
        words += ["--max-queued", str(max_queued)]
    if last_key:
        words += ["--start-after", last_key]
    return "  " + shlex.join(words)

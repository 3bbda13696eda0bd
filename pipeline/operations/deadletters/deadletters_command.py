"""``python -m pipeline deadletters …``: its output and its questions."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import click

from pipeline.aws import queues
from pipeline.core import console
from pipeline.core.errors import PipelineError
from pipeline.core.queue_names import QUEUES
from pipeline.core.settings import Settings
from pipeline.core.times import age
from pipeline.operations import own_queues
from pipeline.operations.deadletters.letter import DeadLetter
from pipeline.operations.deadletters.queue import DeadLetterQueue
from pipeline.operations.deadletters.redrive import Unsupported, move, send_each

#: Exit status if some dead letters were not read; the command has handled all others.
NOT_ALL = 3


@dataclass(slots=True)
class LetterGroup:
    """Dead letters with the same queue, task and kind of reason. ``example``: the object or message of the oldest."""

    queue: str
    task: str
    reason: str
    count: int
    oldest: datetime
    example: str


class LetterReader:
    """Iterates over the dead letters of some queues, up to ``limit`` of each, with their queue.

    A context manager, which releases all of them at the end.
    """

    def __init__(self, settings: Settings, names: Sequence[str], limit: int) -> None:
        self.count = 0
        self._limit = limit
        self._exits = ExitStack()
        self._queues = [self._exits.enter_context(DeadLetterQueue(settings, name)) for name in names]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    @property
    def unseen(self) -> dict[str, int]:
        """The approximate number of letters that were not read, by the queue's full name."""
        return {queue.full_name: queue.unseen for queue in self._queues}

    def __iter__(self) -> Iterator[tuple[DeadLetterQueue, DeadLetter]]:
        for queue in self._queues:
            for letter in queue.receive(self._limit):
                self.count += 1
                yield queue, letter


def report_unseen(unseen: Mapping[str, int]) -> int:
    """Prints about how many letters of each queue (by its full name) were not read; returns the exit status."""
    for queue, count in unseen.items():
        if count:
            console.echo_err(
                f"About {console.pluralize(count, 'dead letter')} of queue {queue} were not read: beyond --limit, "
                "received by somebody else just now, new, or counted by SQS a minute late. Run it again to be sure."
            )
    return NOT_ALL if any(unseen.values()) else 0


def chosen(only: str | None) -> Callable[[DeadLetter], bool]:
    """A filter of letters: those whose reason contains ``only``, ignoring case; None: all."""
    if only is None:
        return lambda _: True
    text = only.lower()
    return lambda letter: text in letter.reason.lower() or text in letter.kind_of_reason.lower()


def groups(letters: Iterator[DeadLetter]) -> list[LetterGroup]:
    """Groups the letters; the largest group comes first."""
    found: dict[tuple[str, str, str], LetterGroup] = {}
    for letter in letters:
        key = (letter.queue, letter.task, letter.kind_of_reason)
        group = found.setdefault(key, LetterGroup(*key, 0, letter.sent, letter.example))
        group.count += 1
        if letter.sent < group.oldest:
            group.oldest, group.example = letter.sent, letter.example
    return sorted(found.values(), key=lambda group: -group.count)


def list_(names: Sequence[str], *, only: str | None, limit: int, as_json: bool) -> int:
    wanted = chosen(only)
    with LetterReader(Settings.from_env(), names, limit) as letters, console.progress("Reading") as bar:
        found = groups(letter for _, letter in _followed(letters, bar) if wanted(letter))
    if as_json:
        rows = [
            {
                "queue": group.queue,
                "task": group.task,
                "reason": group.reason,
                "count": group.count,
                "oldest": group.oldest.isoformat(timespec="seconds"),
                "example": group.example,
            }
            for group in found
        ]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return report_unseen(letters.unseen)
    now = datetime.now(UTC)
    console.print_table(
        ["queue", "task", "count", "oldest", "reason", "for example"],
        [
            [
                group.queue,
                group.task,
                f"{group.count:,}",
                age((now - group.oldest).total_seconds()),
                group.reason,
                group.example,
            ]
            for group in found
        ],
        right=["count", "oldest"],
    )
    console.echo_err(f"{console.pluralize(sum(group.count for group in found), 'dead letter')}.")
    return report_unseen(letters.unseen)


def _followed(letters: LetterReader, bar: console.Bar) -> Iterator[tuple[DeadLetterQueue, DeadLetter]]:
    for each in letters:
        bar(letters.count)
        yield each


def show(ids: Sequence[str], names: Sequence[str], *, only: str | None, limit: int) -> int:
    """Prints whole messages; returns 1 if all letters were read and none was found."""
    wanted, found = chosen(only), 0
    with LetterReader(Settings.from_env(), names, limit) as letters:
        for _, letter in letters:
            if (ids and not letter.message_id.startswith(tuple(ids))) or not wanted(letter):
                continue
            found += 1
            click.echo(json.dumps(letter.to_json() | {"body": letter.readable_body()}, indent=2, ensure_ascii=False))
    if not found:
        console.echo_err("No such dead letter.")
    return report_unseen(letters.unseen) or (0 if found else 1)


def redrive(names: Sequence[str], *, only: str | None, limit: int | None, per_s: float | None) -> int:
    settings = Settings.from_env()
    total, unseen = 0, {}
    for name in names:
        destination = own_queues.url_of(settings, name)
        with DeadLetterQueue(settings, name) as dead:
            with console.progress(f"Sending back {name}", queues.depth(dead.url)) as bar:
                moved = _redrive(dead, destination, only, limit, per_s, bar)
            unseen[dead.full_name] = dead.unseen
        if moved:
            console.echo_err(f"{console.pluralize(moved, 'dead letter')} sent back to queue {name}.")
        total += moved
    if not total:
        console.echo_err("Nothing to send back.")
    return report_unseen(unseen)


def _redrive(
    dead: DeadLetterQueue,
    destination: str,
    only: str | None,
    limit: int | None,
    per_s: float | None,
    bar: console.Bar,
) -> int:
    if only is None and limit is None:
        try:
            return move(dead, destination, per_s, bar)
        except Unsupported:
            pass  # then one by one
    return send_each(dead, destination, chosen(only), limit, per_s, bar)


def export(names: Sequence[str], *, only: str | None, limit: int, to: Path | None) -> int:
    """Writes JSON lines to standard output or a new file; returns the exit status."""
    wanted, count = chosen(only), 0
    with LetterReader(Settings.from_env(), names, limit) as letters, _lines(to) as write:
        for _, letter in letters:
            if wanted(letter):
                write(json.dumps(letter.to_json(), ensure_ascii=False))
                count += 1
    console.echo_err(f"{console.pluralize(count, 'dead letter')} exported.")
    return report_unseen(letters.unseen)


def purge(names: Sequence[str], *, only: str | None, limit: int, to: Path | None, yes: bool) -> int:
    """Exports the letters, asks, and deletes exactly what was exported; returns the exit status."""
    wanted = chosen(only)
    path = Path(f"dead-letters-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl") if to is None else to
    doomed: list[tuple[DeadLetterQueue, DeadLetter]] = []
    with LetterReader(Settings.from_env(), names, limit) as letters:
        with _lines(path) as write:
            for queue, letter in letters:
                if wanted(letter):
                    write(json.dumps(letter.to_json(), ensure_ascii=False))
                    doomed.append((queue, letter))
        counted = console.pluralize(len(doomed), "dead letter")
        console.echo_err(f"{counted} exported to {path}.")
        if not doomed:
            return report_unseen(letters.unseen)
        if not yes and not click.confirm(f"Delete {counted} for good?", err=True):
            raise click.Abort
        with console.progress("Deleting", len(doomed)) as bar:
            for done, (queue, letter) in enumerate(doomed, 1):
                queue.delete([letter])
                bar(done)
    console.echo_err(f"{counted} deleted.")
    return report_unseen(letters.unseen)


@contextmanager
def _lines(path: Path | None) -> Iterator[Callable[[str], None]]:
    """A function that writes a line to standard output, or to a new file, which is synced to disk at the end."""
    if path is None:
        yield click.echo
        return
    try:
        with path.open("x", encoding="utf-8") as file:
            yield lambda line: print(line, file=file)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise PipelineError(f"{path} exists already: name another file") from None
    except OSError as exc:
        raise PipelineError(f"{path}: cannot be written: {exc.strerror}") from exc


def queue_names(which: str) -> Sequence[str]:
    return QUEUES if which == "all" else (which,)

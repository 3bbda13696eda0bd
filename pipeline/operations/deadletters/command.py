"""``python -m pipeline deadletters …``: what the person sees."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
from pipeline.operations.deadletters.letter import DeadLetter
from pipeline.operations.deadletters.moving import Unsupported, move, send_each
from pipeline.operations.deadletters.queue import DeadLetterQueue


@dataclass(slots=True)
class Group:
    """Dead letters that died alike."""

    queue: str
    task: str
    reason: str
    count: int
    oldest: datetime
    example: str


class Look:
    """Iterates over the dead letters of some queues, up to ``limit`` of each, with their queue. A context manager:
    in the end all of them are given back, whatever happens."""

    def __init__(self, settings: Settings, names: Sequence[str], limit: int) -> None:
        self.count = 0
        self._limit = limit
        self._queues = [DeadLetterQueue(settings, name) for name in names]
        self._held: dict[str, list[str]] = {name: [] for name in names}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for queue in self._queues:
            queue.give_back(self._held[queue.name])

    def __iter__(self) -> Iterator[tuple[DeadLetterQueue, DeadLetter]]:
        for queue in self._queues:
            for letter in queue.receive(self._limit):
                self._held[queue.name].append(letter.handle)
                self.count += 1
                yield queue, letter


def chosen(only: str | None) -> Callable[[DeadLetter], bool]:
    """Whether a letter's reason has this in it, in any case of letters."""
    if only is None:
        return lambda _: True
    text = only.lower()
    return lambda letter: text in letter.reason.lower() or text in letter.kind_of_reason.lower()


def groups(letters: Iterator[DeadLetter]) -> list[Group]:
    """The largest first."""
    found: dict[tuple[str, str, str], Group] = {}
    for letter in letters:
        key = (letter.queue, letter.task, letter.kind_of_reason)
        group = found.setdefault(key, Group(*key, 0, letter.sent, letter.example))
        group.count += 1
        if letter.sent < group.oldest:
            group.oldest, group.example = letter.sent, letter.example
    return sorted(found.values(), key=lambda group: -group.count)


def list_(names: Sequence[str], *, only: str | None, limit: int, as_json: bool) -> int:
    wanted = chosen(only)
    with Look(Settings.from_env(), names, limit) as look, console.progress("Reading") as bar:
        found = groups(letter for _, letter in _followed(look, bar) if wanted(letter))
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
        return 0
    now = datetime.now(UTC)
    console.table(
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
    console.note(f"{console.counted(sum(group.count for group in found), 'dead letter')}.{_more(look.count, limit)}")
    return 0


def _followed(look: Look, bar: console.Bar) -> Iterator[tuple[DeadLetterQueue, DeadLetter]]:
    for each in look:
        bar(look.count)
        yield each


def _more(count: int, limit: int) -> str:
    return f" There may be more: --limit is {limit:,}." if count >= limit else ""


def show(ids: Sequence[str], names: Sequence[str], *, only: str | None, limit: int) -> int:
    """Prints whole messages; returns 1 when none was found."""
    wanted, found = chosen(only), 0
    with Look(Settings.from_env(), names, limit) as look:
        for _, letter in look:
            if (ids and not letter.message_id.startswith(tuple(ids))) or not wanted(letter):
                continue
            found += 1
            click.echo(json.dumps(letter.to_json() | {"body": letter.readable_body()}, indent=2, ensure_ascii=False))
    if not found:
        console.note("No such dead letter.")
    return 0 if found else 1


def redrive(names: Sequence[str], *, only: str | None, limit: int | None, per_s: float | None) -> int:
    settings = Settings.from_env()
    total = 0
    for name in names:
        dead, destination = DeadLetterQueue(settings, name), queues.url_of(settings, name)
        waiting = queues.depth(dead.url)
        with console.progress(f"Sending back {name}", waiting) as bar:
            moved = _redrive(dead, destination, only, limit, per_s, bar)
        if moved:
            console.note(f"{console.counted(moved, 'dead letter')} sent back to queue {name}.")
        total += moved
    if not total:
        console.note("Nothing to send back.")
    return 0


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
    return send_each(dead, destination, chosen(only), limit or 10**9, per_s, bar)


def export(names: Sequence[str], *, only: str | None, limit: int, to: Path | None) -> int:
    """JSON lines, to standard output or a new file."""
    wanted, count = chosen(only), 0
    with Look(Settings.from_env(), names, limit) as look, _lines(to) as write:
        for _, letter in look:
            if wanted(letter):
                write(json.dumps(letter.to_json(), ensure_ascii=False))
                count += 1
    console.note(f"{console.counted(count, 'dead letter')} exported.")
    return 0


def purge(names: Sequence[str], *, only: str | None, limit: int, to: Path | None, yes: bool) -> int:
    """Exports, asks, and deletes exactly what was exported."""
    wanted = chosen(only)
    path = Path(f"dead-letters-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl") if to is None else to
    doomed: list[tuple[DeadLetterQueue, DeadLetter]] = []
    with Look(Settings.from_env(), names, limit) as look:
        with _lines(path) as write:
            for queue, letter in look:
                if wanted(letter):
                    write(json.dumps(letter.to_json(), ensure_ascii=False))
                    doomed.append((queue, letter))
        letters = console.counted(len(doomed), "dead letter")
        console.note(f"{letters} exported to {path}.")
        if not doomed:
            return 0
        if not yes and not click.confirm(f"Delete {letters} for good?", err=True):
            raise click.Abort
        with console.progress("Deleting", len(doomed)) as bar:
            for done, (queue, letter) in enumerate(doomed, 1):
                queue.delete([letter])
                bar(done)
    console.note(f"{letters} deleted.")
    return 0


@contextmanager
def _lines(path: Path | None) -> Iterator[Callable[[str], None]]:
    """Writes lines to standard output, or to a new file, which is safe on disk at the end."""
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

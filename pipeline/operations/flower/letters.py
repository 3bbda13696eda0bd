"""Reads and redrives dead letters for the pages, a limited number of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.aws import queues
from pipeline.core.console import pluralize
from pipeline.core.queue_names import DEAD_LETTERS, QUEUES
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.operations import own_queues
from pipeline.operations.deadletters.deadletters_command import LetterReader
from pipeline.operations.deadletters.letter import DeadLetter
from pipeline.operations.deadletters.queue import DeadLetterQueue
from pipeline.operations.deadletters.redrive import send_each

#: Maximum number of letters that a page reads of a queue, ten a request.
LIMIT = 1000
#: Maximum number of letters that the page of a queue shows.
SHOWN = 100
#: Reading hides letters from other readers, so that two pages at once would each see a part.
READING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Letters:
    """The letters that were read of a queue, and about how many were not."""

    found: Sequence[DeadLetter]
    unseen: int


def read(settings: Settings, name: str) -> Letters:
    """The letters of ``events`` or ``tasks``. Raises ``PipelineError``."""
    if name not in with_letters(settings):
        return Letters((), 0)
    with READING, LetterReader(settings, (name,), SHOWN) as letters:
        found = [letter for _, letter in letters]
    return Letters(found, sum(letters.unseen.values()))


def with_letters(settings: Settings) -> list[str]:
    """The queues that have dead letters by SQS's count, which may be a minute old. Raises ``PipelineError``.

    Only these are read, since reading an empty queue takes two seconds.
    """
    return [name for name in QUEUES if queues.depth(own_queues.url_of(settings, name + DEAD_LETTERS))]


def redrive(settings: Settings, name: str, wanted: Callable[[DeadLetter], bool]) -> str:
    """Sends the wanted letters back to the queue that they came from; returns a sentence. Raises ``PipelineError``."""
    destination = own_queues.url_of(settings, name)
    with READING, DeadLetterQueue(settings, name) as dead:
        moved = send_each(dead, destination, wanted, LIMIT, None, lambda _: None)
    if not moved:
        return "No such dead letter: it was sent back or deleted meanwhile, or somebody else is reading it."
    return f"{pluralize(moved, 'dead letter')} sent back to queue {name}."


def redrive_object(settings: Settings, source: Source) -> str:
    """Sends back all letters that name an object; returns a sentence. Raises ``PipelineError``."""
    said = [redrive(settings, name, lambda letter: names(letter, source)) for name in with_letters(settings)]
    return " ".join(said) or "No such dead letter."


def names(letter: DeadLetter, source: Source) -> bool:
    return any((each.bucket, each.key) == (source.bucket, source.key) for each in letter.sources())

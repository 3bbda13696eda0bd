"""Many things, so many at a time: what AWS's batch calls take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

#: Messages of a receive, and entries of a batch call, of SQS at most.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
MAX_ENTRIES = 10

Item = TypeVar("Item")


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of ``size`` items, the last one shorter; takes no more of ``items`` than it gives."""
    waiting = iter(items)
    while batch := list(islice(waiting, size)):
        yield batch

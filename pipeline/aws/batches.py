"""Splits items into batches for AWS's batch calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

#: SQS's maximum for the messages of a receive and the entries of a batch call.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
MAX_ENTRIES = 10

Item = TypeVar("Item")


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of ``size`` items; the last one may be shorter. Consumes ``items`` only as far as it yields."""
    waiting = iter(items)
    while batch := list(islice(waiting, size)):
        yield batch

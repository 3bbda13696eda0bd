"""Finds stuck uploads: nothing in the pipeline will finish them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.aws.batches import MAX_ENTRIES
from pipeline.core.queue_names import DEAD_LETTERS, QUEUES
from pipeline.local.results import FileResult, FileState
from pipeline.local.stack import PREFIX, RESULTS_QUEUE
from pipeline.local.waiting import Waiting
from pipeline.operations.deadletters.letter import DeadLetter

#: Consecutive checks that find all queues empty, after which unfinished files have failed.
IDLE_CHECKS = 2


class Stuck:
    """Checks the queues for dead letters, and for remaining work."""

    def __init__(self, sqs: Any) -> None:
        self._sqs = sqs
        self._queue_urls = [self._url(name) for name in (*(PREFIX + name for name in QUEUES), RESULTS_QUEUE)]
        self._dead_letter_urls = {name: self._url(PREFIX + name + DEAD_LETTERS) for name in QUEUES}
        self._idle = 0  # consecutive checks that found all queues empty

    def _url(self, name: str) -> str:
        url: str = self._sqs.get_queue_url(QueueName=name)["QueueUrl"]
        return url

    def dead_letters(self, waiting: Mapping[str, Waiting]) -> Iterator[FileResult]:
        """Files whose message is a dead letter, for example because the worker was lost on every delivery.

        The letters stay in the queue, for a person who uses ``--keep``.
        """
        for name, url in self._dead_letter_urls.items():
            received = self._sqs.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=MAX_ENTRIES,
                VisibilityTimeout=0,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["All"],
            )
            for letter in (DeadLetter.of(name, message) for message in received.get("Messages", [])):
                for source in letter.sources():
                    if source.key in waiting:
                        advice = "Run it again with --keep, and look at worker.log and bridge.log."
                        yield FileResult(source.key, FileState.FAILED, f"it is a dead letter: {letter.reason}", advice)

    def abandoned(self, waiting: Mapping[str, Waiting], *, has_news: bool) -> Iterator[FileResult]:
        """Unfinished files without messages in any queue: a route declares an output that no task writes."""
        self._idle = 0 if has_news or not waiting or self._is_busy() else self._idle + 1
        if self._idle < IDLE_CHECKS:
            return
        self._idle = 0
        for key, file in list(waiting.items()):
            route = "its route" if file.route is None else f"the route {file.route.name}"
            reason = f"all tasks of {route} have ended, and {', '.join(file.missing) or 'an output'} was not written"
            advice = "Let a task of the route write each of its outputs, or remove the output that none writes."
            yield FileResult(key, FileState.FAILED, reason, advice)

    def _is_busy(self) -> bool:
        """Whether any queue has messages, also delayed or in flight."""
        counts = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
        return any(
            int(count)
            for url in self._queue_urls
            for count in self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=counts)["Attributes"].values()
        )

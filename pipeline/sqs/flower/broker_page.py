"""Flower's Broker page for SQS: how deep the queues are, and the dead-letter queues."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from flower.utils.broker import BrokerBase
from flower.utils.template import format_duration
from flower.views.broker import BrokerView
from tornado.web import authenticated

from pipeline.aws import clients
from pipeline.aws.errors import describe_error, is_missing_queue
from pipeline.aws.queues import place
from pipeline.sqs.installation import Installation
from pipeline.sqs.settings import DEAD_LETTERS

logger = logging.getLogger(__name__)

TEMPLATE = Path(__file__).with_name("broker_page.html")

#: Seconds that the page waits for CloudWatch, and seconds for which it shows an age before it asks again.
AGE_PATIENCE_S = 2.0
AGE_FRESH_S = 60

_COUNTS = {
    "messages_ready": "ApproximateNumberOfMessages",
    "messages_unacknowledged": "ApproximateNumberOfMessagesNotVisible",
    "messages_delayed": "ApproximateNumberOfMessagesDelayed",
}


@dataclass(slots=True)
class Ages:
    """The age of each queue's oldest message, from CloudWatch: SQS itself does not report it."""

    _known: dict[str, float] = field(default_factory=dict)
    _asked: float | None = None
    _complained: bool = False

    def read(self, queues: Sequence[str]) -> dict[str, float]:
        """Returns seconds by the queue's name in SQS; omits a queue without a value, and all if access is denied."""
        if self._asked is None or time.monotonic() - self._asked > AGE_FRESH_S:
            self._asked = time.monotonic()
            try:
                self._known = _ages(queues)
            except (ClientError, BotoCoreError) as exc:
                self._known = {}
                if not self._complained:
                    logger.info("the age of the oldest messages is not shown: %s", describe_error(exc))
                    self._complained = True
        return self._known


def _ages(queues: Sequence[str]) -> dict[str, float]:
    now = datetime.now(UTC)
    answer = clients.cloudwatch().get_metric_data(
        StartTime=now - timedelta(minutes=10),
        EndTime=now,
        ScanBy="TimestampDescending",
        MetricDataQueries=[
            {
                "Id": f"q{number}",
                "MetricStat": {
                    "Metric": {
                        "Namespace": "AWS/SQS",
                        "MetricName": "ApproximateAgeOfOldestMessage",
                        "Dimensions": [{"Name": "QueueName", "Value": queue}],
                    },
                    "Period": 60,
                    "Stat": "Maximum",
                },
            }
            for number, queue in enumerate(queues)
        ],
    )
    values = {result["Id"]: result["Values"] for result in answer.get("MetricDataResults", [])}
    latest = {queue: values.get(f"q{number}", []) for number, queue in enumerate(queues)}
    return {queue: found[0] for queue, found in latest.items() if found}


class SqsBroker(BrokerBase):
    """Answers Flower's question about the depth of queues, by their Celery names."""

    def __init__(self, installed: Installation, ages: Ages) -> None:
        super().__init__("sqs://")
        self._installed = installed
        self._prefix = installed.settings.queue_prefix
        # Queues that no worker consumes: Flower does not know them.
        self._first = [name for name, queue in installed.other_queues.items() if queue.reader is not None]
        self._ages = ages

    async def queues(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """A row for each queue that exists: the app's other ones, those of the workers, each with its dead letters.

        ``messages_*`` are SQS's approximate numbers; ``oldest_age_s`` is in seconds or None. Raises botocore's errors.
        """
        loop = asyncio.get_running_loop()
        wanted = [name for base in dict.fromkeys([*self._first, *names]) for name in (base, base + DEAD_LETTERS)]
        rows = await loop.run_in_executor(None, self._rows, wanted)
        asked = loop.run_in_executor(None, self._ages.read, [row["queue"] for row in rows])
        done, _ = await asyncio.wait([asked], timeout=AGE_PATIENCE_S)
        ages = asked.result() if done else {}
        return [row | {"oldest_age_s": ages.get(row["queue"])} for row in rows]

    def _rows(self, names: Iterable[str]) -> list[dict[str, Any]]:
        return [row for row in map(self._row, names) if row is not None]

    def _row(self, name: str) -> dict[str, Any] | None:
        queue = self._prefix + name
        try:
            url = clients.sqs().get_queue_url(QueueName=queue)["QueueUrl"]
            attributes = clients.sqs().get_queue_attributes(QueueUrl=url, AttributeNames=_attribute_names())[
                "Attributes"
            ]
        except ClientError as exc:
            if is_missing_queue(exc):
                return None
            raise
        counts = {column: int(attributes[attribute]) for column, attribute in _COUNTS.items()}  # type: ignore[index]
        return {
            "name": name,
            "queue": queue,
            "dead_letters": name.endswith(DEAD_LETTERS),
            "read_by": self._reader(name),
            "messages": sum(counts.values()),
            **counts,
        }

    def _reader(self, name: str) -> str:
        """Returns who receives from the queue. Workers receive from queues of tasks only."""
        if name.endswith(DEAD_LETTERS):
            return f"nobody: see {self._installed.dead_letters_hint}"
        other = self._installed.other_queues.get(name)
        return "workers" if other is None else str(other.reader)


def _attribute_names() -> Any:
    return list(_COUNTS.values())


def queues_of(prefix: str) -> str:
    """Which queues a page shows, and where they are: ``photos-… in eu-central-1``."""
    return f"{prefix}… in {place()}" if prefix else f"all queues in {place()}"


class SqsBrokerView(BrokerView):
    """Flower's page, with the columns that SQS has.

    ``letters_route``: the name of the route that a dead-letter queue's row links to; None: no link.
    """

    def initialize(self, installed: Installation, letters_route: str | None) -> None:
        self._installed = installed
        self._letters_route = letters_route

    @authenticated
    async def get(self) -> None:
        error = ""
        rows: list[dict[str, Any]] = []
        try:
            rows = await self.get_broker().queues(self.get_active_queue_names())
        except (ClientError, BotoCoreError) as exc:
            error = describe_error(exc)
            logger.warning("the queues could not be read: %s", error)
        self.render(
            str(TEMPLATE),
            place=queues_of(self._installed.settings.queue_prefix),
            letters=self._letters,
            rows=rows,
            error=error,
            age=format_duration,
            refresh_s=5 if self.application.options.auto_refresh else 0,
        )

    def _letters(self, row: Mapping[str, Any]) -> str | None:
        """The URL of the page that shows a dead-letter queue's letters; None: there is no such page."""
        if self._letters_route is None or not row["dead_letters"]:
            return None
        return str(self.reverse_url(self._letters_route, row["name"].removesuffix(DEAD_LETTERS)))

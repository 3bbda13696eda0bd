"""``app.sqs``: the settings of an app on this broker layer, and what is known about its results and queues."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.sqs.settings import BrokerSettings


@dataclass(frozen=True, slots=True)
class Number:
    """A number in the results of tasks, which metrics add up."""

    metric: str  # its name in CloudWatch, and its unit there
    unit: str
    counter: str  # its name in Prometheus, after the prefix, and what it is
    help: str


def plain(known: Mapping[str, Any]) -> dict[str, Any]:
    """The event fields of a result: only its outcome."""
    return {"outcome": known["outcome"], "result": str(known["outcome"])}


@dataclass(frozen=True, slots=True)
class ResultFacts:
    """How to read the results of tasks: the ``repr`` of each is a JSON object that begins with ``outcome``.

    ``describe`` turns that object into fields of the task's event: the outcome, a sentence as ``result``, and
    ``numbers`` by field name.
    """

    numbers: Mapping[str, Number] = field(default_factory=dict)
    describe: Callable[[Mapping[str, Any]], dict[str, Any]] = plain


@dataclass(frozen=True, slots=True)
class OtherQueue:
    """A queue whose name begins with the prefix, and that is not for tasks."""

    why: str  # what a worker is told that shall consume it
    reader: str | None = None  # who takes messages out of it, for Flower's Broker page; None: it is not shown there


@dataclass(frozen=True, slots=True)
class Installation:
    """``app.sqs``. ``read_settings`` may raise ``ConfigError`` each time it is asked for them."""

    read_settings: Callable[[], BrokerSettings]
    results: ResultFacts
    other_queues: Mapping[str, OtherQueue]
    dead_letters_hint: str  # how they are read
    metric_prefix: str  # of Prometheus' metrics
    flower_pages: str | None = None  # "module:function" that returns ``pipeline.sqs.flower.pages.FlowerPages``

    @property
    def settings(self) -> BrokerSettings:
        return self.read_settings()

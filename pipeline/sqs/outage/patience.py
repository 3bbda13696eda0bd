"""Headers that say how often a message was tried, and for how long a service has failed for it.

A task that raises ``Unavailable`` finds them in ``self.request``; the worker writes them into the copy that takes the
message's place. Tries during an outage are counted apart from Celery's ``retries``, and don't use them up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

#: Tries that cost nothing; Unix times of the first and of the last failure.
DEFERRALS, SINCE, FAILED_AT = "deferrals", "failing_since", "failed_at"


@dataclass(frozen=True, slots=True)
class Patience:
    retries: int = 0
    deferrals: int = 0
    since: float | None = None  # when a service first failed it
    failed_at: float | None = None  # when one did last

    @classmethod
    def of(cls, headers: Mapping[str, Any]) -> Self:
        """From a message's headers, or a task's request; what is no number, whoever has sent it, counts as absent."""
        return cls(
            retries=int(_number(headers.get("retries")) or 0),
            deferrals=int(_number(headers.get(DEFERRALS)) or 0),
            since=_number(headers.get(SINCE)),
            failed_at=_number(headers.get(FAILED_AT)),
        )

    @property
    def tries(self) -> int:
        """The number of failed tries."""
        return self.retries + self.deferrals

    def waited_s(self, now: float) -> float:
        return 0.0 if self.since is None else now - self.since

    def after(self, now: float, *, costs_a_try: bool) -> dict[str, Any]:
        """The headers after another failure."""
        counted = {"retries": self.retries + 1} if costs_a_try else {DEFERRALS: self.deferrals + 1}
        return {**counted, SINCE: now if self.since is None else self.since, FAILED_AT: now}

    @property
    def forgotten(self) -> dict[str, Any]:
        """The headers of its dead letter, where they are to be others: who redrives it wants it tried anew."""
        return {} if self.since is None else {"retries": 0, DEFERRALS: 0, SINCE: None, FAILED_AT: None}


def _number(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number and 0 <= value < math.inf else None

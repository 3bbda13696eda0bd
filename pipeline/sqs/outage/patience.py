"""Message headers that count a task's tries, and record since when a service has failed for it.

A task that raises ``Unavailable`` finds them in ``self.request``; the worker writes them into the copy that replaces
the message. Tries during an outage are counted separately, and use up none of Celery's ``retries``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

#: Number of tries that are not counted as retries; Unix times of the first and of the last failure.
DEFERRALS, SINCE, FAILED_AT = "deferrals", "failing_since", "failed_at"


@dataclass(frozen=True, slots=True)
class Patience:
    retries: int = 0
    deferrals: int = 0
    since: float | None = None  # Unix time at which a service first failed for it
    failed_at: float | None = None  # Unix time of the last such failure

    @classmethod
    def of(cls, headers: Mapping[str, Any]) -> Self:
        """Reads a message's headers, or a task's request. Anybody may have sent them, so it ignores invalid values."""
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
        """The headers to reset in its dead letter: after a redrive it gets all its tries again."""
        return {} if self.since is None else {"retries": 0, DEFERRALS: 0, SINCE: None, FAILED_AT: None}


def _number(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number and 0 <= value < math.inf else None

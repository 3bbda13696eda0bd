"""How long to wait before something that failed is tried again: longer each time, and never in step with others."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off in seconds: ``first_s``, doubled with each failure in a row, up to ``most_s``."""

    first_s: float
    most_s: float

    def ceiling_s(self, failures: int) -> float:
        """After so many failures in a row, the first being 1; without jitter. 0 where nothing has failed."""
        return 0.0 if failures < 1 else min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 60))

    def pause_s(self, failures: int) -> float:
        """With jitter: between half of the ceiling and all of it."""
        ceiling_s = self.ceiling_s(failures)
        return random.uniform(ceiling_s / 2, ceiling_s)  # noqa: S311 - jitter, not a secret

"""Exponential back-off with jitter."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds to wait before a retry: ``first_s``, doubled with each consecutive failure, up to ``most_s``."""

    first_s: float
    most_s: float

    def ceiling_s(self, failures: int) -> float:
        """The pause without jitter after this many consecutive failures; 0 after none."""
        return 0.0 if failures < 1 else min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 60))

    def pause_s(self, failures: int) -> float:
        """The pause with jitter: between half of the ceiling and all of it."""
        ceiling_s = self.ceiling_s(failures)
        return random.uniform(ceiling_s / 2, ceiling_s)  # noqa: S311 - jitter, not a secret

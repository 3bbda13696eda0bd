"""Medians, and ratios within rounds: a disturbance of a round affects both sides of a ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some measurements, and the lowest and the highest of them."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of these values. Raises ``ValueError`` if there are none."""
        if not values:
            raise ValueError("nothing was measured")
        return cls(median(values), min(values), max(values))

    def shown(self, factor: float = 1.0, digits: int = 1) -> str:
        """Formats it as ``12.3 (11.9–12.8)``; a single measurement has no spread."""
        middle, low, high = (f"{value * factor:,.{digits}f}" for value in (self.middle, self.low, self.high))
        return middle if self.low == self.high else f"{middle} ({low}–{high})"


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """The ratios of two sides of the same rounds. Raises ``ValueError`` if their numbers differ, or are 0."""
    return Spread.of([a / b for a, b in zip(numerators, denominators, strict=True)])

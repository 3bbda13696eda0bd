"""What can become of a message, and what each outcome means for it: one table."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """Every message has exactly one."""

    DISPATCHED = "dispatched"  # all chains that were due are published
    SKIPPED = "skipped"  # understood, and there is nothing to do
    RETRY = "retry"  # publishing failed: SQS delivers the message again after its visibility time-out
    REJECTED = "rejected"  # can't be understood: trying again would not help, deleting alone would lose it


@dataclass(frozen=True, slots=True)
class Effect:
    """What happens to the SQS message, and how loudly it is logged."""

    dead_letter: bool  # a copy with the reason goes to the dead-letter queue first
    delete: bool
    level: int


EFFECTS = {
    Outcome.DISPATCHED: Effect(dead_letter=False, delete=True, level=logging.INFO),
    Outcome.SKIPPED: Effect(dead_letter=False, delete=True, level=logging.INFO),
    Outcome.RETRY: Effect(dead_letter=False, delete=False, level=logging.WARNING),
    Outcome.REJECTED: Effect(dead_letter=True, delete=True, level=logging.ERROR),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one message, and why, in words."""

    outcome: Outcome
    reason: str

    @property
    def effect(self) -> Effect:
        return EFFECTS[self.outcome]

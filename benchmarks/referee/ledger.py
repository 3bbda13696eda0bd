"""The verdict from the judges' pictures, and the list of accepted differences, which may only shrink."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

#: The verdicts that ``benchmarks/referee/accepted.txt`` must list.
NEEDS_ACCEPTANCE = ("differs", "refused, and shown whole")


def verdict_of(agreeing: list[bool]) -> str:
    """``agreeing``: for each judge that shows the file, whether the picture is the same."""
    if not agreeing:
        return "only here"
    if all(agreeing):
        return "right"
    return "right by some judges" if any(agreeing) else "differs"


def ledger(listed: Mapping[str, str], needed: set[str]) -> list[str]:
    """The problems of the list of accepted differences, which must name exactly the existing ones."""
    missing = [f"not right, and not accepted: {name}" for name in sorted(needed - set(listed))]
    return missing + [f"right now, take it out of accepted.txt: {name}" for name in sorted(set(listed) - needed)]


def read_accepted(text: str) -> dict[str, str]:
    """The name and the reason in each line; the first line has their number. Raises ``ValueError``."""
    head, *lines = text.splitlines()
    entries = [line.partition(": ") for line in lines]
    accepted = {name: why for name, _, why in entries if why}
    if head != f"{len(accepted)} accepted" or len(accepted) != len(lines) or list(accepted) != sorted(accepted):
        raise ValueError("accepted.txt: the count, the order, or a reason is wrong")
    return accepted


def reasons(accepted: Mapping[str, str]) -> list[str]:
    """The rows of a table: each reason, and the number of files accepted for it."""
    return [f"| {why} | {count} |" for why, count in Counter(accepted.values()).most_common()]

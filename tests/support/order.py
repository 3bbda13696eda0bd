"""The order of the tests where several processes share them: the slowest first, so that none runs alone at the end.

pytest-xdist's ``worksteal`` gives each process, at the start, tests that follow each other; what is left at its end
goes to those that have nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

#: How the names of tests begin that take ten seconds and more, the slowest first. Those of an entry stay together,
#: as they share what their module has set up.
SLOWEST: tuple[str, ...] = (
    "tests/docs/test_commands.py::test_commands_snippets_and_examples_on_a_stack",
    "tests/stack/test_roles.py",
    "tests/faults/test_outage.py::test_an_outage",
    "tests/faults/test_chain.py::test_a_small_storm",
    "tests/docs/test_commands.py::test_commands_that_bring_their_own_stack",
)


def dealt(items: Sequence[T], name_of: Callable[[T], str], processes: int) -> list[T]:
    """The items in an order in which each process begins with its share of the slowest."""
    groups: list[list[T]] = [[item for item in items if name_of(item).startswith(entry)] for entry in SLOWEST]
    slow = {id(item) for group in groups for item in group}
    others = [item for item in items if id(item) not in slow]
    found: list[T] = []
    for process in range(processes):
        first = [item for group in groups[process::processes] for item in group]
        # As many as `worksteal` gives it: of what is left, an equal part.
        size = (len(items) - len(found)) // (processes - process)
        found += first
        filled = max(0, size - len(first))
        found += others[:filled]
        del others[:filled]
    return found + others

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
    "tests/integration/test_other_servers.py",
    "tests/acceptance/test_flower_cluster.py",
    "tests/faults/test_outage.py::test_an_outage",
    "tests/docs/test_commands.py::test_commands_snippets_and_examples_on_a_stack",
    "tests/faults/test_chain.py::test_a_small_storm",
    "tests/docs/test_commands.py::test_commands_that_bring_their_own_stack",
    "tests/stack/test_roles.py",
    "tests/stack/test_roles_existing.py",
    "tests/faults/test_outage.py::test_half_of_a_fleet",
    "tests/acceptance/test_shop.py::test_a_day_in_the_shop",
    "tests/stack/test_linters.py::test_checkov",
    "tests/faults/test_chain.py::test_everything_is_done",
    "tests/faults/test_polling_resumes.py",
    "tests/integration/test_broker_worker.py::test_a_day_in_the_life_of_a_worker",
    "tests/docs/test_commands.py::test_commands_on_an_account",
    "tests/faults/test_connection_lost.py::test_a_worker_hears_again",
    "tests/integration/test_convergence.py",
    "tests/acceptance/test_local.py::test_watch",
    "tests/acceptance/test_operations.py",
    "tests/acceptance/test_monitoring_idle.py",
    "tests/public_reports/test_options.py::test_worker_options",
    "tests/integration/test_storm.py",
    "tests/acceptance/test_local.py::test_keep",
    "tests/integration/test_wheel.py",
    "tests/faults/test_publishing.py",
)


def dealt(items: Sequence[T], name_of: Callable[[T], str], processes: int) -> list[T]:
    """The items in an order in which the processes begin with their shares of the slowest.

    Most of these wait for most of their time: of three processes and more, one is left to those that compute.
    """
    groups: list[list[T]] = [[item for item in items if name_of(item).startswith(entry)] for entry in SLOWEST]
    slow = {id(item) for group in groups for item in group}
    others = [item for item in items if id(item) not in slow]
    found: list[T] = []
    sharing = max(2, processes - 1)
    for process in range(processes):
        first = [item for group in groups[process::sharing] for item in group] if process < sharing else []
        # As many as `worksteal` gives it: of what is left, an equal part.
        size = (len(items) - len(found)) // (processes - process)
        found += first
        filled = max(0, size - len(first))
        found += others[:filled]
        del others[:filled]
    return found + others

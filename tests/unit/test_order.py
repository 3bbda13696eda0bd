"""Which tests each process begins with; the order changes, and no test is lost."""

from __future__ import annotations

import pytest

from tests.support.aws_process import ROOT
from tests.support.order import SLOWEST, dealt


@pytest.mark.parametrize("processes", [2, 3, 4])
@pytest.mark.parametrize("others", [0, 5, 1000])
def test_the_processes_begin_with_their_shares_of_the_slowest(processes: int, others: int) -> None:
    names = [f"tests/unit/{number}" for number in range(others)] + [f"{entry}[x]" for entry in SLOWEST]
    found = dealt(names, str, processes)
    assert sorted(found) == sorted(names)
    begins, sharing = 0, max(2, processes - 1)
    for process in range(processes if others == 1000 else 0):
        first = SLOWEST[process] if process < sharing else "tests/unit/"
        assert found[begins].startswith(first)
        begins += (len(names) - begins) // (processes - process)  # as worksteal gives them


@pytest.mark.parametrize("entry", SLOWEST)
def test_each_of_them_is_there(entry: str) -> None:
    path, _, name = entry.partition("::")
    assert f"def {name}" in ROOT.joinpath(path).read_text(encoding="utf-8")

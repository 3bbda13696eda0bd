"""The page has the tables of the tests that prove them."""

from __future__ import annotations

from tests.public_reports import matrix, test_receiving, test_sending, test_watching
from tests.public_reports.registry import PAGE, REPORTS, with_table

MODULES = (test_receiving, test_sending, test_watching)


def test_the_page_has_both_tables() -> None:
    page = PAGE.read_text()
    assert matrix.with_table(with_table(page)) == page, "python -m tests.public_reports"


def test_there_are_many_reports_and_each_has_a_test() -> None:
    tests = [name for module in MODULES for name in vars(module) if name.startswith("test_")]
    assert len(tests) == len(REPORTS) >= 25


def test_what_the_matrix_says_is_tried_is() -> None:
    for cell in matrix.CELLS:
        path, _, name = cell.test.partition("::")
        assert f"def {name}(" in (matrix.ROOT / path).read_text(), cell.test

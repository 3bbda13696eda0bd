"""Renews the tables of the page."""

from __future__ import annotations

from tests.public_reports import matrix, test_receiving, test_sending, test_watching
from tests.public_reports.registry import PAGE, with_table

__all__ = ["test_receiving", "test_sending", "test_watching"]

if __name__ == "__main__":
    PAGE.write_text(matrix.with_table(with_table(PAGE.read_text())))

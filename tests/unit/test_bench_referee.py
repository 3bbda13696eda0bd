"""The referee's rules: when a picture is right, and that the list of accepted differences can only shrink unnoticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.referee.ledger import ledger, read_accepted, reasons, verdict_of

ACCEPTED = Path(__file__).parents[2] / "benchmarks" / "referee" / "accepted.txt"
#: Lower it when entries go; a list that grows is a decision, and is made here.
MOST_ACCEPTED = 14


@pytest.mark.parametrize(
    ("agreeing", "verdict"),
    [
        ([True, True], "right"),
        ([True], "right"),
        ([True, False], "right by some judges"),
        ([False, False], "differs"),
        ([False], "differs"),
        ([], "only here"),
    ],
)
def test_what_follows_from_the_judges(agreeing: list[bool], verdict: str) -> None:
    assert verdict_of(agreeing) == verdict


def test_a_difference_that_is_not_listed_and_one_that_is_gone_are_both_told() -> None:
    assert ledger({"a": "why"}, {"a"}) == []
    assert ledger({"a": "why"}, {"a", "b"}) == ["not right, and not accepted: b"]
    assert ledger({"a": "why", "b": "why"}, {"a"}) == ["right now, take it out of accepted.txt: b"]


def test_the_list_says_how_many_there_are_and_why_each_is() -> None:
    accepted = read_accepted(ACCEPTED.read_text(encoding="utf-8"))
    assert len(accepted) <= MOST_ACCEPTED


def test_the_page_names_the_reasons_of_the_list() -> None:
    """``make referee`` writes both tables; who changes the list without it is told."""
    accepted = read_accepted(ACCEPTED.read_text(encoding="utf-8"))
    page = ACCEPTED.parents[2].joinpath("docs", "images.md").read_text(encoding="utf-8")
    found = page.partition("| why | files |\n|---|---:|\n")[2].partition("\n\n")[0].splitlines()
    assert found == reasons(accepted)


@pytest.mark.parametrize(
    "text", ["1 accepted\n", "2 accepted\na: why\n", "1 accepted\na\n", "2 accepted\nb: why\na: why\n"]
)
def test_a_list_that_does_not_add_up_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="accepted"):
        read_accepted(text)

"""The commands of an operator: their help, and how they show things."""

from __future__ import annotations

import tomllib
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from pipeline.__main__ import cli
from pipeline.core import console

VERBS = ("audit", "explain", "backfill")
LETTERS = ("list", "show", "redrive", "export", "purge")
EACH = [*([name] for name in VERBS), *(["deadletters", name] for name in LETTERS)]


@pytest.mark.parametrize("verb", EACH, ids=" ".join)
def test_each_has_an_example_in_its_help(verb: list[str]) -> None:
    result = CliRunner().invoke(cli, [*verb, "--help"])
    assert result.exit_code == 0
    assert f"python -m pipeline {' '.join(verb)}" in result.output


def test_the_list_of_verbs_says_of_each_what_it_does() -> None:
    for group in ([], ["deadletters"]):
        listed = CliRunner().invoke(cli, [*group, "--help"]).output.partition("Commands:\n")[2]
        assert len(listed.splitlines()) >= 5
        assert "..." not in listed  # click cuts what is too long


def test_it_tells_its_version() -> None:
    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["version"]
    result = CliRunner().invoke(cli, ["--version"])
    assert (result.exit_code, result.output) == (0, f"{declared}\n")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "Console", partial(Console, force_terminal=True, width=60, color_system=None))


ROWS = [["missing", "1,234", "[bold]a[/bold]\nb\tc.jpg"], ["done", "5", ""]]


@pytest.mark.usefixtures("terminal")
def test_a_terminal_gets_a_table_and_nothing_is_taken_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(["status", "objects", "for example"], ROWS, right=["objects"])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "status   objects  for example",
        "missing    1,234  [bold]a[/bold]\\nb\\tc.jpg",
        "done           5",
    ]


def test_a_pipe_gets_a_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(["status", "objects", "for example"], ROWS)
    assert capsys.readouterr().out == "missing\t1,234\t[bold]a[/bold] b c.jpg\ndone\t5\t\n"


@pytest.mark.usefixtures("terminal")
def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress("Enqueuing", 20) as bar:
        bar(10)
        bar(20, "waiting")
    assert "Enqueuing" in capsys.readouterr().err


def test_elsewhere_there_is_no_bar_but_a_wait_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress("Enqueuing", 20) as bar:
        for done in range(5):
            bar(done)
        bar(5, "waiting: 12")
        bar(5, "waiting: 11")
        bar(6)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "waiting: 12\n")

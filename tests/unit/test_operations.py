"""The commands of an operator: their help, and how they show things."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
import tomllib
from contextlib import suppress
from functools import partial
from pathlib import Path

import click
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
    console.print_table(["status", "objects", "for example"], ROWS, right=["objects"])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "status   objects  for example",
        "missing    1,234  [bold]a[/bold]\\nb\\tc.jpg",
        "done           5",
    ]


def test_a_pipe_gets_a_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table(["status", "objects", "for example"], ROWS)
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


def in_a_terminal(code: str, *, columns: int) -> str:
    """All that a program writes to a terminal of this width."""
    controller, terminal = pty.openpty()
    try:
        termios.tcsetwinsize(terminal, (24, columns))
        environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdout=terminal, stderr=terminal, env=environ | {"TERM": "xterm"}
        )
        os.close(terminal)
        written = b""
        with suppress(OSError):  # what Linux answers where nobody has the terminal open any more
            while more := os.read(controller, 4096):
                written += more
        assert child.wait(timeout=60) == 0
    finally:
        os.close(controller)
    return written.decode()


WITH_A_LINE = """
from pipeline.core import console
with console.progress("Files", 20) as bar:
    bar(10, "9 done")
    bar.line("failed: \\x1b[2Jb.jpg")
    bar(20, "19 done")
"""


def test_a_line_stands_above_the_bar_and_can_not_steer_the_terminal() -> None:
    before, _, after = in_a_terminal(WITH_A_LINE, columns=120).partition("failed: \\x1b[2Jb.jpg\r\n")
    assert before.endswith("\r\x1b[2K"), "the bar was left above the line"
    assert "20/20" in after


@pytest.mark.parametrize(("columns", "shown"), [(40, "20/20 19 done"), (70, "Files 20/20 "), (120, "━━━")])
def test_a_narrow_terminal_gets_the_figures(columns: int, shown: str) -> None:
    assert shown in click.unstyle(in_a_terminal(WITH_A_LINE, columns=columns))


@pytest.mark.parametrize(
    "given",
    [["audit", "x"], ["backfill", "s3://"], ["adopt", "x"], ["explain", "s3://b"], ["routes", "x"]],
    ids=" ".join,
)
def test_a_target_that_names_nothing_is_wrong_usage(given: list[str]) -> None:
    result = CliRunner().invoke(cli, given)
    assert result.exit_code == 2
    assert "write s3://bucket" in result.output


SAYS_A_KEY = """
import sys, click
from pipeline.__main__ import cli, main
cli.add_command(click.Command("say", callback=lambda: click.echo("\u65e5\u672c.jpg")))
sys.argv[1:] = ["say"]
main()
"""


def test_a_key_with_letters_that_the_terminal_lacks_is_spelled() -> None:
    environ = os.environ | {"PYTHONIOENCODING": "latin-1"}
    assert subprocess.check_output([sys.executable, "-c", SAYS_A_KEY], env=environ) == b"\\u65e5\\u672c.jpg\n"

"""Output of the commands: tables and progress bars on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

#: Minimum terminal widths for more than the count, and for the bar.
WIDE, WIDEST = 60, 100


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Prints a table on a terminal; elsewhere one line per row, with tabs between the cells and without headings."""
    console = Console(highlight=False)
    if not console.is_terminal:
        for row in rows:
            click.echo("\t".join(cell.replace("\n", " ").replace("\t", " ") for cell in row))
        return
    made = Table(box=None, pad_edge=False)
    for heading in headings:
        made.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(cell)) for cell in row))
    console.print(made)


def printable(text: str) -> str:
    """Escapes control characters: an untrusted name must not move the cursor or clear the screen."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def pluralize(count: int, noun: str) -> str:
    """``1 dead letter``, ``1,234 dead letters``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def echo_err(text: str) -> None:
    """Prints a note for people on standard error."""
    click.echo(text, err=True)


class Bar:
    """A running progress bar: called with the number of finished items and a short text."""

    def __init__(self, shown: Progress, total: int | None) -> None:
        self._shown = shown
        self._total = total
        self._task = shown.add_task("", total=total, rate="", text="")
        self._text = ""

    def __call__(self, done: int, text: str = "") -> None:
        if self._shown.disable:
            if text and not self._text:
                echo_err(text)
        elif text != self._text or done % 10 == 0 or done == self._total:
            rate = f"{self._shown.tasks[0].speed or 0:,.0f}/s"
            self._shown.update(self._task, completed=done, rate=rate, text=text)
        self._text = text

    def line(self, text: str) -> None:
        """Prints a line on standard output, above the bar if both share a terminal."""
        if self._shown.disable or not sys.stdout.isatty():
            click.echo(printable(text))
        else:
            self._shown.console.print(Text(printable(text)), soft_wrap=True)


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Bar]:
    """A progress bar on standard error if that is a terminal; elsewhere only the texts, as lines.

    Without a terminal, a text is printed only after an empty one: it says once why nothing moves. A narrow terminal
    shows only the count and the text.
    """
    console = Console(file=sys.stderr, highlight=False)
    whole = Column(no_wrap=True)
    columns: list[ProgressColumn] = [MofNCompleteColumn(table_column=whole)]
    if console.width >= WIDE:
        clock = TimeElapsedColumn() if total is None else TimeRemainingColumn(compact=True)
        bar = [BarColumn()] if console.width >= WIDEST else []
        rate = TextColumn("{task.fields[rate]}", table_column=whole)
        columns = [SpinnerColumn(), TextColumn(what, table_column=whole), *bar, *columns, rate, clock]
    words = Column(no_wrap=True, overflow="ellipsis", max_width=console.width // 2)
    shown = Progress(
        *columns,
        TextColumn("{task.fields[text]}", table_column=words),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=sys.stdout.isatty(),  # otherwise output for the pipe would go to the terminal
    )
    with shown:
        yield Bar(shown, total)

"""How the verbs of the command line show things: for people on a terminal, for programs in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """A table on a terminal; else one line a row, its cells separated by tabs, without the headings."""
    console = Console(highlight=False)
    if not console.is_terminal:
        for row in rows:
            click.echo("\t".join(cell.replace("\n", " ").replace("\t", " ") for cell in row))
        return
    made = Table(box=None, pad_edge=False)
    for heading in headings:
        made.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(_safe(cell) for cell in row))
    console.print(made)


def _safe(cell: str) -> str:
    """Not taken for markup, nor for control characters."""
    from rich.markup import escape

    return escape("".join(each if each.isprintable() else repr(each)[1:-1] for each in cell))


def counted(count: int, noun: str) -> str:
    """``1 dead letter``, ``1,234 dead letters``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def note(text: str) -> None:
    """For the person, beside what is for the pipe."""
    click.echo(text, err=True)


class Bar(Protocol):
    def __call__(self, done: int, text: str = "") -> None:
        """``done`` of the total so far."""


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Bar]:
    """A bar with count and rate on standard error, where that is a terminal; elsewhere only the texts, as lines.

    There a text is printed when the one before it was empty: it says why nothing moves, once.
    """
    console = Console(file=sys.stderr, highlight=False)
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=sys.stdout.isatty(),  # else what is for the pipe would end on the terminal
    )
    task = bar.add_task(what, total=total, rate="", text="")
    shown = ""

    def update(done: int, text: str = "") -> None:
        nonlocal shown
        if bar.disable:
            if text and not shown:
                note(text)
        elif text != shown or done % 10 == 0 or done == total:
            bar.update(task, completed=done, rate=f"{bar.tasks[0].speed or 0:,.0f}/s", text=text)
        shown = text

    with bar:
        yield update

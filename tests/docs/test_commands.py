"""Every command and every snippet of the pages, tried as a reader would try it.

One test for each surrounding that commands need, and not one for each command: they share one stack, and in an order.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.local.stack import Emulator
from tests.docs.entries import ENTRIES, SUBSTITUTIONS, Entry, Look, Run, Stay, Where
from tests.docs.pages import PAGES, ROOT, Code, blocks, text_of
from tests.docs.shell import Command, Shell, commands, made
from tests.docs.stage import Stage, made_stage, photo
from tests.stack.template import emulated, load
from tests.support.account import empty_account, push_image
from tests.support.warm_start import WarmStart

#: ``make`` targets that only start a process: that process is what is tried.
STARTERS = re.compile("make (worker|bridge|flower)")
#: What a block may be; the others are checked by the tests that are named.
LANGUAGES = {
    "sh": "here",
    "python": "here",
    "json": "here",
    "dockerfile": "here",
    "mermaid": "test_life_cycle.py",
    "text": "not code",
    "help": "test_site.py",
    "py": "test_site.py",
}


def entry_of(command: Command) -> Entry | None:
    return next((entry for entry in ENTRIES if re.fullmatch(entry.pattern, command.text)), None)


def all_commands() -> list[Command]:
    return [made(command) if STARTERS.fullmatch(command.text) else command for command in commands()]


def matched(where: Where) -> Iterator[tuple[Command, Run | Stay]]:
    """With placeholders replaced, in the order of the table, each only once; of those that stay, the longest."""
    found = all_commands()
    for entry in ENTRIES:
        if isinstance(entry, Run | Stay) and entry.where is where:
            mine = [_ready_to_run(command) for command in found if entry_of(command) is entry]
            once = {command.setup + command.text: command for command in reversed(mine)}
            yield from ((once[text], entry) for text in ([max(once, key=len)] if isinstance(entry, Stay) else once))


def _ready_to_run(command: Command) -> Command:
    return replace(command, setup=substituted(command.setup), text=substituted(command.text))


def substituted(text: str) -> str:
    for placeholder, value in SUBSTITUTIONS.items():
        text = text.replace(placeholder, value)
    return text


def start_all(shell: Shell, where: Where) -> None:
    for command, entry in matched(where):
        if isinstance(entry, Stay):
            shell.stay(command, entry.ready)


def run_all(shell: Shell, where: Where) -> list[str]:
    """What went wrong, with all that was printed."""
    wrong = []
    for command, entry in matched(where):
        if isinstance(entry, Run):
            if entry.before:
                shell.run(entry.before)
            status, printed = shell.run(command.setup + command.text + entry.append, entry.answer)
            if status != entry.status or re.search(entry.says, printed) is None or "Traceback" in printed:
                wrong.append(f"{command}\n  status {status}, not {entry.status}, or not {entry.says!r}:\n{printed}")
    return wrong


def run_snippets(stage: Stage) -> list[str]:
    """What went wrong. Those of a page are one program. Results of what they enqueue must be there, and good."""
    wrong = []
    for page in PAGES:
        snippets = [block for block in blocks(page) if block.language == "python"]
        program = "\n".join(block.text for block in snippets if not shown_from_examples(block))
        if not program:
            continue
        status, printed = stage.shell.run("python -m tests.docs.snippet", substituted(program))
        if status or not set(printed.split()) <= {"done", "duplicate"}:
            wrong.append(f"{page}: status {status}:\n{program}\n{printed}")
    return wrong


def shown_from_examples(block: Code) -> bool:
    """A copy of a part of a program in ``examples/``, which has a test of its own."""
    return block.text in "".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("examples/**/*.py")))


def compare_examples(stage: Stage) -> list[str]:
    """Each JSON example has the fields, of the same types, of one thing that was really made."""
    made_here = stage.made()
    wrong = []
    for block in (block for page in PAGES for block in blocks(page) if block.language == "json"):
        shown = {name: type(value) for name, value in json.loads(block.text).items()}
        if shown not in [{name: type(value) for name, value in real.items()} for real in made_here.values()]:
            wrong.append(f"{block}: nothing that the pipeline makes has just these fields: {made_here}")
    return wrong


def test_every_block_is_in_a_language_that_is_checked() -> None:
    unknown = {f"{block}: ```{block.language}" for page in PAGES for block in blocks(page)}
    unknown = {each for each in unknown if each.rpartition("`")[2] not in LANGUAGES}
    assert not unknown, "say in LANGUAGES, and in a test, how such a block is checked"


@pytest.mark.parametrize("command", all_commands(), ids=str)
def test_somebody_knows_how_to_try_it(command: Command) -> None:
    assert entry_of(command) is not None, (
        f"{command}\nnobody knows how to run this: add a Run, a Stay or a Look to tests/docs/entries.py"
    )


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.pattern)
def test_no_entry_is_left_over(entry: Entry) -> None:
    assert any(entry_of(command) is entry for command in all_commands()), "no page has such a command: delete the entry"


@pytest.mark.parametrize("command", [each for each in all_commands() if isinstance(entry_of(each), Look)], ids=str)
def test_what_cannot_be_run_is_looked_at(command: Command) -> None:
    for part in command.text.split(" | "):
        look = next(entry for entry in ENTRIES if isinstance(entry, Look) and re.fullmatch(entry.pattern, part))
        look.check(shlex.split(part))
        assert look.why


def test_container_files_are_built_of_what_is_there() -> None:
    for block in (block for page in PAGES for block in blocks(page) if block.language == "dockerfile"):
        lines = block.text.replace("\\\n", " ").splitlines()
        assert {line.split(" ")[0] for line in lines} <= {"FROM", "RUN", "COPY", "ENV", "USER", "WORKDIR"}, block
        base = next(line for line in text_of("Dockerfile").splitlines() if line.startswith("ARG BASE="))
        froms = [line.split(" ")[1] for line in lines if line.startswith("FROM ")]
        assert froms[-1] in text_of("README.md"), f"{block}: not the image that the README deploys"
        assert set(froms[:-1]) <= {base.partition("=")[2]}, f"{block}: not built with the Python of the image, {base}"


def test_commands_snippets_and_examples_on_a_stack(tmp_path: Path, warm_start: WarmStart) -> None:
    with made_stage(tmp_path, warm_start) as stage:
        try:
            start_all(stage.shell, Where.STAGE)
            stage.fill()
            wrong = [*compare_examples(stage), *run_snippets(stage), *run_all(stage.shell, Where.STAGE)]
        finally:
            ended = stage.shell.stop()
    assert not wrong, "\n\n".join(wrong)
    assert set(ended.values()) == {0}, ended


def test_commands_that_bring_their_own_stack(tmp_path: Path, warm_start: WarmStart) -> None:
    shell = Shell(tmp_path, os.environ, warm_start)
    for folder, form in (("Pictures", "jpeg"), ("Documents", "pdf")):
        (tmp_path / folder).mkdir()
        for number in range(2):
            (tmp_path / folder / f"{number}.{form}").write_bytes(photo(number, form))
    try:
        wrong = run_all(shell, Where.MACHINE)
        start_all(shell, Where.MACHINE)
    finally:
        ended = shell.stop()
    assert not wrong, "\n\n".join(wrong)
    assert set(ended.values()) == {0}, ended


def test_commands_on_an_account(emulator: Emulator, tmp_path: Path, warm_start: WarmStart) -> None:
    empty_account(emulator)
    push_image(emulator, "batch-image-pipeline", "1", "eu-west-1")
    shell = Shell(tmp_path, emulator.environ(), warm_start)
    (tmp_path / "template.json").write_text(emulated(load()))
    wrong = run_all(shell, Where.ACCOUNT)
    assert not wrong, "\n\n".join(wrong)

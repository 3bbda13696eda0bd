"""Writes the pages that are made from the code: ``python -m tests.docs.reference``, or ``make reference``.

``docs/settings.md`` from the settings' fields, ``docs/commands.md`` from the commands' help, ``docs/python-api.md``
from signatures and docstrings, ``docs/failure-reasons.md`` from the error classes. A test compares them with the code.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import click
from pydantic import BaseModel

from pipeline.__main__ import cli
from pipeline.core.errors import PermanentError
from pipeline.core.settings_table import markdown_table
from tests.docs.pages import ROOT
from tests.support import marked

#: What a program may import, and what for.
MODULES = {
    "pipeline": "To enqueue objects, and to declare routes.",
    "tasks": "The tasks, and what a task of your own is made of.",
    "pipeline.testing": "To test routes of your own.",
    "pipeline.sqs": "Celery on SQS for any app ([celery-on-sqs.md](celery-on-sqs.md)).",
}
HELP_WIDTH = 100
SIGNATURE_WIDTH = 100


def renewed(page: str, text: str) -> str:
    """The page's text with what stands between its two marks made anew."""
    begins, ends = f"<!-- begins: {page}, by make reference -->\n", "<!-- ends -->\n"
    return marked.renewed(text, begins, ends, f"\n{PAGES[page]()}\n")


def commands() -> str:
    return "\n".join(_command([name], command) for name, command in sorted(cli.commands.items()))


def _command(path: list[str], command: click.Command) -> str:
    # Without colours, and as wide as a page.
    name = " ".join(["python -m pipeline", *path])
    names = cli.context_settings["help_option_names"]
    context = click.Context(
        command, info_name=name, max_content_width=HELP_WIDTH, terminal_width=HELP_WIDTH, help_option_names=names
    )
    shown = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    below = command.commands if isinstance(command, click.Group) else {}
    parts = [f"{'#' * (len(path) + 1)} {' '.join(path)}", f"```help\n{shown}\n```"]
    return "\n\n".join(parts) + "\n" + "".join("\n" + _command([*path, key], below[key]) for key in sorted(below))


def failure_reasons() -> str:
    rows = ["| `reason` | what is wrong | the advice, unless there is a better one |", "|---|---|---|"]
    seen: dict[str, type[PermanentError]] = {}
    for error in _below(PermanentError):
        seen.setdefault(error.reason, error)
    for reason, error in sorted(seen.items()):
        rows.append(f"| `{reason}` | {_one_line(inspect.getdoc(error) or '')} | {error.advice} |")
    return "\n".join(rows) + "\n"


def _below(error: type[PermanentError]) -> Iterator[type[PermanentError]]:
    for below in error.__subclasses__():
        if below.__module__.startswith(("pipeline.", "tasks.")):
            yield below
            yield from _below(below)


def python_api() -> str:
    parts = []
    for name, purpose in MODULES.items():
        module = importlib.import_module(name)
        parts.append(f"## {name}\n\n{purpose}\n")
        parts.extend(_entry(name, public) for public in module.__all__)
    return "\n".join(parts)


def _entry(module: str, name: str) -> str:
    found = getattr(importlib.import_module(module), name)
    # A task's docstring and signature are those of its body.
    called = getattr(found, "run", found) if not isinstance(found, type) else found
    documented = called if inspect.isroutine(called) or isinstance(called, type) else type(called)
    body = _text(inspect.getdoc(documented) or "")
    signature = _signature(documented, name) if documented is called else f"{name}: {documented.__name__}"
    table = _fields(found) if isinstance(found, type) and issubclass(found, BaseModel) else ""
    return f"### {name}\n\n```py\nfrom {module} import {name}\n\n{signature}\n```\n\n{body}\n{table}"


def _signature(documented: Callable[..., Any] | type, name: str) -> str:
    """As in the source, defaults too; of a class what it is constructed with."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(documented))).body
    if isinstance(node, ast.ClassDef):
        if issubclass(documented, BaseModel):  # type: ignore[arg-type]
            return f"{name}(**values)"
        bases = ", ".join(map(ast.unparse, node.bases))
        fields = [
            f"    {ast.unparse(item)}"
            for item in node.body
            if isinstance(item, ast.AnnAssign) and not ast.unparse(item.target).startswith("_")
        ]
        inits = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        fields += [f"    {_def(item)}" for item in inits]
        head = f"class {name}({bases})" if bases else f"class {name}"
        return "\n".join([f"{head}:", *fields]) if fields else head
    assert isinstance(node, ast.FunctionDef)
    return _def(node)


def _def(node: ast.FunctionDef) -> str:
    arguments = node.args
    if arguments.args and arguments.args[0].arg == "self":
        del arguments.args[0]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None and node.name != "__init__" else ""
    text = ast.unparse(arguments)
    if len(node.name) + len(text) + len(returns) > SIGNATURE_WIDTH - 6:
        text = "\n    " + ",\n    ".join(_arguments(text)) + ",\n"
    return f"def {node.name}({text}){returns}"


def _arguments(text: str) -> Iterator[str]:
    """Split at the commas that are in no brackets."""
    depth, begins = 0, 0
    for at, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            yield text[begins:at].strip()
            begins = at + 1
    yield text[begins:].strip()


def _fields(model: type[BaseModel]) -> str:
    rows = ["", "| value | default | what it sets |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        rows.append(f"| `{name}` | `{field.default!r}` | {field.description} |")
    return "\n".join(rows) + "\n"


def _text(docstring: str) -> str:
    """A docstring as Markdown: its double backticks are single ones there."""
    return docstring.replace("``", "`") + "\n"


def _one_line(docstring: str) -> str:
    return re.sub(r"\s+", " ", _text(docstring).partition("\n\n")[0]).strip()


PAGES: dict[str, Callable[[], str]] = {
    "settings": markdown_table,
    "commands": commands,
    "python-api": python_api,
    "failure-reasons": failure_reasons,
}


def main() -> None:
    for page in PAGES:
        path = ROOT / f"docs/{page}.md"
        path.write_text(renewed(page, path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

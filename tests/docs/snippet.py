"""Runs a snippet of a page, which comes on standard input: ``python -m tests.docs.snippet``.

Whatever work it enqueues, in a statement of its own, is waited for; the outcomes are printed. ``keys`` is what a
program would have had before.
"""

from __future__ import annotations

import ast
import sys
from typing import Any

from celery.result import AsyncResult

from tests.support.waiting import DEADLINE_S

KEYS = ["a/b.jpg", "a b.jpg"]


class _Shown(ast.NodeTransformer):
    """``f()`` on a line of its own becomes ``shown(f())``."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr:
        node.value = ast.Call(ast.Name("shown", ast.Load()), [node.value], [])
        return node


def main() -> None:
    values: list[Any] = []
    tree = ast.fix_missing_locations(_Shown().visit(ast.parse(sys.stdin.read())))
    exec(compile(tree, "snippet", "exec"), {"keys": KEYS, "shown": values.append})  # noqa: S102
    for value in values:
        if value is not None:
            print(value.get(timeout=DEADLINE_S)["outcome"] if isinstance(value, AsyncResult) else value)


if __name__ == "__main__":
    main()

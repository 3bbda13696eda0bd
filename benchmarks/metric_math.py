"""Evaluates the part of CloudWatch's metric math that the stack's scaling and alarms use.

Source of the rules: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence

#: Values of a metric, one a minute, oldest first; None: nothing was published.
Series = Sequence[float | None]

_OPERATORS: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_COMPARISONS: dict[type, Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


class ExpressionError(ValueError):
    """The expression uses a part of metric math that this module does not support; the message says which."""


def names(expression: str) -> set[str]:
    """The metrics that an expression uses. Raises ``ExpressionError``."""
    tree = _parse(expression)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called}
    return found - {"REPEAT"}


def evaluate(expression: str, metrics: Mapping[str, Series]) -> list[float | None]:
    """The values of the expression, minute by minute. Raises ``ExpressionError``.

    A minute has no value if an operand is missing, or for a division by zero.
    """
    length = max((len(series) for series in metrics.values()), default=0)
    return _value(_parse(expression), metrics, length)


def _parse(expression: str) -> ast.expr:
    try:
        return ast.parse(expression, mode="eval").body
    except SyntaxError as exc:
        raise ExpressionError(f"{expression}: {exc.msg}") from None


def _value(  # noqa: PLR0911 - one case, one result
    node: ast.expr, metrics: Mapping[str, Series], length: int
) -> list[float | None]:
    match node:
        case ast.Constant(value=int() | float() as number):
            return [float(number)] * length
        case ast.Name(id=name):
            if name not in metrics:
                raise ExpressionError(f"no metric has the id {name}")
            return list(metrics[name])
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            function = _OPERATORS[type(op)]
            return _both(function, _value(left, metrics, length), _value(right, metrics, length))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
            compare = _COMPARISONS[type(op)]
            return _both(
                lambda a, b: float(compare(a, b)), _value(left, metrics, length), _value(right, metrics, length)
            )
        case ast.Call(func=ast.Name(id="FILL"), args=[filled, ast.Name(id="REPEAT")]):
            return _repeated(_value(filled, metrics, length))
        case ast.Call(func=ast.Name(id="FILL"), args=[filled, ast.Constant(value=int() | float() as number)]):
            return [float(number) if value is None else value for value in _value(filled, metrics, length)]
        case ast.Call(func=ast.Name(id="IF"), args=[test, then, other]):
            columns = zip(*(_value(part, metrics, length) for part in (test, then, other)), strict=True)
            return [None if tested is None else (yes if tested else no) for tested, yes, no in columns]
        case ast.Call(func=ast.Name(id="CEIL"), args=[inner]):
            return [None if value is None else float(-(-value // 1)) for value in _value(inner, metrics, length)]
        case _:
            raise ExpressionError(f"not understood: {ast.unparse(node)}")


def _both(
    function: Callable[[float, float], float], left: Sequence[float | None], right: Sequence[float | None]
) -> list[float | None]:
    results: list[float | None] = []
    for a, b in zip(left, right, strict=True):
        if a is None or b is None:
            results.append(None)
            continue
        try:
            results.append(float(function(a, b)))
        except ZeroDivisionError:
            results.append(None)
    return results


def _repeated(series: Sequence[float | None]) -> list[float | None]:
    last: float | None = None
    filled = []
    for value in series:
        last = last if value is None else value
        filled.append(last)
    return filled

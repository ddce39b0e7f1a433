"""Dimensions as an artifact writes them: integers, and text over the symbolic sizes. Layer 4, runtime.

This module is copied into exported models.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence

from graphc.errors import ArtifactError

__all__ = ["dimension"]


def dimension(text: int | str, symbols: tuple[str, ...]) -> Callable[[Sequence[int]], int]:
    """A function from the symbols' values to a dimension's value.

    Parameters
    ----------
    text
        An integer or an expression over symbols: `+ - * // %`, `pos(x)` = max(x, 0), `floordiv(x, y)`, `min`, `max`.
    symbols
        Names in the order of the values.

    Raises
    ------
    ArtifactError
        If the text is anything else.

    >>> dimension("2*s0 + pos(s1 - 1)", ("s0", "s1"))((3, 5))
    10
    """
    if isinstance(text, int):
        return lambda values: text
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        raise ArtifactError(f"{text!r} is not a dimension") from None
    for node in ast.walk(tree):
        known = isinstance(node, _DIMENSION_NODES)
        if isinstance(node, ast.Name):
            known = node.id in symbols or node.id in _DIMENSION_FUNCTIONS
        elif isinstance(node, ast.Constant):
            known = type(node.value) is int
        if not known:
            raise ArtifactError(f"{text!r} is not a dimension over {', '.join(symbols) or 'no symbols'}")
    arguments = ast.arguments(
        posonlyargs=[], args=[ast.arg(arg=name) for name in symbols], kwonlyargs=[], kw_defaults=[], defaults=[]
    )
    function = ast.fix_missing_locations(ast.Expression(ast.Lambda(args=arguments, body=tree.body)))
    # Only whitelisted node types are left, and no builtins are reachable.
    evaluate = eval(compile(function, "<dimension>", "eval"), {"__builtins__": {}, **_DIMENSION_FUNCTIONS})
    return lambda values: int(evaluate(*values))


_DIMENSION_NODES = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.Call, ast.Load),
    *(ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod, ast.USub),
)
_DIMENSION_FUNCTIONS: dict[str, Callable[..., int]] = {
    "pos": lambda x: max(x, 0),
    "floordiv": lambda x, y: x // y,
    "min": min,
    "max": max,
}

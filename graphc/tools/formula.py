"""Derivatives as text: an op's rule is run on named values, and what it builds is printed as a formula. Layer 7.

The rule itself is what is printed, so the text cannot differ from what is computed. Values that are used more than once, and
long ones, are named on lines of their own before the results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from graphc.dtypes import DType
from graphc.ir.graph import Attribute, Graph, Literal, Node, Value, input_value, make
from graphc.ir.op import GraphBuilder, Op, materialize
from graphc.ir.types import TensorType, Type

__all__ = ["attribute", "derivative", "names"]

#: How ops that are operators are written, and how tightly they bind.
_INFIX = {
    "add": ("+", 1),
    "subtract": ("-", 1),
    "multiply": ("*", 2),
    "divide": ("/", 2),
    "equal": ("==", 0),
    "not_equal": ("!=", 0),
    "less": ("<", 0),
    "less_equal": ("<=", 0),
    "greater": (">", 0),
    "greater_equal": (">=", 0),
}
_PREFIX = {"negative": "-"}
#: What binds tighter than any operator.
_ATOM = 9
#: Values whose text is no longer than this are written out at every use; longer than that they have a line of their own.
_SHORT = 24
_LONG = 80


def names(count: int) -> tuple[list[str], str]:
    """The names of so many operands, and the stem of the results' names."""
    return {1: (["x"], "y"), 2: (["x", "y"], "z")}.get(count, ([f"x{i}" for i in range(count)], "y"))


def derivative(op: Op, types: Sequence[Type], attrs: Mapping[str, Attribute]) -> list[str]:
    """The cotangents of the operands by those of the results, one a line: `dx = dy * cos(x)`; none for those that are zero.

    >>> from graphc.dtypes import float32
    >>> from graphc.ir import registry
    >>> import graphc.ops.arithmetic
    >>> derivative(registry.get("divide"), [TensorType(float32, (3,))] * 2, {})
    ['dx = dz * reciprocal(y)', 'dy = dz * -(z / y)']
    """
    operands = [input_value(i, t) for i, t in enumerate(types)]
    node = make(op, operands, **attrs)
    operand_names, stem = names(len(operands))
    plural = len(node.results) > 1
    result_names = [f"{stem}{i}" if plural else stem for i in range(len(node.results))]
    cotangents: list[Value | None] = [None] * len(node.results)
    known = dict(zip([*operands, *node.results], [*operand_names, *result_names], strict=True))
    for i, result in enumerate(node.results):
        if isinstance(result.type, TensorType) and result.type.dtype.is_inexact:
            cotangents[i] = cotangent = input_value(len(known), result.type)
            known[cotangent] = f"d{result_names[i]}"
    if all(ct is None for ct in cotangents):
        return []
    b = GraphBuilder()
    found = op.differentiate(b, operands, node.results, cotangents, attrs)
    values = [(name, materialize(b, ct)) for name, ct in zip(operand_names, found, strict=True) if ct is not None]
    return _Writer(known, [value for _, value in values]).lines(values)


class _Writer:
    """Texts of values, with how tightly each binds."""

    def __init__(self, known: Mapping[Value, str], roots: Sequence[Value]) -> None:
        self._texts: dict[Value, tuple[str, int]] = {value: (name, _ATOM) for value, name in known.items()}
        self._lines: list[str] = []
        self._roots = set(roots)
        graph = Graph(tuple(v.type for v in known if v.node.op.name == "input"), tuple(roots), "derivative")
        self._nodes = graph.nodes
        self._uses = Counter(v for node in self._nodes for v in set(node.operands))

    def lines(self, values: Sequence[tuple[str, Value]]) -> list[str]:
        for node in self._nodes:
            if all(result in self._texts for result in node.results):
                continue
            text = self._text(node)
            for i, result in enumerate(node.results):
                part = (f"{text[0]}[{i}]", _ATOM) if len(node.results) > 1 else text
                if len(part[0]) > (_SHORT if self._uses[result] > 1 else _LONG) and result not in self._roots:
                    name = f"t{len(self._lines) + 1}"
                    self._lines.append(f"{name} = {part[0]}")
                    part = (name, _ATOM)
                self._texts[result] = part
        return [*self._lines, *(f"d{name} = {self._texts[value][0]}" for name, value in values)]

    def _text(self, node: Node) -> tuple[str, int]:
        name, operands = node.op.name, node.operands
        if name == "constant":
            return attribute(node.attrs["value"]), _ATOM
        if name == "broadcast" and operands[0].node.op.name == "constant":
            return self._texts[operands[0]]
        if name in _INFIX:
            sign, level = _INFIX[name]
            left, right = self._operand(operands[0], level), self._operand(operands[1], level + 1)
            return f"{left} {sign} {right}", level
        if name in _PREFIX:
            return f"{_PREFIX[name]}{self._operand(operands[0], 3)}", 3
        parts = [self._texts[v][0] for v in operands]
        parts += [f"{key}={attribute(node.attrs[key])}" for key in node.op.attributes]
        return f"{name}({', '.join(parts)})", _ATOM

    def _operand(self, value: Value, level: int) -> str:
        text, own = self._texts[value]
        return text if own >= level else f"({text})"


def attribute(value: Attribute) -> str:
    """An attribute as Python would write it; literals of one element as that, larger ones as their type."""
    if isinstance(value, Literal):
        return f"{value.array.item()!r}" if value.array.size == 1 else str(value.type)
    if isinstance(value, DType):
        return value.name
    if isinstance(value, tuple):
        return f"({', '.join(map(attribute, value))}{',' if len(value) == 1 else ''})"
    return str(value) if not isinstance(value, str) else repr(value)

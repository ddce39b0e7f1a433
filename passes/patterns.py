"""Patterns over graph values, written with operators, and the rules that they make. Layer 4, passes.

`x * 1` matches a product by ones on either side and binds `x`; `P.transpose(P.transpose(x, perm=p), perm=q)` binds
attributes too. A literal matches a constant all of whose elements have its bits (`0.0` does not match `-0.0`), also behind a
broadcast. A variable that stands twice matches one value: nodes are interned, so equal means identical.

A `Rule` rewrites the value of a node to a value of the same type, or declines. Rules are pure; who applies them counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.ir.graph import Attribute, Node, Value, attribute_key

__all__ = [
    "Applied",
    "Literal",
    "P",
    "Pattern",
    "Rule",
    "Scalar",
    "Variable",
    "common_element",
    "literal",
    "match",
    "rule",
]

Bindings = dict[str, Any]

#: Ops whose operands a pattern may find in either order. Maximum and minimum are not: zeros differ in sign.
COMMUTATIVE = frozenset({"add", "multiply", "equal", "not_equal", "bitwise_and", "bitwise_or", "bitwise_xor"})


class Pattern:
    """What a value may look like. Operators build patterns of the ops that they name."""

    def __add__(self, other: Operand) -> Applied:
        return Applied("add", (self, _lift(other)))

    def __radd__(self, other: Operand) -> Applied:
        return Applied("add", (_lift(other), self))

    def __sub__(self, other: Operand) -> Applied:
        return Applied("subtract", (self, _lift(other)))

    def __rsub__(self, other: Operand) -> Applied:
        return Applied("subtract", (_lift(other), self))

    def __mul__(self, other: Operand) -> Applied:
        return Applied("multiply", (self, _lift(other)))

    def __truediv__(self, other: Operand) -> Applied:
        return Applied("divide", (self, _lift(other)))

    def __rtruediv__(self, other: Operand) -> Applied:
        return Applied("divide", (_lift(other), self))

    def __neg__(self) -> Applied:
        return Applied("negative", (self,))

    def __and__(self, other: Operand) -> Applied:
        return Applied("bitwise_and", (self, _lift(other)))

    def __or__(self, other: Operand) -> Applied:
        return Applied("bitwise_or", (self, _lift(other)))

    def __xor__(self, other: Operand) -> Applied:
        return Applied("bitwise_xor", (self, _lift(other)))


Operand = Pattern | float | int | bool


@dataclass(frozen=True)
class Variable(Pattern):
    """Any value (or, as an attribute of `Applied`, any attribute), bound to `name`."""

    name: str


@dataclass(frozen=True)
class Scalar(Pattern):
    """A constant all of whose elements are equal; binds its element, a NumPy scalar."""

    name: str


@dataclass(frozen=True)
class Literal(Pattern):
    """A constant all of whose elements have the bits of `value` in their dtype."""

    value: float | int | bool


@dataclass(frozen=True)
class Applied(Pattern):
    """An op on operands. Attributes that are not named may have any value."""

    op: str
    operands: tuple[Pattern, ...]
    attrs: tuple[tuple[str, Attribute | Variable], ...] = ()


class _Ops:
    """`P.tanh(x)`: the pattern of an op by name."""

    def __getattr__(self, name: str) -> Callable[..., Applied]:
        def apply(*operands: Operand, **attrs: Attribute) -> Applied:
            return Applied(name, tuple(map(_lift, operands)), tuple(attrs.items()))

        return apply


P = _Ops()


def _lift(operand: Operand) -> Pattern:
    return operand if isinstance(operand, Pattern) else Literal(operand)


def literal(value: Value) -> Any:
    """The common element of a constant (a NumPy scalar), looked for behind broadcasts and reshapes; None if there is none."""
    while value.node.op.name in ("broadcast", "reshape"):
        value = value.node.operands[0]
    if value.node.op.name != "constant":
        return None
    return common_element(value.node.attrs["value"].array)


def common_element(array: np.ndarray[Any, Any]) -> Any:
    """The element that an array consists of, by bits; None if there are several or none. A glance rejects most arrays."""
    flat = array.reshape(-1)
    if flat.size == 0 or flat[0].tobytes() != flat[-1].tobytes():
        return None
    raw = flat.view(np.uint8).reshape(flat.size, -1)
    return flat[0] if (raw == raw[0]).all() else None


def match(pattern: Pattern, value: Value) -> Iterator[Bindings]:
    """All ways in which `value` is of the form `pattern`."""
    return _match(pattern, value, {})


def _match(pattern: Pattern, value: Value, bound: Bindings) -> Iterator[Bindings]:
    """Recursion is over the pattern, which is small."""
    if isinstance(pattern, Variable):
        if bound.get(pattern.name, value) is value:
            yield {**bound, pattern.name: value}
    elif isinstance(pattern, Applied):
        yield from _match_applied(pattern, value.node, bound)
    else:
        element = literal(value)
        if element is None:
            return
        if isinstance(pattern, Scalar):
            yield {**bound, pattern.name: element}
        elif isinstance(pattern, Literal) and _has_bits(element, pattern.value):
            yield bound


def _match_applied(pattern: Applied, node: Node, bound: Bindings) -> Iterator[Bindings]:
    if node.op.name != pattern.op or len(node.operands) != len(pattern.operands):
        return
    for name, wanted in pattern.attrs:
        found = node.attrs[name]
        if isinstance(wanted, Variable):
            bound = {**bound, wanted.name: found}
        elif attribute_key(wanted) != attribute_key(found):
            return
    orders = [node.operands]
    if pattern.op in COMMUTATIVE and node.operands[0] is not node.operands[1]:
        orders.append(node.operands[::-1])
    for operands in orders:
        yield from _match_all(pattern.operands, operands, bound)


def _match_all(patterns: Sequence[Pattern], values: Sequence[Value], bound: Bindings) -> Iterator[Bindings]:
    if not patterns:
        yield bound
        return
    for found in _match(patterns[0], values[0], bound):
        yield from _match_all(patterns[1:], values[1:], found)


def _has_bits(element: Any, value: float | int | bool) -> bool:
    if isinstance(value, bool) != (element.dtype.kind == "b"):
        return False
    if element.dtype.kind in "iu" and not np.iinfo(element.dtype).min <= value <= np.iinfo(element.dtype).max:
        return False
    return bool(element.dtype.type(value).tobytes() == element.tobytes())


@dataclass(frozen=True, eq=False, slots=True)
class Rule:
    """An equation: a value of an op in `roots` (None: any op) that `rewrite` accepts equals what it returns.

    `exact`: the bits stay the same for all operands (NaN counted as equal to NaN). A rule that is not exact changes values or
    special cases and needs the user's permission.
    """

    name: str
    exact: bool
    roots: tuple[str, ...] | None
    rewrite: Callable[[Node], Value | None]
    pattern: Applied | None = None

    def apply(self, node: Node) -> Value | None:
        """The new value, or None if the rule does not apply."""
        new = self.rewrite(node)
        assert new is None or new.type == node.types[0], f"{self.name}: {node} became a {new}"
        return None if new is None or new is node.results[0] else new


def rule(
    name: str,
    pattern: Pattern,
    build: Callable[..., Value | None],
    *,
    where: Callable[..., bool] | None = None,
    exact: bool = True,
) -> Rule:
    """A rule from a pattern: `build(**bindings)` makes the new value (None declines), if `where(**bindings)` holds."""
    assert isinstance(pattern, Applied), name

    def rewrite(node: Node) -> Value | None:
        for bound in match(pattern, node.results[0]):
            if where is None or where(**bound):
                new = build(**bound)
                if new is not None:
                    return new
        return None

    return Rule(name, exact, (pattern.op,), rewrite, pattern)


def attributes(node: Node, **changed: Attribute) -> Mapping[str, Attribute]:
    """A node's attributes with some changed."""
    return {**node.attrs, **changed}

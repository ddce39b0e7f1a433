"""Joining what regions left in names: results of control nodes in the places of what differs. Layer 5, rewriting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphc.errors import TraceError, message
from graphc.frontend import pytree
from graphc.frontend.rewriting.values import RETURN_VALUE, Left, Own, Undefined, is_number
from graphc.frontend.source import user_location
from graphc.frontend.subtrace import Argument, Result, Sub, argument_of
from graphc.frontend.tensor import Tensor
from graphc.frontend.trace import Traced
from graphc.ir.graph import Value, constant, full, make
from graphc.ir.types import TensorType

__all__ = [
    "Joined",
    "Merge",
    "common_type",
    "handle",
    "is_same",
    "place_of",
    "resolved",
    "shown",
    "type_of_leaf",
    "value_of_leaf",
    "with_outputs",
]


class Joined:
    """A leaf of the state after a control node: its result `index`. (Not a dataclass: those are containers of leaves.)"""

    __slots__ = ("index", "kind", "weak")

    def __init__(self, index: int, kind: str, weak: bool) -> None:
        self.index = index
        self.kind = kind
        self.weak = weak


def resolved(value: Any, results: Sequence[Tensor]) -> Any:
    """A name's value with the node's results in the places of `Joined` leaves."""
    if isinstance(value, Undefined):
        return value
    leaves, _, structure = pytree.flatten(value)
    return pytree.unflatten(structure, [handle(results[x.index], x) if isinstance(x, Joined) else x for x in leaves])


def handle(result: Tensor, how: Joined) -> Tensor:
    if isinstance(result, Traced):
        result.kind, result.weak = how.kind, how.weak
    return result


class Merge:
    """Joins what the two sides of a branch left; `outputs` are the values to give on each side."""

    def __init__(self, subs: Sequence[Sub]) -> None:
        self._subs = subs
        self.outputs: tuple[list[Value], list[Value]] = ([], [])

    def name(self, name: str, first: Left | Undefined, second: Left | Undefined) -> Any:
        """What a name holds after the branch."""
        if isinstance(first, Undefined) and isinstance(second, Undefined):
            return first if first.why else second
        if isinstance(first, Undefined) or isinstance(second, Undefined):
            if name != RETURN_VALUE:
                return Undefined(name, f"is bound in one branch only ({place_of('if')})")
            known, side = (second, 1) if isinstance(first, Undefined) else (first, 0)
            assert isinstance(known, Left)
            return pytree.unflatten(known.structure, [self._beside_zeros(leaf, side) for leaf in known.leaves])
        if first.structure != second.structure:
            return _refused(name, "has another structure in each branch")
        leaves = []
        for path, a, b in zip(first.paths, first.leaves, second.leaves, strict=True):
            joined = self._leaf(a, b)
            if isinstance(joined, str):
                return _refused(name + path, joined)
            leaves.append(joined)
        return pytree.unflatten(first.structure, leaves)

    def _leaf(self, a: Any, b: Any) -> Any:
        """The joined leaf, or in words why there is none."""
        if isinstance(a, Own) and isinstance(b, Own) and a.outer is not None and a.outer is b.outer:
            return a.outer
        if is_same(a, b):
            return a
        if not all(isinstance(x, Own) or is_number(x) for x in (a, b)):
            return f"is {shown(a)} in one branch and {shown(b)} in the other"
        types = [type_of_leaf(sub, x) for sub, x in zip(self._subs, (a, b), strict=True)]
        common = common_type(*types)
        if common is None:
            return f"is {types[0].type} in one branch and {types[1].type} in the other"
        for side, x in enumerate((a, b)):
            self.outputs[side].append(value_of_leaf(self._subs[side], x, common.type))
        return Joined(len(self.outputs[0]) - 1, common.kind, common.weak)

    def _beside_zeros(self, leaf: Any, side: int) -> Any:
        """A leaf of the value that one side returns, beside zeros on the side that goes on (nobody looks at them)."""
        if not (isinstance(leaf, Own) or is_number(leaf)):
            return leaf
        how = type_of_leaf(self._subs[side], leaf)
        self.outputs[side].append(value_of_leaf(self._subs[side], leaf, how.type))
        self.outputs[1 - side].append(_zeros(how.type))
        return Joined(len(self.outputs[0]) - 1, how.kind, how.weak)


def place_of(statement: str) -> str:
    return f"the `{statement}` at {user_location()}"


def _refused(name: str, why: str) -> Undefined:
    if name.startswith(RETURN_VALUE):
        raise TraceError(
            message(
                f"the returned value{name[len(RETURN_VALUE) :]} {why}",
                location=user_location(),
                hint="Return the same structure of arrays, with equal shapes and dtypes, on every path.",
            )
        )
    return Undefined(name, f"{why} ({place_of('if')})")


def is_same(a: Any, b: Any) -> bool:
    """Whether two Python values are the same, so that a name keeps a Python value."""
    if a is b:
        return True
    if isinstance(a, (Own, np.ndarray)) or type(a) is not type(b):
        return False
    return bool(a == b) or repr(a) == repr(b) == "nan"


def shown(x: Any) -> str:
    return "an array" if isinstance(x, Own) else repr(x)


def type_of_leaf(sub: Sub, leaf: Any) -> Argument:
    if isinstance(leaf, Own):
        return Argument(sub.graph.outputs[leaf.index].tensor, leaf.kind, leaf.weak)
    return argument_of(leaf)


def common_type(a: Argument, b: Argument) -> Argument | None:
    """The type of a value that is one or the other; None if no array can be both."""
    if a.type.shape != b.type.shape:
        return None
    kind = "tensor" if "tensor" in (a.kind, b.kind) else "ndarray"
    if a.type == b.type:
        return Argument(a.type, kind, a.weak and b.weak)
    if a.weak and b.weak:
        wider = a if a.type.dtype.is_float else b
        return Argument(wider.type, kind, True)
    weak, strong = (a, b) if a.weak else (b, a)
    if not (weak.weak or weak.type.dtype.is_bool) or (weak.type.dtype.is_float and not strong.type.dtype.is_float):
        return None
    if strong.type.dtype.is_bool:
        return None
    return Argument(strong.type, kind, strong.weak)


def value_of_leaf(sub: Sub, leaf: Any, wanted: TensorType) -> Value:
    """A leaf as a value of the side's graph, of the wanted type."""
    if not isinstance(leaf, Own):
        return constant(np.asarray(leaf, dtype=wanted.dtype.numpy))
    value = sub.graph.outputs[leaf.index]
    return value if value.tensor == wanted else make("convert", (value,), dtype=wanted.dtype).result


def _zeros(wanted: TensorType) -> Value:
    return full(wanted.shape, 0.0, wanted.dtype)


def with_outputs(sub: Sub, values: Sequence[Value]) -> Sub:
    """The traced region with other results; writes and effects stay."""
    graph = sub.graph
    kept = graph.outputs[sub.outputs :]
    writes = tuple(replace(w, index=w.index - sub.outputs + len(values)) for w in sub.writes)
    results = tuple(Result(i) for i in range(len(values)))
    structure = pytree.flatten([0] * len(values))[2]
    paths = tuple(f"[{i}]" for i in range(len(values)))
    return replace(
        sub,
        graph=replace(graph, outputs=(*values, *kept)),
        results=results,
        structure=structure,
        paths=paths,
        writes=writes,
    )

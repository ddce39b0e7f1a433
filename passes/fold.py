"""Constant folding. Layer 4, passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graphc.ir.graph import Graph, Node, Value, constant, make, rebuild
from graphc.ir.op import Composite, Contraction, Control, Elementwise, Movement, Reduction
from graphc.passes.base import Journal, Rewriter, map_held

__all__ = ["ConstantFold"]


@dataclass(frozen=True)
class ConstantFold(Rewriter):
    """`f(constants) --> constant`, computed by the op's NumPy definition: op(1.0, 2.0) becomes 3.0.

    Results of at most `limit` elements, and never larger than the constants that they are made of (a broadcast stays
    symbolic, it costs nothing). Values are NumPy's: for exactly rounded ops these are the compiled code's bits as well; for
    transcendental ones and sums of floats they are within the op's stated bound of what compiled code would give, and
    `inexact=False` leaves those alone. Nodes that can fail, random bits and nodes with held graphs are not folded.
    """

    name: ClassVar[str] = "constant-fold"
    limit: int = 4096
    inexact: bool = True

    def apply(self, graph: Graph, journal: Journal) -> Graph:
        def visit(node: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
            attrs = node.attrs
            if isinstance(node.op, (Control, Composite)):
                attrs = map_held(node, lambda held: self.apply(held, journal))
            if operands != node.operands or attrs is not node.attrs:
                node = make(node.op, operands, **attrs)
            folded = self.folded(node)
            if folded is None or not journal.permit(f"fold {node.op.name}"):
                return node.results
            return (folded,)

        return rebuild(graph, visit)

    def folded(self, node: Node) -> Value | None:
        """The constant that a node is, if it is to be folded."""
        if not self.permits(node):
            return None
        size = node.results[0].tensor.size
        arrays = [_array(v) for v in node.operands]
        stored = max(
            (v.node.attrs["value"].array.size for v in map(_source, node.operands) if _is_constant(v)), default=0
        )
        if not isinstance(size, int) or size > min(self.limit, max(stored, 1)) or any(a is None for a in arrays):
            return None
        (result,) = node.op.evaluate(arrays, node.attrs)
        return constant(np.ascontiguousarray(result).reshape(result.shape))

    def permits(self, node: Node) -> bool:
        op = node.op
        if not node.operands or op.fallible or op.effect or op.name == "broadcast":
            return False
        if isinstance(op, Movement):
            return True
        if not isinstance(op, (Elementwise, Reduction, Contraction)):
            return False
        exact = isinstance(op, (Elementwise, Reduction)) and op.exact
        if any(v.dtype.is_complex for v in (*node.operands, *node.results)):
            return self.inexact
        return exact or self.inexact or not node.results[0].dtype.is_float


def _is_constant(value: Value) -> bool:
    return value.node.op.name == "constant"


def _source(value: Value) -> Value:
    """What a broadcast repeats."""
    return value.node.operands[0] if value.node.op.name == "broadcast" else value


def _array(value: Value) -> Any:
    """The array of a constant or of a broadcast constant, else None."""
    source = _source(value)
    if not _is_constant(source):
        return None
    shape = value.shape
    if not all(isinstance(d, int) for d in shape):
        return None
    return np.broadcast_to(source.node.attrs["value"].array, shape)  # type: ignore[arg-type]

"""Narrow arithmetic by way of wider: what native code does not compute in 16 bits. Layer 4, passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphc.dtypes import DType, float32, int32
from graphc.ir.graph import Graph, Node, Value, make, rebuild
from graphc.ir.op import Contraction, Control, Expansion, Movement, Op
from graphc.ir.types import TensorType
from graphc.passes.base import Journal, Rewriter, map_held
from graphc.passes.fold import ConstantFold

__all__ = ["Widen", "narrowed", "widened", "wider"]


@dataclass(frozen=True)
class Widen(Rewriter):
    """Compute in a wider dtype and round the result once:

        f16:  y = op(x)      -->  y = convert(op(convert(x, f32)), f16)
        i8:   z = dot(x, y)  -->  z = convert(dot(convert(x, i32), convert(y, i32)), i8)

    16-bit floats in float32, as NumPy does: every op is rounded, but a reduction, contraction or scatter-add only at its end.
    Contractions, and what expands to them, of narrow integers in 32 bits, whose low bits are the wrapped result. Ops that
    only copy elements stay.
    """

    name: ClassVar[str] = "widen"

    def apply(self, graph: Graph, journal: Journal) -> Graph:
        def visit(node: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
            attrs = node.attrs
            if isinstance(node.op, Control):
                attrs = map_held(node, lambda held: self.apply(held, journal))
            if not _is_narrow(node) or not journal.permit(f"widen {node.op.name}"):
                return make(node.op, operands, **attrs).results
            return narrowed(node, make(node.op, widened(node, operands), **attrs).results)

        return rebuild(graph, visit)


def wider(op: Op, dtype: DType) -> DType:
    """The dtype in which native code computes `op` on elements of `dtype`."""
    if not op.computes or op.narrow:
        return dtype
    if dtype.is_short_float:
        return float32
    return int32 if isinstance(op, (Contraction, Expansion)) and dtype.is_integer and dtype.bits < 32 else dtype


def widened(node: Node, operands: Sequence[Value]) -> list[Value]:
    """New operands for `node`, as native code computes with them."""
    return [_convert(v, wider(node.op, v.dtype)) if isinstance(v.type, TensorType) else v for v in operands]


def narrowed(node: Node, results: Sequence[Value]) -> list[Value]:
    """Results that were computed in wider dtypes, in the node's own."""
    return [_convert(v, old.dtype) for v, old in zip(results, node.results, strict=True)]


def _is_narrow(node: Node) -> bool:
    types = [v.type for v in node.operands]
    return any(isinstance(t, TensorType) and wider(node.op, t.dtype) is not t.dtype for t in types)


def _convert(x: Value, dtype: DType) -> Value:
    """`x` as `dtype`: a repeated scalar is converted before it is repeated, a constant right away."""
    if x.dtype is dtype:
        return x
    node = x.node
    if isinstance(node.op, Movement) and len(node.operands) == 1 and not node.operands[0].shape:
        return make(node.op, (_convert(node.operands[0], dtype),), **node.attrs).result
    made = make("convert", (x,), dtype=dtype)
    return ConstantFold().folded(made) or made.result

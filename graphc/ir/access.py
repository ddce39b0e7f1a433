"""Index maps of movement nodes: which element of which operand a result element is. Layer 1.

`sources_at(node, index)` serves every movement, reshapes that only insert or remove unit axes included; passes and the
code generator look through movements with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir.affine import Affine
from graphc.ir.graph import Node
from graphc.ir.op import Movement, Source, Special

__all__ = ["foldable", "is_view", "sources_at", "unit_reshape"]


def is_view(node: Node) -> bool:
    """Whether a node's value is its operand's memory under another shape, dtype or name."""
    return isinstance(node.op, (Movement, Special)) and node.op.view


def unit_reshape(node: Node) -> tuple[int | None, ...] | None:
    """For a reshape that only inserts or removes unit axes: for each dimension of the operand the result's dimension that
    walks it, None for unit dimensions. None for all other nodes.

    `f32[64] -> f32[64, 1]` gives `(0,)`; `f32[64, 1] -> f32[64]` gives `(0, None)`.
    """
    if not isinstance(node.op, Movement) or not node.op.view:
        return None
    (x,) = node.operands
    walked = [a for a, d in enumerate(node.result.shape) if d != 1]
    moved = [a for a, d in enumerate(x.shape) if d != 1]
    if [node.result.shape[a] for a in walked] != [x.shape[a] for a in moved]:
        return None
    to = dict(zip(moved, walked, strict=True))
    return tuple(to.get(a) for a in range(len(x.shape)))


def sources_at(node: Node, index: Sequence[Affine]) -> Sequence[Source]:
    """The sources of a movement's result element at `index`; a view must be a unit reshape."""
    assert isinstance(node.op, Movement)
    if node.op.sources is not None:
        return node.op.sources(tuple(index), *(v.shape for v in node.operands), **node.attrs)
    walk = unit_reshape(node)
    assert walk is not None, node
    return [Source(0, tuple(Affine(()) if a is None else index[a] for a in walk))]


def foldable(node: Node) -> bool:
    """Whether a node is a movement with one source and no condition, so that strides and an offset express it."""
    if not isinstance(node.op, Movement) or len(node.operands) != 1:
        return False
    if node.op.sources is None:
        return unit_reshape(node) is not None
    from_axes = [Affine(((a, 1),)) for a in range(len(node.result.shape))]
    found = sources_at(node, from_axes)
    return len(found) == 1 and not found[0].guards

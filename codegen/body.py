"""Reading a kernel's body: which elements of its operands each result needs. Layer 4, codegen.

`reads` walks a body with index maps and answers for each result and operand at which index expressions it is read; from it
follows whether a result may be written over an operand (`in_place`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from graphc.ir.access import foldable, sources_at
from graphc.ir.affine import Affine, affine, axes_of
from graphc.ir.graph import Graph, Node, Value, make, rebuild
from graphc.ir.op import Contraction, Elementwise, Movement, Reduction, Special

__all__ = ["Read", "in_place", "is_scalar_constant", "reads", "reduction_depth", "without_dot"]


@dataclass(frozen=True, slots=True)
class Read:
    """Operand `operand` is read at `index`, expressions over the result's axes; None where it is read at more than that:
    under a condition, inside a reduction or product, or at indices known at run time only."""

    operand: int
    index: tuple[Affine, ...] | None


def in_place(body: Graph, operand: int, result: int) -> bool:
    """Whether a kernel with this body may write `result` over `operand`.

    It may if all results that read the operand do so at their own index, have the result's shape and are stored together
    with it: the kernel then reads each element before it writes it.
    """
    output = body.outputs[result]
    if output.type != body.inputs[operand]:
        return False
    depth = reduction_depth(output)
    for other in body.outputs:
        found = [r for r in reads(other) if r.operand == operand]
        if other is output and not found and any(r.operand == operand for o in body.outputs for r in reads(o)):
            return False
        if not found:
            continue
        if any(r.index != axes_of(len(output.shape)) for r in found):
            return False
        if other.shape != output.shape or reduction_depth(other) != depth:
            return False
    return True


@lru_cache(maxsize=4096)
def reads(output: Value) -> frozenset[Read]:
    """What one result of a body reads."""
    return frozenset(_reads(output))


def _reads(output: Value) -> Iterator[Read]:
    start: tuple[Affine, ...] | None = axes_of(len(output.shape))
    stack: list[tuple[Value, tuple[Affine, ...] | None]] = [(output, start)]
    seen = set(stack)
    while stack:
        value, index = stack.pop()
        node = value.node
        if node.op.name == "input":
            yield Read(node.attrs["index"], index)
            continue
        for following in _operand_reads(node, index):
            if following not in seen:
                seen.add(following)
                stack.append(following)


def _operand_reads(node: Node, index: tuple[Affine, ...] | None) -> Iterator[tuple[Value, tuple[Affine, ...] | None]]:
    if index is not None and isinstance(node.op, Elementwise):
        yield from ((v, index) for v in node.operands)
    elif index is not None and isinstance(node.op, Movement) and foldable(node):
        (source,) = sources_at(node, index)
        yield node.operands[source.operand], tuple(affine(x) for x in source.index)
    else:
        yield from ((v, None) for v in node.operands)


@lru_cache(maxsize=4096)
def reduction_depth(output: Value) -> int:
    """How many reductions, one inside the other, a value is computed from: values of equal depth are stored together."""
    depth: dict[Value, int] = {}
    stack = [output]
    while stack:
        value = stack[-1]
        missing = [v for v in value.node.operands if v not in depth]
        if missing:
            stack.extend(missing)
            continue
        own = 1 if isinstance(value.node.op, Reduction) else 0
        depth[value] = own + max((depth[v] for v in value.node.operands), default=0)
        stack.pop()
    return depth[output]


def is_scalar_constant(value: Value) -> bool:
    """Whether a value is a constant of rank 0."""
    return isinstance(value.node.op, Special) and value.node.op.name == "constant" and not value.shape


def without_dot(body: Graph) -> Graph:
    """The body with its dot as a sum of products, which the loop IR takes whatever the sizes."""
    return rebuild(body, _without_dot)


def _without_dot(node: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
    if not isinstance(node.op, Contraction):
        return make(node.op, operands, **node.attrs).results
    x, y = operands
    numbers = node.attrs
    batch, summed = len(numbers["lhs_batch"]), len(numbers["lhs_contract"])
    rows = len(x.shape) - batch - summed
    columns = len(y.shape) - batch - summed
    depth = tuple(x.shape[a] for a in numbers["lhs_contract"])
    space = (*node.result.shape, *depth)
    left = _aligned(x, numbers["lhs_batch"], numbers["lhs_contract"], batch + rows, columns)
    right = _aligned(y, numbers["rhs_batch"], numbers["rhs_contract"], batch, rows)
    factors = [make("broadcast", (v,), shape=space).result for v in (left, right)]
    product = make("multiply", factors).result
    axes = tuple(range(len(node.result.shape), len(space)))
    return make("sum", (product,), axes=axes).results if axes else (product,)


def _aligned(x: Value, batch: Sequence[int], contract: Sequence[int], at: int, missing: int) -> Value:
    """A dot's operand with axes in the order batch, free, contracted, and unit axes for the other side's free ones."""
    free = [a for a in range(len(x.shape)) if a not in batch and a not in contract]
    moved = make("transpose", (x,), perm=(*batch, *free, *contract)).result
    shape = (*moved.shape[:at], *(1,) * missing, *moved.shape[at:])
    return make("reshape", (moved,), shape=shape).result

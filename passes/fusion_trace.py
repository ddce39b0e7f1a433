"""What fusion knows of single nodes: their role, and which element of what an operand's element is. Layer 4, passes.

A node has one of these roles:

- `real`: computes something (elementwise, reduction, random bits, take); belongs to exactly one group.
- `link`: pure movement, iota, constants of rank 0 and elementwise ops so cheap that computing them again costs less than
  a load; has no group, every group that needs it gets a copy.
- `dot`: a contraction; the root of a group of its own kind.
- `boundary`: lives in memory and is not looked through (inputs, larger constants, general reshapes, control, effects).

`Trace` answers where an operand comes from when the links are looked through: pairs of a base value and the plain index
map that leads there (`None` where the map is not plain, or where the base is demanded in memory).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.ir.access import foldable, sources_at, unit_reshape
from graphc.ir.affine import axes_of
from graphc.ir.dims import Dim
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.op import Contraction, Elementwise, Indexing, Movement, Random, Reduction, Special
from graphc.ir.types import TensorType

__all__ = [
    "BOUNDARY",
    "DOT",
    "LINK",
    "REAL",
    "Plain",
    "Roles",
    "Source",
    "foldable",
    "inner_axes",
    "plain_sources",
    "unit_reshape",
]

REAL, LINK, DOT, BOUNDARY = "real", "link", "dot", "boundary"

Plain = tuple[int | None, ...]
"""For each dimension of the base: the user's dimension that walks it, or None where the index is 0 (a unit dimension)."""


@dataclass(frozen=True, slots=True)
class Source:
    """One base of an operand, and the plain map that leads to it, if it is plain."""

    base: Value
    plain: Plain | None


def plain_sources(node: Node) -> list[tuple[Value, Plain | None]]:
    """The operands of a link with their index maps; the map is None unless it is a choice of axes."""
    if isinstance(node.op, Movement):
        shapes = [v.shape for v in node.operands]
        found = sources_at(node, axes_of(len(node.result.shape)))
        maps: dict[int, Plain | None] = {}
        for source in found:
            plain = None if source.guards or source.operand in maps else _plain(source.index, shapes[source.operand])
            maps[source.operand] = plain
        if len(found) > 1:
            maps = dict.fromkeys(maps)
        return [(v, maps.get(i)) for i, v in enumerate(node.operands)]
    identity = tuple(a if d != 1 else None for a, d in enumerate(node.result.shape))
    return [(v, identity) for v in node.operands]


def _plain(index: Sequence[object], shape: Sequence[Dim]) -> Plain | None:
    out: list[int | None] = []
    for expression, extent in zip(index, shape, strict=True):
        if extent == 1:
            out.append(None)
            continue
        axis = getattr(expression, "axis", None)
        if axis is None or axis in out:
            return None
        out.append(axis)
    return tuple(out)


def _compose(outer: Plain | None, inner: Plain | None) -> Plain | None:
    """base <- link (`inner`) <- user (`outer`)."""
    if outer is None or inner is None:
        return None
    return tuple(None if d is None else outer[d] for d in inner)


def inner_axes(shape: Sequence[Dim]) -> tuple[int, ...]:
    """The axes that are not unit."""
    return tuple(a for a, d in enumerate(shape) if d != 1)


class Roles:
    """The role of each node of one graph, and traces through its links."""

    def __init__(self, graph: Graph) -> None:
        self.nodes = graph.nodes
        self.order = {node: i for i, node in enumerate(self.nodes)}
        self.uses: dict[Node, int] = dict.fromkeys(self.nodes, 0)
        for node in self.nodes:
            for operand in node.operands:
                self.uses[operand.node] += 1
        self.role = {}
        for node in self.nodes:
            self.role[node] = self._first_role(node)
        self._traces: dict[Value, tuple[Source, ...]] = {}
        self._demand(graph)

    def _first_role(self, node: Node) -> str:
        op = node.op
        if isinstance(op, Special):
            generator = op.scalar is not None
            scalar = op.name == "constant" and not node.result.shape and not node.result.dtype.is_complex
            return LINK if generator or scalar else BOUNDARY
        if isinstance(op, Movement):
            return BOUNDARY if op.view and unit_reshape(node) is None else LINK
        if isinstance(op, Elementwise):
            return LINK if self._cheap(node) else REAL
        if isinstance(op, (Reduction, Random)) or (isinstance(op, Indexing) and op.name == "take"):
            return REAL
        return DOT if isinstance(op, Contraction) else BOUNDARY

    def _cheap(self, node: Node) -> bool:
        """One light operation on at most one array in memory (or what a link makes of it)."""
        assert isinstance(node.op, Elementwise)
        if node.op.heavy:
            return False
        arrays = 0
        for operand in node.operands:
            bases = self._bases(operand)
            if bases is None:
                return False
            arrays += bases
        return arrays <= 1

    def _bases(self, value: Value) -> int | None:
        """How many arrays in memory a value is loaded from; None if it has to be computed."""
        count = 0
        stack = [value]
        while stack:
            x = stack.pop()
            role = self.role[x.node]
            if role in (REAL, DOT) or (role == LINK and isinstance(x.node.op, Elementwise)):
                return None
            if role == LINK:
                stack.extend(x.node.operands)
            else:
                count += not isinstance(x.type, TensorType) or bool(x.shape)
        return count

    def _demand(self, graph: Graph) -> None:
        """Make links real where their value is needed in memory."""
        demanded = list(graph.outputs)
        for node in self.nodes:
            if self.role[node] == BOUNDARY or (self.role[node] == REAL and isinstance(node.op, (Indexing, Random))):
                demanded.extend(node.operands)
            elif self.role[node] == DOT:
                demanded.extend(self._unfolded(v) for v in node.operands)
        seen: set[Value] = set()
        while demanded:
            value = demanded.pop()
            if value in seen:
                continue
            seen.add(value)
            node = value.node
            if self.role[node] != LINK:
                continue
            if unit_reshape(node) is not None:
                self.role[node] = BOUNDARY
                demanded.extend(node.operands)
            else:
                # Constants that a product, or an indexing, reads from memory have a buffer like larger ones.
                self.role[node] = BOUNDARY if node.op.name == "constant" else REAL

    def _unfolded(self, value: Value) -> Value:
        """What a product's operand is, when movements that its strides express are looked through."""
        while self.role[value.node] == LINK and foldable(value.node):
            (value,) = value.node.operands
        return value

    def trace(self, value: Value) -> tuple[Source, ...]:
        """The bases of a value, links looked through. Iterative."""
        stack = [value]
        while stack:
            x = stack[-1]
            if x in self._traces:
                stack.pop()
                continue
            if self.role[x.node] != LINK:
                self._traces[x] = (Source(x, tuple(range(len(x.shape))) if isinstance(x.type, TensorType) else None),)
                stack.pop()
                continue
            inner = plain_sources(x.node) if x.node.operands else []
            missing = [v for v, _ in inner if v not in self._traces]
            if missing:
                stack.extend(missing)
                continue
            found = (Source(s.base, _compose(plain, s.plain)) for v, plain in inner for s in self._traces[v])
            self._traces[x] = tuple(dict.fromkeys(found))
            stack.pop()
        return self._traces[value]

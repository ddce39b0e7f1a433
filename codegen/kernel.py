"""The scalar DAG of a fused kernel: what one element of each result is, and where it goes. Layer 4, codegen.

A `Group` says *what* a kernel computes: axes with extents, buffers, and stores of scalar expressions over the axes'
indices. It says nothing about loops; `graphc.codegen.schedule` turns it into a loop tree, `graphc.codegen.emit` into LLVM
text. Movement has no node of its own: it is only the strides, the offset and the mask of a load or store.

Invariants: nodes are interned in their `Dag` (equal nodes are one object) and numbered in order of creation, so that
ascending `id` is a topological order; a node's `domain` is the set of axes that its value varies along, without the axes
that a reduction inside it has removed. Axes are numbers; an axis that does not occur in a domain costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from graphc.dtypes import DType, bool_, int64, uint64
from graphc.ir.dims import Dim, product
from graphc.ir.scalar import S, Scalar

__all__ = [
    "Access",
    "Add",
    "Apply",
    "Buffer",
    "Combine",
    "Const",
    "Dag",
    "Group",
    "Index",
    "Load",
    "Node",
    "Reduce",
    "Store",
    "Terms",
    "accesses",
    "bytes_moved",
    "flops",
    "reachable",
    "store_values",
]

Terms = tuple[tuple[int, Dim], ...]
"""Pairs of an axis and its stride in elements, sorted by axis, without zeros."""

#: What a heavy op (exp, log, tanh, ...) counts in operations: about the length of its polynomial.
HEAVY = 16


@dataclass(frozen=True, slots=True)
class Combine:
    """A way to reduce: `combine(s, x, accumulator)` is associative up to rounding, `identity(dtype)` its neutral element.

    `exact`: the order of combination does not change the result (of zeros with different signs a maximum may be either).
    With `arg` the result is the position of the winning element: `combine(s, x, best)` is then the condition that x
    replaces best, strict, so that of equals the one with the lowest position wins.
    """

    name: str
    combine: Callable[..., S]
    identity: Callable[[DType], float]
    arg: bool = False
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Buffer:
    """A C-contiguous array that the kernel gets a pointer to."""

    dtype: DType
    shape: tuple[Dim, ...]

    @property
    def nbytes(self) -> Dim:
        return product(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Access:
    """An element of a buffer: offset + sum of stride * axis index + sum of stride * dynamic index, in elements.

    A dynamic index is an integer node whose value is known to be in range (normalised and checked upstream).
    """

    buffer: int
    terms: Terms
    offset: Dim = 0
    dynamic: tuple[tuple[Node, Dim], ...] = ()

    def stride(self, axis: int) -> Dim:
        """The stride along an axis, not counting dynamic indices."""
        return dict(self.terms).get(axis, 0)

    def __str__(self) -> str:
        parts = [f"a{a}" if s == 1 else f"{_factor(s)}*a{a}" for a, s in self.terms]
        parts += [f"%{n.id}" if s == 1 else f"{_factor(s)}*%{n.id}" for n, s in self.dynamic]
        if self.offset != 0 or not parts:
            parts.append(str(self.offset))
        return f"b{self.buffer}[{' + '.join(parts)}]"


@dataclass(frozen=True, eq=False, slots=True)
class Const:
    """A constant of any dtype."""

    id: int
    dtype: DType
    value: float | int | bool
    domain: frozenset[int] = frozenset()
    operands: tuple[Node, ...] = ()

    def __str__(self) -> str:
        return f"{self.dtype.name} {self.value}"


@dataclass(frozen=True, eq=False, slots=True)
class Index:
    """offset + sum of coefficient * axis index, as i64; without terms it is a size."""

    id: int
    terms: Terms
    offset: Dim
    domain: frozenset[int]
    dtype: DType = int64
    operands: tuple[Node, ...] = ()

    def __str__(self) -> str:
        parts = [f"a{a}" if c == 1 else f"{_factor(c)}*a{a}" for a, c in self.terms]
        return " + ".join([*parts, str(self.offset)] if self.offset != 0 or not parts else parts)


@dataclass(frozen=True, eq=False, slots=True)
class Load:
    """An element of a buffer; where `mask` is false no memory is touched and the value is `other`."""

    id: int
    dtype: DType
    access: Access
    mask: Node | None
    other: Const | None
    domain: frozenset[int]
    operands: tuple[Node, ...]

    def __str__(self) -> str:
        mask = "" if self.mask is None else f" if %{self.mask.id} else {self.other}"
        return f"{self.access}{mask}"


@dataclass(frozen=True, eq=False, slots=True)
class Apply:
    """A scalar rule on operands: `rule(s, *operands)` over the scalar protocol. `heavy`: recomputing it costs more than a
    load."""

    id: int
    dtype: DType
    name: str
    rule: Callable[..., S]
    heavy: bool
    domain: frozenset[int]
    operands: tuple[Node, ...]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'%{x.id}' for x in self.operands)})"


@dataclass(frozen=True, eq=False, slots=True)
class Reduce:
    """All values of the operand along `axes`, combined. An arg reduction has the position (i64) as second operand and
    result."""

    id: int
    dtype: DType
    combine: Combine
    axes: frozenset[int]
    domain: frozenset[int]
    operands: tuple[Node, ...]

    def __str__(self) -> str:
        axes = ", ".join(f"a{a}" for a in sorted(self.axes))
        return f"{self.combine.name}({', '.join(f'%{x.id}' for x in self.operands)}; {axes})"

    @property
    def parts(self) -> tuple[DType, ...]:
        """Dtypes of the accumulator's components."""
        return tuple(x.dtype for x in self.operands)

    @property
    def ordered(self) -> bool:
        """Whether the order of combination can change bits, so that the fixed tree must be kept."""
        return self.dtype.is_float and not self.combine.arg and not self.combine.exact


Node = Const | Index | Load | Apply | Reduce
_NodeT = TypeVar("_NodeT", Const, Index, Load, Apply, Reduce)


@dataclass(frozen=True, slots=True)
class Store:
    """Write `value` at `access`, once for each point of `domain`; with `other`, that in the element after it.

    `late`: the buffer is read by the group as well (an in-place update), so all reads come before this write.
    """

    access: Access
    value: Node
    domain: frozenset[int]
    late: bool = False
    other: Node | None = None

    def __str__(self) -> str:
        other = "" if self.other is None else f", {_reference(self.other)}"
        return f"{self.access} = {_reference(self.value)}{other}"


@dataclass(frozen=True, slots=True)
class Add:
    """`buffer[access] += value`, for each point of `domain` one after the other in row-major order of the axes (scatter-add:
    the target may be the same element many times). The buffer's initial content is the caller's business."""

    access: Access
    value: Node
    domain: frozenset[int]
    add: Callable[..., S]
    late: bool = True

    def __str__(self) -> str:
        return f"{self.access} += {_reference(self.value)}"


@dataclass(frozen=True, slots=True)
class Group:
    """What one kernel computes. `extents[a]` is the extent of axis a. `buffers` are in the order of the kernel's pointer
    parameters."""

    extents: tuple[Dim, ...]
    buffers: tuple[Buffer, ...]
    stores: tuple[Store | Add, ...]

    def nodes(self) -> list[Node]:
        """All nodes, in topological order."""
        return reachable(root for s in self.stores for root in store_roots(s))

    def __str__(self) -> str:
        lines = [f"axes {', '.join(f'a{a}:{e}' for a, e in enumerate(self.extents))}"]
        lines += [f"b{i}: {b.dtype.name}[{', '.join(map(str, b.shape))}]" for i, b in enumerate(self.buffers)]
        lines += [f"%{n.id} = {n}" for n in self.nodes() if not isinstance(n, Const)]
        return "\n".join([*lines, *map(str, self.stores)])


def store_values(store: Store | Add) -> tuple[Node, ...]:
    """The values that a store writes or adds."""
    return (store.value,) if isinstance(store, Add) or store.other is None else (store.value, store.other)


def store_roots(store: Store | Add) -> tuple[Node, ...]:
    """The nodes that a store reads: its values and its dynamic indices."""
    return (*store_values(store), *(node for node, _ in store.access.dynamic))


def reachable(
    roots: Iterable[Node], known: Container[int] = frozenset(), leaves: Container[int] = frozenset()
) -> list[Node]:
    """The nodes that `roots` need, in topological order, without those whose ids are `known` and what only they need;
    those whose ids are among `leaves` are there, but not what only they need."""
    found: dict[int, Node] = {}
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node.id not in found and node.id not in known:
            found[node.id] = node
            if node.id not in leaves:
                stack.extend(node.operands)
    return [found[i] for i in sorted(found)]


def accesses(group: Group) -> list[Access]:
    """All accesses to memory, loads first."""
    loads = [n.access for n in group.nodes() if isinstance(n, Load)]
    return loads + [s.access for s in group.stores]


def flops(group: Group) -> Dim:
    """Operations on floats: one an op and element, `HEAVY` for a heavy op."""
    total: Dim = 0
    for node in group.nodes():
        if isinstance(node, Apply) and any(x.dtype.is_float for x in node.operands):
            total = total + _points(group, node.domain) * (HEAVY if node.heavy else 1)
        elif isinstance(node, Reduce) and node.operands[0].dtype.is_float:
            total = total + _points(group, node.operands[0].domain | node.axes)
    return total


def bytes_moved(group: Group) -> Dim:
    """Bytes of all buffers that are read plus those that are written, each counted once."""
    read = {n.access.buffer for n in group.nodes() if isinstance(n, Load)}
    written = {s.access.buffer for s in group.stores}
    total: Dim = 0
    for buffer in [*sorted(read), *sorted(written)]:
        total = total + group.buffers[buffer].nbytes
    return total


def _points(group: Group, domain: Iterable[int]) -> Dim:
    return product(group.extents[a] for a in sorted(domain))


def _factor(dim: Dim) -> str:
    return str(dim) if isinstance(dim, int) or len(dim.terms) == 1 else f"({dim})"


def _reference(node: Node) -> str:
    return str(node) if isinstance(node, Const) else f"%{node.id}"


def _terms(terms: Iterable[tuple[int, Dim]]) -> Terms:
    total: dict[int, Dim] = {}
    for axis, stride in terms:
        total[axis] = total.get(axis, 0) + stride
    return tuple((a, total[a]) for a in sorted(total) if total[a] != 0)


@dataclass(slots=True)
class Dag:
    """The intern table that makes nodes."""

    _nodes: dict[Any, Node] = field(default_factory=dict)

    def const(self, dtype: DType, value: float | int | bool) -> Const:
        """A constant; told apart by dtype and bits."""
        with np.errstate(over="ignore"):
            key = ("const", dtype, np.asarray(value, dtype.numpy).tobytes())
        return self._intern(key, lambda id: Const(id, dtype, value))

    def index(self, terms: Iterable[tuple[int, Dim]], offset: Dim = 0) -> Index:
        """offset + sum of coefficient * axis index."""
        terms = _terms(terms)
        domain = frozenset(a for a, _ in terms)
        return self._intern(("index", terms, offset), lambda id: Index(id, terms, offset, domain))

    def access(
        self,
        buffer: int,
        terms: Iterable[tuple[int, Dim]],
        offset: Dim = 0,
        dynamic: Iterable[tuple[Node, Dim]] = (),
    ) -> Access:
        """An access in canonical form."""
        return Access(buffer, _terms(terms), offset, tuple(dynamic))

    def load(self, dtype: DType, access: Access, mask: Node | None = None, other: Const | None = None) -> Load:
        """An element of memory."""
        operands = tuple(n for n, _ in access.dynamic)
        if mask is not None:
            other = other or self.const(dtype, 0)
            operands = (*operands, mask)
        domain = frozenset(a for a, _ in access.terms).union(*(n.domain for n in operands))
        dynamic = tuple((n.id, s) for n, s in access.dynamic)
        place = (access.buffer, access.terms, access.offset, dynamic)
        key = ("load", place, None if mask is None else (mask.id, other.id if other else None))
        return self._intern(key, lambda id: Load(id, dtype, access, mask, other, domain, operands))

    def apply(
        self,
        name: str,
        rule: Callable[..., S],
        operands: Iterable[Node],
        dtype: DType,
        *,
        key: object = None,
        heavy: bool = False,
    ) -> Apply:
        """A rule on operands; applications with equal name, key and operands are one node."""
        operands = tuple(operands)
        domain = frozenset[int]().union(*(n.domain for n in operands))
        whole = ("apply", name, key, dtype, tuple(n.id for n in operands))
        return self._intern(whole, lambda id: Apply(id, dtype, name, rule, heavy, domain, operands))

    def reduce(self, combine: Combine, operand: Node, axes: Iterable[int], position: Node | None = None) -> Reduce:
        """The operand combined along `axes`; an arg reduction needs the position of each element."""
        axes = frozenset(axes)
        operands = (operand,) if position is None else (operand, position)
        assert combine.arg == (position is not None), combine
        domain = frozenset[int]().union(*(n.domain for n in operands)) - axes
        key = ("reduce", combine.name, tuple(n.id for n in operands), axes)
        return self._intern(key, lambda id: Reduce(id, operands[-1].dtype, combine, axes, domain, operands))

    def within(self, index: Node, extent: Dim) -> Apply:
        """The condition 0 <= index < extent, as one unsigned comparison."""
        return self.apply("within", _within, (index, self.index((), extent)), bool_)

    def both(self, x: Node, y: Node) -> Node:
        """The conjunction of two conditions."""
        return x if x is y else self.apply("and", lambda s, a, b: s.and_(a, b), (x, y), bool_)

    def select(self, condition: Node, x: Node, y: Node) -> Apply:
        """x where the condition holds, else y."""
        return self.apply("select", lambda s, c, a, b: s.select(c, a, b), (condition, x, y), x.dtype)

    def _intern(self, key: Any, make: Callable[[int], _NodeT]) -> _NodeT:
        found = self._nodes.get(key)
        if found is None:
            found = self._nodes[key] = make(len(self._nodes))
        return found  # type: ignore[return-value]


def _within(s: Scalar, index: S, extent: S) -> S:
    return s.lt(s.bitcast(index, uint64), s.bitcast(extent, uint64))

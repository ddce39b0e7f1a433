"""From a group to a loop tree: loop order, stages, vector axis, unrolling, scratch. Layer 4, codegen.

Placement follows from domains. Axes that no pending reduction removes are opened first; inside, the reductions that have
become ready and run over the same axes share one nest (a *stage*), then they are folded, and so on; stores join the
nest that runs over their axes as soon as their value is known. Every other value is computed before the first loop that it
does not vary along. The tree is complete: the emitter decides nothing.

**Order of summation** (float sums and products; it depends on extents and dtype only, not on the machine):

- Along the vector axis, element i of a row belongs to virtual lane i mod L (L = 64 for types of up to 4 bytes, 32 for 8
  bytes); the remaining (n mod L) elements belong to virtual lane j mod L/4 of a second accumulator, which is then added to
  the first lanes of the main one. Lanes are folded by halving the distance: lane k += lane k + L/2, then + L/4, ...
- Long rows are cut into chunks of 64 * L elements, and these into groups of 64 chunks; a chunk's lanes are summed by themselves
  and added to the group's lanes, one chunk after the other, and groups are added likewise.
- Along any other axis elements are added one after the other, in chunks of 64 and groups of 64 chunks. Nested loops sum the
  inner loop by itself, then add it to the outer one's accumulators.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from graphc.codegen.collapse import normalise
from graphc.codegen.kernel import (
    HEAVY,
    Access,
    Add,
    Apply,
    Const,
    Group,
    Index,
    Load,
    Node,
    Reduce,
    Store,
    accesses,
    reachable,
    store_roots,
)
from graphc.dtypes import DType
from graphc.errors import CompileError
from graphc.ir.dims import Dim, product

__all__ = [
    "Accumulate",
    "Compute",
    "Fold",
    "Loop",
    "Merge",
    "Put",
    "Reload",
    "Save",
    "Schedule",
    "Slot",
    "Statement",
    "schedule",
]

#: Iterations of a chunk of a loop that carries ordered sums, and chunks of a group of chunks.
CHUNK = 64
#: Nodes of a group that is emitted once for each lane of a transposed square.
MAX_JAMMED = 24
#: A scratch row of more bytes than this is recomputed instead: it would not stay in the cache.
SCRATCH_LIMIT = 256 * 1024
#: Costs of accessing a vector by its stride along the vector axis; anything else is a gather.
_STRIDE_COSTS: dict[Dim, int] = {1: 1, -1: 2, 2: 4}
_GATHER_COST = 10
#: An axis with fewer iterations leaves most lanes of a vector idle.
_SHORT, _LANES = 8, 16


@dataclass(frozen=True, slots=True)
class Compute:
    """Compute a node in the current scope."""

    node: Node

    def __str__(self) -> str:
        return f"%{self.node.id} = {self.node}"


@dataclass(frozen=True, slots=True)
class Slot:
    """A scratch row for a value over `axes`. `strip`: the vector axis is open outside, so each point holds one strip."""

    index: int
    node: Node
    axes: tuple[int, ...]
    strip: bool


@dataclass(frozen=True, slots=True)
class Save:
    """Keep a computed node in scratch for a later stage."""

    slot: Slot

    def __str__(self) -> str:
        return f"scratch{self.slot.index}[{_axes(self.slot.axes)}] = %{self.slot.node.id}"


@dataclass(frozen=True, slots=True)
class Reload:
    """Take a node from scratch."""

    slot: Slot

    def __str__(self) -> str:
        return f"%{self.slot.node.id} = scratch{self.slot.index}[{_axes(self.slot.axes)}]"


@dataclass(frozen=True, slots=True)
class Put:
    """Write a store's value."""

    store: Store | Add

    def __str__(self) -> str:
        return str(self.store)


@dataclass(frozen=True, slots=True)
class Accumulate:
    """Combine a reduction's operand into the accumulators of the innermost loop."""

    reduce: Reduce

    def __str__(self) -> str:
        return f"acc%{self.reduce.id} <- {self.reduce}"


@dataclass(frozen=True, slots=True)
class Merge:
    """Combine the accumulators of the loop just left into those of the loop around it."""

    reduce: Reduce

    def __str__(self) -> str:
        return f"acc%{self.reduce.id} <- inner acc%{self.reduce.id}"


@dataclass(frozen=True, slots=True)
class Fold:
    """The accumulators of the loop just left give the reduction's value."""

    reduce: Reduce

    def __str__(self) -> str:
        return f"%{self.reduce.id} = fold acc%{self.reduce.id}"


@dataclass(slots=True)
class Loop:
    """A loop over an axis.

    A `vector` loop has a main part of `copies` vectors an iteration, without masks, and a tail of `granule` masked vectors
    an iteration. `chunks` (in elements, outermost first) cut the loop into parts with accumulators of their own. Of a loop
    outside of a vector loop, `jam` iterations are made together, so that squares can be transposed in registers.
    """

    axis: int
    extent: Dim
    vector: bool
    copies: int = 1
    granule: int = 1
    chunks: tuple[int, ...] = ()
    jam: int = 1
    accumulators: tuple[Reduce, ...] = ()
    body: list[Statement] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"for a{self.axis} in 0:{self.extent}"]
        if self.vector:
            parts.append(f"vector x{self.copies}, tail x{self.granule}")
        if self.jam > 1:
            parts.append(f"jam x{self.jam}")
        if self.chunks:
            parts.append(f"chunks of {', '.join(map(str, self.chunks))}")
        if self.accumulators:
            parts.append("acc " + ", ".join(f"%{r.id}" for r in self.accumulators))
        return ", ".join(parts)


Statement = Compute | Save | Reload | Put | Accumulate | Merge | Fold | Loop
_Sink = Store | Add | Reduce


@dataclass(frozen=True, slots=True)
class Schedule:
    """A loop tree with the group it computes. `lanes` elements a vector; `vector` is the vector axis, or None."""

    group: Group
    lanes: int
    vector: int | None
    body: tuple[Statement, ...]
    slots: tuple[Slot, ...]

    def __str__(self) -> str:
        head = [f"{self.lanes} lanes along {'nothing' if self.vector is None else f'a{self.vector}'}"]
        head += [f"b{i}: {b.dtype.name}[{', '.join(map(str, b.shape))}]" for i, b in enumerate(self.group.buffers)]
        return "\n".join([*head, *_lines(self.body, 0)])

    def slot_offsets(self) -> tuple[list[Dim], Dim]:
        """Byte offset of each slot, multiples of 64, and bytes of all."""
        offsets: list[Dim] = []
        total: Dim = 0
        for slot in self.slots:
            offsets.append(total)
            elements = product(self.group.extents[a] for a in slot.axes)
            if slot.strip:
                elements = elements * self.strip
            total = total + (elements * slot.node.dtype.itemsize + 63) // 64 * 64
        return offsets, total

    def slot_strides(self, slot: Slot) -> list[tuple[int, Dim]]:
        """Axes of a slot with their strides, row-major; the vector axis, if among them, has stride 1."""
        strides: list[tuple[int, Dim]] = []
        size: Dim = self.strip if slot.strip else 1
        for axis in sorted(slot.axes, key=lambda a: (a != self.vector, -a)):
            strides.append((axis, size))
            size = size * self.group.extents[axis]
        return strides

    @property
    def strip(self) -> int:
        """Elements of the widest strip of the vector axis: copies times lanes."""
        return max((loop.copies * self.lanes for loop in loops(self.body) if loop.vector), default=1)


def loops(body: Iterable[Statement]) -> list[Loop]:
    """All loops of a tree, outer ones first."""
    found: list[Loop] = []
    stack = [s for s in body if isinstance(s, Loop)][::-1]
    while stack:
        loop = stack.pop()
        found.append(loop)
        stack.extend([s for s in loop.body if isinstance(s, Loop)][::-1])
    return found


def schedule(group: Group, vector_bytes: int, *, lanes: int | None = None, unroll: int | None = None) -> Schedule:
    """Build the loop tree.

    Parameters
    ----------
    group
        What to compute.
    vector_bytes
        Width of the target's vector registers.
    lanes, unroll
        Force the vector length (a power of two; ordered sums bound it) and the unrolling of loops without reductions.

    Raises
    ------
    CompileError
        If reductions of the group have no common loop order (x - mean over rows - mean over columns): such a group needs
        several kernels.
    """
    group = normalise(group)
    axis = _vector_axis(group)
    width = _lanes(group, vector_bytes, lanes) if axis is not None else 1
    planner = _Planner(group, width, axis, unroll)
    planner.plan()
    return Schedule(group, width, axis, tuple(planner.body), tuple(planner.slots))


def transposed(access: Access, vector: int | None, jam: int) -> bool:
    """Whether a square of the two axes lies transposed in memory: contiguous along the outer one."""
    if vector is None or access.dynamic or access.stride(jam) != 1:
        return False
    return access.stride(vector) not in (0, 1, -1, 2)


def tree_lanes(dtype: DType) -> tuple[int, int]:
    """Virtual lanes of an ordered sum, and of its tail accumulator."""
    return (64, 16) if dtype.bits <= 32 else (32, 8)


def _vector_axis(group: Group) -> int | None:
    """The axis with the cheapest vector accesses; of equal ones the innermost. Looks at extents only where no sum's order
    depends on the choice: a symbolic kernel and its specialised twin must sum in the same order."""
    used = frozenset[int]().union(*(s.domain for s in group.stores if isinstance(s, Store)))
    used = used.union(*(n.axes for n in group.nodes() if isinstance(n, Reduce)))
    used -= frozenset[int]().union(*(s.domain for s in group.stores if isinstance(s, Add)))
    costs: dict[int, float] = {a: sum(_cost(access, a) for access in accesses(group)) for a in used}
    if not any(isinstance(n, Reduce) and n.ordered for n in group.nodes()):
        for a in used:
            extent = group.extents[a]
            if isinstance(extent, int) and 0 < extent < _SHORT:
                costs[a] *= _LANES / extent
    return min(costs, key=lambda a: (costs[a], -a), default=None)


def _cost(access: Access, axis: int) -> int:
    stride = access.stride(axis)
    dynamic = any(axis in node.domain for node, _ in access.dynamic)
    if stride == 0 and not dynamic:
        # Loaded outside of the vector loop; but an axis that nothing steps along is a poor choice.
        return 2
    return _GATHER_COST if dynamic else _STRIDE_COSTS.get(stride, _GATHER_COST)


def _lanes(group: Group, vector_bytes: int, forced: int | None) -> int:
    """A register full of the widest float that is computed with (of the widest integer where there is none), bounded by the
    tail accumulators of ordered sums."""
    nodes = [n for n in group.nodes() if not isinstance(n, (Const, Index))]
    floats = [n.dtype.itemsize for n in nodes if n.dtype.is_float]
    integers = [n.dtype.itemsize for n in nodes if n.dtype.is_integer]
    # No more lanes for narrow elements: squares that lie transposed take a register a lane, and indices are wide.
    width = forced or max(vector_bytes // max([*(floats or integers), 4]), 1)
    return min([width, *(tree_lanes(n.dtype)[1] for n in nodes if isinstance(n, Reduce) and n.ordered)])


def _axes(axes: Iterable[int]) -> str:
    return ", ".join(f"a{a}" for a in axes)


def _lines(body: Sequence[Statement], depth: int) -> list[str]:
    """Statements with two blanks of indentation a level; loops are few levels deep."""
    lines: list[str] = []
    for statement in body:
        lines.append("  " * depth + str(statement))
        if isinstance(statement, Loop):
            lines += _lines(statement.body, depth + 1)
    return lines


class _Planner:
    """Builds the statements. `_region` plans the inside of a set of open axes, `_enter` opens one more."""

    def __init__(self, group: Group, lanes: int, vector: int | None, unroll: int | None) -> None:
        self.group = group
        self.lanes = lanes
        self.vector = vector
        self.unroll = unroll
        self.jam = self._jam_axis()
        self.body: list[Statement] = []
        self.slots: list[Slot] = []
        #: Heavy nodes that an earlier stage computes: the body that does, and the axes open around the stage.
        self._kept: dict[int, tuple[list[Statement], frozenset[int]]] = {}
        #: Those of them that have a slot.
        self._saved: dict[int, Slot] = {}

    def _jam_axis(self) -> int | None:
        """The axis whose iterations are jammed for the sake of transposed accesses; for short pointwise groups only."""
        nodes = self.group.nodes()
        plain = all(isinstance(s, Store) for s in self.group.stores) and not any(isinstance(n, Reduce) for n in nodes)
        if not plain or self.lanes < 4 or sum(map(_weight, nodes)) > MAX_JAMMED:
            return None
        votes: dict[int, int] = {}
        for access in accesses(self.group):
            if not self.group.buffers[access.buffer].dtype.is_bool:
                for axis, _ in access.terms:
                    if axis != self.vector and transposed(access, self.vector, axis):
                        votes[axis] = votes.get(axis, 0) + 1
        return max(votes, key=lambda a: votes[a], default=None)

    def plan(self) -> None:
        self._region(self.body, frozenset(), list(self.group.stores), set())

    # -- regions ------------------------------------------------------------------------------------------------------
    def _region(self, body: list[Statement], open_: frozenset[int], sinks: list[_Sink], available: set[int]) -> None:
        """Plan all that `sinks` need inside the open axes, then the sinks. `available` grows by what is computed here."""
        kept, saved = dict(self._kept), dict(self._saved)
        waiting = self._stages(body, open_, sinks, available)
        here = [s for s in waiting if _domain(s, open_) == open_]
        deeper = [s for s in waiting if _domain(s, open_) != open_]
        self._compute(body, open_, here, available)
        body += [Accumulate(s) if isinstance(s, Reduce) else Put(s) for s in here if not _late(s)]
        while deeper:
            together = self._common(open_, deeper, available)
            deeper = [s for s in deeper if s not in together]
            self._enter(body, open_, together, available)
            body += [Merge(s) for s in together if isinstance(s, Reduce)]
        body += [Put(s) for s in here if not isinstance(s, Reduce) and _late(s)]
        # What scratch holds is valid inside these axes only.
        self._kept, self._saved = kept, saved

    def _stages(
        self, body: list[Statement], open_: frozenset[int], sinks: list[_Sink], available: set[int]
    ) -> list[_Sink]:
        """Nests for the reductions whose value does not vary inside the open axes; returns the sinks not made yet."""
        waiting = list(sinks)
        while True:
            ready = [
                r
                for r in self._pending(open_, _roots(waiting), available)
                if not self._pending(open_, r.operands, available)
            ]
            if not ready:
                return waiting
            stage = _alike(ready)
            joining = [s for s in waiting if self._joins(s, open_, stage[0].axes, available)]
            waiting = [s for s in waiting if s not in joining]
            self._enter(body, open_, [*stage, *joining], available)
            for reduce in stage:
                body.append(Fold(reduce))
                available.add(reduce.id)

    def _pending(self, open_: frozenset[int], roots: Iterable[Node], available: set[int]) -> list[Reduce]:
        """Reductions that nodes need, not computed yet, whose value does not vary inside the open axes."""
        needed = reachable(roots, available | self._saved.keys())
        return [n for n in needed if isinstance(n, Reduce) and n.domain <= open_]

    def _joins(self, sink: _Sink, open_: frozenset[int], axes: frozenset[int], available: set[int]) -> bool:
        """Whether a store can be made in the nest over `axes`: its value is known there, nobody reads what it overwrites."""
        if isinstance(sink, Reduce) or _late(sink) or sink.domain - open_ != axes:
            return False
        return not self._pending(open_, _roots([sink]), available)

    def _common(self, open_: frozenset[int], sinks: list[_Sink], available: set[int]) -> list[_Sink]:
        """Sinks that can be under one loop with the first. A late store waits until nothing else does."""
        first = min(sinks, key=_late)
        together = [first]
        for sink in sinks:
            alike = sink is not first and isinstance(sink, Add) == isinstance(first, Add)
            if alike and self._candidates(open_, [*together, sink], available):
                together.append(sink)
        if len(together) < len(sinks) and not _late(first):
            together = [s for s in together if not _late(s)]
        if _late(first):
            overwritten = {s.access.buffer for s in together if not isinstance(s, Reduce)}
            rest = reachable(_roots(s for s in sinks if s not in together))
            if any(isinstance(n, Load) and n.access.buffer in overwritten for n in rest):
                raise CompileError("an in-place update of one kernel overwrites what another loop of it still reads")
        return together

    def _candidates(self, open_: frozenset[int], sinks: list[_Sink], available: set[int]) -> frozenset[int]:
        """Axes that may be opened next: all sinks run over them, and so do all reductions still to come inside."""
        common = frozenset.intersection(*(_domain(s, open_) - open_ for s in sinks))
        for node in reachable(_roots(sinks), available | self._saved.keys()):
            if isinstance(node, Reduce) and not node.domain <= open_:
                common &= node.domain
        return common

    # -- loops --------------------------------------------------------------------------------------------------------
    def _enter(self, body: list[Statement], open_: frozenset[int], sinks: list[_Sink], available: set[int]) -> None:
        """Open the outermost possible axis and plan its inside. The vector axis comes last."""
        candidates = self._candidates(open_, sinks, available)
        if not candidates:
            raise CompileError("reductions of one kernel have no common loop order; they need several kernels")
        self._use_scratch(open_, sinks, available)
        self._compute(body, open_, sinks, available)
        axis = min(candidates, key=lambda a: (a == self.vector, a == self.jam, a))
        reductions = tuple(s for s in sinks if isinstance(s, Reduce))
        assert all(axis in r.axes for r in reductions)
        loop = Loop(axis, self.group.extents[axis], axis == self.vector, accumulators=reductions)
        self._region(loop.body, open_ | {axis}, sinks, set(available))
        self._shape(loop)
        body.append(loop)
        for inside in [loop, *loops(loop.body)]:
            for statement in inside.body:
                if isinstance(statement, Compute) and _weight(statement.node) > 1:
                    self._kept.setdefault(statement.node.id, (inside.body, open_))

    def _shape(self, loop: Loop) -> None:
        """Choose unrolling, tail and chunks of a finished loop."""
        ordered = next((r for r in loop.accumulators if r.ordered), None)
        if loop.axis == self.jam and any(isinstance(s, Loop) and s.vector for s in loop.body):
            loop.jam = self.lanes
        if not loop.vector:
            loop.chunks = _chunks(loop.extent, CHUNK) if ordered else ()
            return
        if ordered is not None:
            main, tail = tree_lanes(ordered.dtype)
            loop.copies, loop.granule = main // self.lanes, tail // self.lanes
            loop.chunks = _chunks(loop.extent, CHUNK * main)
            return
        loop.copies = self.unroll or self._copies(loop)
        while isinstance(loop.extent, int) and loop.copies > 1 and loop.copies * self.lanes > loop.extent:
            loop.copies //= 2

    def _copies(self, loop: Loop) -> int:
        """How many vectors an iteration: strips with inner reductions want many accumulators, long expressions few."""
        inner = [inside for inside in loops(loop.body) if inside.accumulators]
        if inner:
            parts = max(sum(len(r.parts) for r in inside.accumulators) for inside in inner)
            return max(8 >> (parts - 1).bit_length(), 1)
        cost = sum(_weight(s.node) for s in loop.body if isinstance(s, Compute))
        return 4 if cost <= 12 else 2 if cost <= 24 else 1

    # -- placement ------------------------------------------------------------------------------------------------------
    def _compute(self, body: list[Statement], open_: frozenset[int], sinks: list[_Sink], available: set[int]) -> None:
        """Compute what the sinks need, as far as it varies along open axes only and what it needs is known."""
        for node in reachable(_roots(sinks), available, self._saved):
            if isinstance(node, (Const, Reduce)) or not node.domain <= open_:
                continue
            slot = self._saved.get(node.id)
            if slot is not None:
                body.append(Reload(slot))
            elif all(x.id in available or isinstance(x, Const) for x in node.operands):
                body.append(Compute(node))
            else:
                continue
            available.add(node.id)

    def _use_scratch(self, open_: frozenset[int], sinks: list[_Sink], available: set[int]) -> None:
        """Give a slot to each heavy node that the sinks need and an earlier stage computes."""
        while True:
            needed = reachable(_roots(sinks), available, self._saved)
            # Users first: what only a saved node needs is not needed any more.
            node = next((n for n in reversed(needed) if n.id not in self._saved and self._fits(n)), None)
            if node is None:
                return
            body, around = self._kept[node.id]
            strip = self.vector in around and self.vector in node.domain
            slot = Slot(len(self.slots), node, tuple(sorted(node.domain - around)), strip)
            self.slots.append(slot)
            self._saved[node.id] = slot
            place = next(i for i, s in enumerate(body) if isinstance(s, Compute) and s.node is node)
            body.insert(place + 1, Save(slot))

    def _fits(self, node: Node) -> bool:
        """Whether the node has been computed by an earlier stage and its scratch row would stay in the cache. A row of
        symbolic length is taken to be short."""
        if node.id not in self._kept:
            return False
        _, around = self._kept[node.id]
        elements = product(self.group.extents[a] for a in node.domain - around)
        return not isinstance(elements, int) or elements * node.dtype.itemsize <= SCRATCH_LIMIT


def _roots(sinks: Iterable[_Sink]) -> list[Node]:
    """What sinks need: a reduction its operands, a store its value and dynamic indices."""
    return [node for s in sinks for node in (s.operands if isinstance(s, Reduce) else store_roots(s))]


def _domain(sink: _Sink, open_: frozenset[int]) -> frozenset[int]:
    """The axes that a sink runs over; those of a reduction's operand that are open already are not its own."""
    return open_ | sink.axes if isinstance(sink, Reduce) else sink.domain


def _late(sink: _Sink) -> bool:
    return not isinstance(sink, Reduce) and sink.late


def _alike(ready: list[Reduce]) -> list[Reduce]:
    """Reductions that share a nest with the first: over equal axes, and with equal trees as far as they are ordered."""
    same = [r for r in ready if r.axes == ready[0].axes]
    tree = next((tree_lanes(r.dtype) for r in same if r.ordered), None)
    return [r for r in same if not r.ordered or tree_lanes(r.dtype) == tree]


def _chunks(extent: Dim, chunk: int) -> tuple[int, ...]:
    """Sizes of chunk groups and chunks, without those that are known to hold the whole axis."""
    return tuple(size for size in (CHUNK * chunk, chunk) if not isinstance(extent, int) or extent > size)


def _weight(node: Node) -> int:
    return HEAVY if isinstance(node, Apply) and node.heavy else 1

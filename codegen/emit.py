"""From a loop tree to the LLVM text of one kernel. Layer 4, codegen.

The emitter decides nothing: it walks the tree of `graphc.codegen.schedule`. A value that varies along the vector axis is
*wide*, one vector for each copy of an unrolled loop; every other value is a scalar, broadcast where a wide one uses it.

Bits do not depend on the vector length: masked lanes are selected after an operation, never fed with an identity, so that the
tail is contracted to FMA as the main loop is, and a tail always has the size of the tail accumulator.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.codegen import folding
from graphc.codegen.folding import Partial
from graphc.codegen.kernel import (
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
    bytes_moved,
    flops,
    store_values,
)
from graphc.codegen.loops import Range, counted
from graphc.codegen.memory import Frame, Memory, following
from graphc.codegen.pointers import Pointers
from graphc.codegen.schedule import (
    Accumulate,
    Compute,
    Fold,
    Loop,
    Merge,
    Put,
    Reload,
    Save,
    Schedule,
    Statement,
    loops,
    schedule,
)
from graphc.codegen.sizes import Size, Sizes, parameter
from graphc.codegen.text import Function
from graphc.codegen.vectors import Vec, Vectors, constant_mask
from graphc.dtypes import int32, int64
from graphc.ir.dims import Dim, symbols_of
from graphc.target import Target

__all__ = ["Kernel", "emit", "emit_kernel"]

_Accumulators = dict[int, Partial]
_Scope = tuple[Any, ...]
_Iteration = Callable[[Size, _Accumulators], _Accumulators]


@dataclass(frozen=True, slots=True)
class Kernel:
    """One native function and what is known about it.

    The function is `void @name(ptr noalias %b0, ..., [ptr noalias %scratch], i64 %s<symbol>, ...)`: one pointer per buffer of
    the group, in order, scratch if `scratch_bytes` is not 0 (64-byte aligned), and the sizes `symbols`. `declarations`
    are those of intrinsics, by name. `tree` is the loop tree as text.
    """

    name: str
    text: str
    declarations: dict[str, str]
    symbols: tuple[int, ...]
    scratch_bytes: Dim
    flops: Dim
    bytes: Dim
    tree: str


def emit_kernel(
    name: str,
    group: Group,
    target: Target,
    *,
    contract: bool = True,
    lanes: int | None = None,
    unroll: int | None = None,
) -> Kernel:
    """Schedule a group and write its kernel `@name`. `lanes` and `unroll` force the schedule (for tests and tuning)."""
    return emit(name, schedule(group, target.vector_bytes, lanes=lanes, unroll=unroll), target, contract=contract)


def emit(name: str, plan: Schedule, target: Target, *, contract: bool = True) -> Kernel:
    """Write the kernel of a loop tree."""
    _, scratch_bytes = plan.slot_offsets()
    dims = _dims(plan)
    symbols = tuple(sorted({s.index for dim in dims for s in symbols_of(dim)}))
    parameters = [f"ptr noalias %b{i}" for i in range(len(plan.group.buffers))]
    parameters += ["ptr noalias %scratch"] if plan.slots else []
    parameters += [f"i64 {parameter(i)}" for i in symbols]
    function = Function("void", f"@{name}", parameters)
    _Emitter(plan, function, dims, contract=contract, features=target.features).block(plan.body)
    text = function.finish("ret void")
    group = plan.group
    return Kernel(
        name, text, function.declarations, symbols, scratch_bytes, flops(group), bytes_moved(group), str(plan)
    )


def _dims(plan: Schedule) -> list[Dim]:
    """The symbolic dimensions that the function needs."""
    dims: list[Dim] = [*plan.slot_offsets()[0], *(loop.extent for loop in loops(plan.body))]
    dims += [stride for slot in plan.slots for _, stride in plan.slot_strides(slot)]
    for node in plan.group.nodes():
        if isinstance(node, Index):
            dims += [node.offset, *(c for _, c in node.terms)]
    for access in accesses(plan.group):
        dims += [access.offset, *(s for _, s in access.terms), *(s for _, s in access.dynamic)]
    return [dim for dim in dict.fromkeys(dims) if not isinstance(dim, int)]


def _accesses_of(body: Sequence[Statement]) -> list[Access]:
    """The accesses to buffers of the statements under a loop."""
    found: dict[Access, None] = {}
    for statements in [body, *(loop.body for loop in loops(body))]:
        for s in statements:
            if isinstance(s, Compute) and isinstance(s.node, Load):
                found[s.node.access] = None
            elif isinstance(s, Put):
                found[s.store.access] = None
    return list(found)


class _Emitter:
    """Writes the statements of one function. Scopes are layers of `ChainMap`s: a loop body opens one."""

    def __init__(
        self, plan: Schedule, function: Function, dims: Sequence[Dim], *, contract: bool, features: frozenset[str]
    ) -> None:
        self.plan = plan
        self.f = function
        self.sizes = Sizes(function)
        self.vector = plan.vector
        widths = [1 << i for i in range(plan.lanes.bit_length())]
        self._widths = {n: Vectors(function, n, contract=contract, features=features) for n in widths}
        self.narrow = self._widths[1]
        self.wide = self._widths[plan.lanes]
        self.frame = Frame()
        self.values: ChainMap[int, tuple[Vec, ...]] = ChainMap()
        self.splats: ChainMap[int, tuple[Vec, ...]] = ChainMap()
        self.partials: ChainMap[int, Partial] = ChainMap()
        #: Accumulators of the loop just left.
        self.inner: _Accumulators = {}
        self._wide_users = _wide_operands(plan)
        self.sizes.prepare(dims)
        pointers = Pointers(self.sizes, tuple(b.dtype for b in plan.group.buffers))
        self.memory = Memory(plan, self.sizes, self.narrow, self.wide, self.frame, pointers, self._one, self._wide)
        self._slot_offsets = plan.slot_offsets()[0]
        self._handlers: dict[type, Callable[..., None]] = {
            Compute: self._compute,
            Save: self._save,
            Reload: self._reload,
            Put: self._put,
            Accumulate: self._accumulate,
            Merge: self._merge,
            Fold: self._fold,
            Loop: self._loop,
        }

    def block(self, body: Sequence[Statement]) -> None:
        """Statements in the current scope. Recursion is as deep as loops are nested."""
        for statement in body:
            self._handlers[type(statement)](statement)

    def _scope(self) -> _Scope:
        """Open a scope; returns the state around it, for `_leave`."""
        frame, pointers = self.frame, self.memory.pointers
        around = (self.values, self.splats, self.partials, pointers.made, frame.index)
        self.values = self.values.new_child()
        self.splats = self.splats.new_child()
        self.partials = self.partials.new_child()
        pointers.made = pointers.made.new_child()
        frame.index = frame.index.new_child()
        return (*around, frame.copies, frame.masks, frame.jam)

    def _leave(self, around: _Scope) -> None:
        frame = self.frame
        self.values, self.splats, self.partials, self.memory.pointers.made, frame.index = around[:5]
        frame.copies, frame.masks, frame.jam = around[5:]

    # -- values -----------------------------------------------------------------------------------------------------
    def _is_wide(self, node: Node) -> bool:
        return self.vector in node.domain

    def _count(self, domain: frozenset[int]) -> int:
        """How many copies of a value over `domain` there are."""
        along = self.vector if self.frame.jam is None else self.frame.jam
        return self.frame.copies if along in domain else 1

    def _one(self, node: Node, copy: int) -> Vec:
        """The value of a node that does not vary along the vector axis."""
        if isinstance(node, Const):
            return self.narrow.const(node.dtype, node.value)
        return _pick(self.values[node.id], copy)

    def _wide(self, node: Node, copy: int) -> Vec:
        """A node's value as a vector."""
        if isinstance(node, Const):
            return self.wide.const(node.dtype, node.value)
        if self._is_wide(node):
            return _pick(self.values[node.id], copy)
        if node.id not in self.splats:
            self._spread(node)
        return _pick(self.splats[node.id], copy)

    def _spread(self, node: Node) -> None:
        self.splats[node.id] = tuple(self.wide.splat(x.text, x.dtype) for x in self.values[node.id])

    def _define(self, node: Node, values: Sequence[Vec]) -> None:
        self.values[node.id] = tuple(values)
        if node.id in self._wide_users:
            # Broadcast where the value is computed, which may be outside of the loops that use it.
            self._spread(node)

    def _compute(self, statement: Compute) -> None:
        node = statement.node
        wide = self._is_wide(node)
        copies = range(self._count(node.domain))
        if isinstance(node, Index):
            self._define(node, [self._affine(node, copy) for copy in copies])
        elif isinstance(node, Load):
            self._define(node, self._load(node, copies))
        elif isinstance(node, Apply):
            s, value = (self.wide, self._wide) if wide else (self.narrow, self._one)
            rows = [[value(x, copy) for x in node.operands] for copy in copies]
            self._define(node, [node.rule(s, *row) for row in rows])
        else:
            raise AssertionError(node)

    def _affine(self, node: Index, copy: int) -> Vec:
        terms = dict(node.terms)
        base = self.sizes.dim(node.offset)
        for axis, coefficient in node.terms:
            step = self.sizes.mul(self.frame.index[axis], self.sizes.dim(coefficient))
            base = self.sizes.add(base, step)
        base = self.sizes.add(base, self.memory.shift(lambda axis: terms.get(axis, 0), copy))
        if self.vector is None or not self._is_wide(node):
            return Vec(str(base), int64)
        return self.memory.ramp(base, self.sizes.dim(terms[self.vector]))

    # -- memory -----------------------------------------------------------------------------------------------------
    def _load(self, node: Load, copies: range) -> list[Vec]:
        if self._is_wide(node):
            masks = [self._mask(node.mask, copy) for copy in copies]
            others = [None if node.other is None else self._wide(node.other, copy) for copy in copies]
            return self.memory.load_vectors(node.access, masks, others)
        found = []
        for copy in copies:
            mask = None if node.mask is None else self._one(node.mask, copy)
            other = None if node.other is None else self._one(node.other, copy)
            found.append(self.memory.load_scalar(node.access, copy, mask, other))
        return found

    def _mask(self, condition: Node | None, copy: int) -> Vec | None:
        """A condition and the tail's mask, None where all lanes are meant."""
        own = None if condition is None else self._wide(condition, copy)
        tail = self.frame.mask(copy)
        if own is None or tail is None:
            return own if tail is None else tail
        return self.wide.and_(own, tail)

    def _put(self, statement: Put) -> None:
        store = statement.store
        access = store.access
        copies = range(self._count(store.domain))
        if self.vector in store.domain:
            values = [self._wide(store.value, copy) for copy in copies]
            if isinstance(store, Add):
                masks = [self.frame.mask(copy) for copy in copies]
                old = self.memory.load_vectors(access, masks, [None] * len(copies))
                values = [store.add(self.wide, x, y) for x, y in zip(old, values, strict=True)]
            if isinstance(store, Store) and store.other is not None:
                self.memory.store_pairs(access, values, [self._wide(store.other, copy) for copy in copies])
            else:
                self.memory.store_vectors(access, values)
            return
        for copy in copies:
            value = self._one(store.value, copy)
            if isinstance(store, Add):
                value = store.add(self.narrow, self.memory.load_scalar(access, copy, None, None), value)
            self.memory.store_scalar(access, copy, value)
            if isinstance(store, Store) and store.other is not None:
                self.memory.store_scalar(following(access), copy, self._one(store.other, copy))

    def _save(self, statement: Save) -> None:
        slot = statement.slot
        for copy in range(self._count(slot.node.domain)):
            pointer = self.memory.slot_address(slot, self._slot_offsets[slot.index], copy)
            if self._is_wide(slot.node):
                self.wide.store(self._wide(slot.node, copy), pointer, mask=self.frame.mask(copy))
            else:
                self.narrow.store(self._one(slot.node, copy), pointer)

    def _reload(self, statement: Reload) -> None:
        slot = statement.slot
        found = []
        for copy in range(self._count(slot.node.domain)):
            pointer = self.memory.slot_address(slot, self._slot_offsets[slot.index], copy)
            if self._is_wide(slot.node):
                found.append(self.wide.load(pointer, slot.node.dtype, mask=self.frame.mask(copy)))
            else:
                found.append(self.narrow.load(pointer, slot.node.dtype))
        self._define(slot.node, found)

    # -- reductions -------------------------------------------------------------------------------------------------
    def _spans(self, reduce: Reduce) -> bool:
        """Whether the vector axis is reduced, so that an accumulator's lanes belong to one result."""
        return self.vector in reduce.axes

    def _spreads(self, reduce: Reduce) -> bool:
        """Whether accumulators are vectors: the operand varies along the vector axis, or that axis is reduced."""
        return self._spans(reduce) or self._is_wide(reduce)

    def _vectors(self, reduce: Reduce) -> Vectors:
        return self.wide if self._spreads(reduce) else self.narrow

    def _accumulate(self, statement: Accumulate) -> None:
        reduce = statement.reduce
        s = self._vectors(reduce)
        spread = self._spreads(reduce)
        updated = []
        for copy, old in enumerate(self.partials[reduce.id]):
            operands = tuple(self._wide(x, copy) if spread else self._one(x, copy) for x in reduce.operands)
            new = folding.step(s, reduce.combine, operands, old)
            mask = self.frame.mask(copy) if self._spans(reduce) else None
            if mask is not None:
                new = tuple(s.select(mask, n, o) for n, o in zip(new, old, strict=True))
            updated.append(new)
        self.partials[reduce.id] = updated

    def _merge(self, statement: Merge) -> None:
        reduce = statement.reduce
        self.partials[reduce.id] = self._combined(reduce, self.inner[reduce.id], self.partials[reduce.id])

    def _combined(self, reduce: Reduce, x: Partial, accumulator: Partial) -> Partial:
        return folding.combined(self._vectors(reduce), reduce.combine, x, accumulator)

    def _fold(self, statement: Fold) -> None:
        reduce = statement.reduce
        partial = self.inner[reduce.id]
        if self._spans(reduce):
            partial = [folding.fold(self._widths, self.wide.lanes, reduce.combine, partial)]
        self._define(reduce, tuple(parts[-1] for parts in partial))

    # -- loops --------------------------------------------------------------------------------------------------------
    def _loop(self, loop: Loop) -> None:
        for access in _accesses_of(loop.body):
            self.memory.pointers.at(access, self.frame.index)
        self.inner = self._chunks(loop, loop.chunks, 0, self.sizes.dim(loop.extent))

    def _chunks(self, loop: Loop, chunks: tuple[int, ...], start: Size, end: Size) -> _Accumulators:
        """Part of an axis, cut into chunks of sizes `chunks`, outermost first."""
        if not chunks:
            return self._pass(loop, start, end)

        def chunk(first: Size, totals: _Accumulators) -> _Accumulators:
            last = self.sizes.minimum(self.sizes.add(first, chunks[0]), end)
            parts = self._chunks(loop, chunks[1:], first, last)
            return {r.id: self._combined(r, parts[r.id], totals[r.id]) for r in loop.accumulators}

        count = {r.id: self._parts(loop, r) for r in loop.accumulators}
        return self._counted(loop, Range(start, end, chunks[0]), count, chunk, "chunk")

    def _parts(self, loop: Loop, reduce: Reduce) -> int:
        """Vectors of a reduction's accumulator around a loop."""
        if not self._spans(reduce):
            return self._count(reduce.domain)
        inner = next(x for x in [loop, *loops(loop.body)] if x.vector)
        return inner.granule if self._short(inner) else inner.copies

    def _short(self, loop: Loop) -> bool:
        """Whether a vector loop is known to have a tail only."""
        return isinstance(loop.extent, int) and loop.extent < loop.copies * self.wide.lanes

    def _pass(self, loop: Loop, start: Size, end: Size) -> _Accumulators:
        """The iterations start .. end of a loop, with accumulators of their own."""
        if loop.vector:
            return self._pass_vectors(loop, start, end)
        count = {r.id: self._parts(loop, r) for r in loop.accumulators}
        hint = f"a{loop.axis}"
        if loop.jam > 1:
            middle = self.sizes.add(start, self.sizes.round_down(self.sizes.sub(end, start), loop.jam))
            self._counted(loop, Range(start, middle, loop.jam), count, self._iteration(loop, loop.jam, loop.axis), hint)
            start = middle
        return self._counted(loop, Range(start, end, 1), count, self._iteration(loop, self.frame.copies), hint)

    def _pass_vectors(self, loop: Loop, start: Size, end: Size) -> _Accumulators:
        """Main part and masked tail. In a jammed loop an iteration has one place along the axis, with all copies."""
        jam = self.frame.jam
        copies, granule = (self.frame.copies, self.frame.copies) if jam is not None else (loop.copies, loop.granule)
        step, tail_step = (n * self.wide.lanes if jam is None else self.wide.lanes for n in (copies, granule))
        middle = self.sizes.add(start, self.sizes.round_down(self.sizes.sub(end, start), step))
        counts = dict.fromkeys((r.id for r in loop.accumulators), copies)
        hint = f"a{loop.axis}"
        main = self._counted(loop, Range(start, middle, step), counts, self._iteration(loop, copies, jam), hint)
        if middle == end and not self._short(loop):
            return main
        counts = dict.fromkeys(counts, granule)
        iteration = self._iteration(loop, granule, jam, end)
        tail = self._counted(loop, Range(middle, end, tail_step), counts, iteration, "tail")
        if self._short(loop):
            return tail
        return {r.id: self._combined(r, tail[r.id], main[r.id]) for r in loop.accumulators}

    def _iteration(self, loop: Loop, copies: int, jam: int | None = None, end: Size | None = None) -> _Iteration:
        """Writes one iteration with `copies` of each vector, masked if `end` says where the vector axis ends."""

        def write(index: Size, accumulators: _Accumulators) -> _Accumulators:
            around = self._scope()
            frame = self.frame
            frame.copies, frame.jam = copies, jam
            if end is not None:
                frame.masks = self._tail_masks(self.sizes.sub(end, index), copies)
            frame.index[loop.axis] = index
            self.partials.update(accumulators)
            self.block(loop.body)
            made = {i: self.partials[i] for i in accumulators}
            self._leave(around)
            return made

        return write

    def _tail_masks(self, remaining: Size, copies: int) -> tuple[Vec, ...] | None:
        """For each copy, which lanes are among the `remaining` elements; None if all are."""
        lanes = self.wide.lanes
        starts = [0 if self.frame.jam is not None else copy * lanes for copy in range(copies)]
        if isinstance(remaining, int):
            if remaining >= starts[-1] + lanes:
                return None
            return tuple(constant_mask(lanes, remaining - start) for start in starts)
        bound = self.wide.splat(self.f.emit(f"trunc i64 {remaining} to i32"), int32)
        masks = {}
        for start in dict.fromkeys(starts):
            numbers = ", ".join(f"i32 {start + i}" for i in range(lanes))
            masks[start] = self.wide.lt(Vec(f"<{numbers}>" if lanes > 1 else str(start), int32), bound)
        return tuple(masks[start] for start in starts)

    def _counted(
        self,
        loop: Loop,
        span: Range,
        counts: dict[int, int],
        iteration: _Iteration,
        hint: str,
    ) -> _Accumulators:
        """A counted loop that carries the loop's accumulators, from their identities."""
        first: _Accumulators = {}
        for r in loop.accumulators:
            first[r.id] = [folding.identity(self._vectors(r), r.combine, r.parts[0])] * counts[r.id]
        flat = [(self._vectors(r).type(v.dtype), v.text) for r in loop.accumulators for p in first[r.id] for v in p]

        def body(index: Size, names: list[str]) -> list[str]:
            left = iter(names)
            current = {i: [tuple(Vec(next(left), v.dtype) for v in p) for p in partial] for i, partial in first.items()}
            made = iteration(index, current)
            return [v.text for i in first for p in made[i] for v in p]

        left = iter(counted(self.sizes, span, flat, body, hint))
        return {i: [tuple(Vec(next(left), v.dtype) for v in p) for p in partial] for i, partial in first.items()}


def _pick(values: tuple[Vec, ...], copy: int) -> Vec:
    """The value of a copy; there is only one where the value does not vary by copy."""
    return values[copy] if len(values) > 1 else values[0]


def _wide_operands(plan: Schedule) -> frozenset[int]:
    """Nodes that do not vary along the vector axis but are used by one that does, or by a wide store or accumulator."""
    found: set[int] = set()
    for node in plan.group.nodes():
        axes = node.domain | node.axes if isinstance(node, Reduce) else node.domain
        if plan.vector in axes:
            found.update(x.id for x in node.operands)
    for store in plan.group.stores:
        if plan.vector in store.domain:
            found.update(x.id for x in store_values(store))
    return frozenset(n.id for n in plan.group.nodes() if n.id in found and plan.vector not in n.domain)

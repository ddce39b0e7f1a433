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
    Const,
    Group,
    Index,
    Load,
    Node,
    Reduce,
    bytes_moved,
    flops,
)
from graphc.codegen.loops import Range, counted
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
    Slot,
    Statement,
    loops,
    schedule,
)
from graphc.codegen.sizes import Size, Sizes, parameter
from graphc.codegen.text import Function
from graphc.codegen.vectors import Vec, Vectors
from graphc.dtypes import DType, int32, int64
from graphc.ir.dims import Dim, symbols_of
from graphc.target import Target

__all__ = ["Kernel", "emit", "emit_kernel"]

_Accumulators = dict[int, Partial]
_Scope = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Kernel:
    """One native function and what is known about it.

    The function is `void @name(ptr noalias %b0, ..., [ptr noalias %scratch], i64 %s<symbol>, ...)`: one pointer per buffer of the
    group, in order, scratch if `scratch_bytes` is not 0 (64-byte aligned), and the sizes `symbols`. `declarations` are those
    of intrinsics, by name. `tree` is the loop tree as text.
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
    offsets, scratch_bytes = plan.slot_offsets()
    parameters = [f"ptr noalias %b{i}" for i in range(len(plan.group.buffers))]
    if plan.slots:
        parameters.append("ptr noalias %scratch")
    symbols = _symbols(plan, offsets)
    parameters += [f"i64 {parameter(i)}" for i in symbols]
    function = Function("void", f"@{name}", parameters)
    emitter = _Emitter(plan, function, offsets, contract, target.features)
    emitter.block(plan.body)
    text = function.finish("ret void")
    group = plan.group
    return Kernel(
        name, text, function.declarations, symbols, scratch_bytes, flops(group), bytes_moved(group), str(plan)
    )


def _symbols(plan: Schedule, offsets: Sequence[Dim]) -> tuple[int, ...]:
    """The symbols whose values the function needs, ascending."""
    dims: list[Dim] = [*offsets, *(loop.extent for loop in loops(plan.body))]
    dims += [plan.group.extents[a] for slot in plan.slots for a in slot.axes]
    for node in plan.group.nodes():
        if isinstance(node, Index):
            dims += [node.offset, *(c for _, c in node.terms)]
        if isinstance(node, Load):
            dims += _access_dims(node.access)
    for store in plan.group.stores:
        dims += _access_dims(store.access)
    return tuple(sorted({s.index for dim in dims for s in symbols_of(dim)}))


def _access_dims(access: Access) -> list[Dim]:
    return [access.offset, *(s for _, s in access.terms), *(s for _, s in access.dynamic)]


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
        self, plan: Schedule, function: Function, offsets: Sequence[Dim], contract: bool, features: frozenset[str]
    ) -> None:
        self.plan = plan
        self.f = function
        self.sizes = Sizes(function)
        self.vector = plan.vector
        self.offsets = offsets
        self._widths = {
            lanes: Vectors(function, lanes, contract=contract, features=features)
            for lanes in [1 << i for i in range(plan.lanes.bit_length())]
        }
        self.narrow = self._widths[1]
        self.wide = self._widths[plan.lanes]
        #: Vectors of the open vector loop's iteration, and their masks in a tail.
        self.copies = 1
        self.masks: tuple[Vec, ...] | None = None
        self.values: ChainMap[int, tuple[Vec, ...]] = ChainMap()
        self.splats: ChainMap[int, Vec] = ChainMap()
        self.index: ChainMap[int, Size] = ChainMap()
        self.pointers: ChainMap[tuple[object, ...], tuple[str, frozenset[int]]] = ChainMap()
        self.partials: ChainMap[int, Partial] = ChainMap()
        #: Accumulators of the loop just left.
        self.inner: _Accumulators = {}
        self.dims: dict[Dim, Size] = {d: self.sizes.dim(d) for d in self._all_dims()}
        self._wide_users = _wide_operands(plan)
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

    def _all_dims(self) -> list[Dim]:
        """Symbolic dimensions of the kernel, evaluated once at its entry."""
        dims: dict[Dim, None] = dict.fromkeys([*self.offsets, *(loop.extent for loop in loops(self.plan.body))])
        for slot in self.plan.slots:
            dims.update(dict.fromkeys(self._slot_strides(slot)))
        for node in self.plan.group.nodes():
            if isinstance(node, Index):
                dims.update(dict.fromkeys([node.offset, *(c for _, c in node.terms)]))
            if isinstance(node, Load):
                dims.update(dict.fromkeys(_access_dims(node.access)))
        for store in self.plan.group.stores:
            dims.update(dict.fromkeys(_access_dims(store.access)))
        return list(dims)

    def block(self, body: Sequence[Statement]) -> None:
        """Statements in the current scope. Recursion is as deep as loops are nested."""
        for statement in body:
            self._handlers[type(statement)](statement)

    def _scope(self) -> _Scope:
        """Open a scope; returns the state around it, for `_leave`."""
        around = (self.values, self.splats, self.index, self.pointers, self.partials, self.copies, self.masks)
        self.values = self.values.new_child()
        self.splats = self.splats.new_child()
        self.index = self.index.new_child()
        self.pointers = self.pointers.new_child()
        self.partials = self.partials.new_child()
        return around

    def _leave(self, around: _Scope) -> None:
        (self.values, self.splats, self.index, self.pointers, self.partials, self.copies, self.masks) = around

    # -- values -----------------------------------------------------------------------------------------------------
    def _is_wide(self, node: Node) -> bool:
        return self.vector in node.domain

    def _one(self, node: Node) -> Vec:
        """The value of a node that does not vary along the vector axis."""
        return self.narrow.const(node.dtype, node.value) if isinstance(node, Const) else self.values[node.id][0]

    def _wide(self, node: Node, copy: int) -> Vec:
        """A node's value as a vector."""
        if isinstance(node, Const):
            return self.wide.const(node.dtype, node.value)
        if self._is_wide(node):
            return self.values[node.id][copy]
        found = self.splats.get(node.id)
        if found is None:
            found = self.splats[node.id] = self.wide.splat(self._one(node).text, node.dtype)
        return found

    def _define(self, node: Node, values: tuple[Vec, ...]) -> None:
        self.values[node.id] = values
        if node.id in self._wide_users:
            # Broadcast where the value is computed, which may be outside of the loops that use it.
            self.splats[node.id] = self.wide.splat(values[0].text, node.dtype)

    def _compute(self, statement: Compute) -> None:
        node = statement.node
        if isinstance(node, Load):
            self._define(node, self._load(node))
        elif isinstance(node, Index):
            self._define(node, self._affine(node))
        elif self._is_wide(node):
            rows = [[self._wide(x, c) for x in node.operands] for c in range(self.copies)]
            self._define(node, tuple(node.rule(self.wide, *row) for row in rows))  # type: ignore[union-attr]
        else:
            row = [self._one(x) for x in node.operands]
            self._define(node, (node.rule(self.narrow, *row),))  # type: ignore[union-attr]

    def _affine(self, node: Index) -> tuple[Vec, ...]:
        base = self.dims[node.offset]
        for axis, coefficient in node.terms:
            base = self.sizes.add(base, self.sizes.mul(self.index[axis], self.dims[coefficient]))
        if not self._is_wide(node):
            return (Vec(str(base), int64),)
        step = self.dims[dict(node.terms)[self.vector]]  # type: ignore[index]
        return tuple(self._ramp(base, step, copy) for copy in range(self.copies))

    def _ramp(self, base: Size, step: Size, copy: int) -> Vec:
        """base + step * (lane number of the copy) as i64."""
        first = self.sizes.add(base, self.sizes.mul(step, copy * self.wide.lanes))
        lanes = self.wide.iota(int64)
        if step != 1:
            lanes = self.wide.mul(lanes, self.wide.splat(str(step), int64))
        return self.wide.add(lanes, self.wide.splat(str(first), int64))

    # -- memory -----------------------------------------------------------------------------------------------------
    def _load(self, node: Load) -> tuple[Vec, ...]:
        access = node.access
        if not self._is_wide(node):
            mask = None if node.mask is None else self._one(node.mask)
            other = None if node.other is None else self._one(node.other)
            return (self.narrow.load(self._address(access), node.dtype, mask=mask, passthru=other),)
        loaded = []
        for copy in range(self.copies):
            mask = self._mask(node.mask, copy)
            other = None if node.other is None else self._wide(node.other, copy)
            loaded.append(self._load_vector(access, node.dtype, copy, mask, other))
        return tuple(loaded)

    def _mask(self, condition: Node | None, copy: int) -> Vec | None:
        """A condition and the tail's mask, None where all lanes are meant."""
        own = None if condition is None else self._wide(condition, copy)
        tail = None if self.masks is None else self.masks[copy]
        if own is None or tail is None:
            return own if tail is None else tail
        return self.wide.and_(own, tail)

    def _load_vector(self, access: Access, dtype: DType, copy: int, mask: Vec | None, other: Vec | None) -> Vec:
        stride = access.stride(self.vector)  # type: ignore[arg-type]
        if any(self._is_wide(n) for n, _ in access.dynamic) or stride not in (0, 1, -1, 2):
            base, index = self._gather_index(access, copy)
            return self.wide.gather(base, index, dtype, mask=mask, passthru=other)
        pointer = self._address(access, dtype, copy)
        if stride == 0:
            # Only the mask varies along the vector axis.
            return self._load_uniform(pointer, dtype, mask, other)
        if stride == 1:
            return self.wide.load(pointer, dtype, mask=mask, passthru=other)
        if stride == -1:
            pointer = self._advance(pointer, dtype, 1 - self.wide.lanes)
            mask = None if mask is None else self._reverse(mask)
            return self._reverse(self.wide.load(pointer, dtype, mask=mask, passthru=other))
        if mask is not None:
            base, index = self._gather_index(access, copy)
            return self.wide.gather(base, index, dtype, mask=mask, passthru=other)
        return self._load_pairs(pointer, dtype)

    def _load_uniform(self, pointer: str, dtype: DType, mask: Vec | None, other: Vec | None) -> Vec:
        index = self.wide.const(int64, 0)
        return self.wide.gather(pointer, index, dtype, mask=mask, passthru=other)

    def _load_pairs(self, pointer: str, dtype: DType) -> Vec:
        """Every second element: two loads, of which the second ends with the last element that is needed."""
        lanes = self.wide.lanes
        low = self.wide.load(pointer, dtype)
        high = self.wide.load(self._advance(pointer, dtype, lanes - 1), dtype)
        # Element 2i is low[2i], or high[2i - (lanes - 1)]; in the shuffle's numbering high begins at `lanes`.
        order = [2 * i if 2 * i < lanes else 2 * i + 1 for i in range(lanes)]
        return self._shuffle(low, high, order)

    def _gather_index(self, access: Access, copy: int) -> tuple[str, Vec]:
        """Base pointer and index of each lane."""
        base = self._address(access, self._buffer_dtype(access.buffer), 0, dynamic=False)
        index = self._ramp(0, self.dims[access.stride(self.vector)], copy)  # type: ignore[arg-type]
        for node, stride in access.dynamic:
            position = self.wide.convert(self._wide(node, copy), int64)
            index = self.wide.add(index, self.wide.mul(position, self.wide.splat(str(self.dims[stride]), int64)))
        return base, index

    def _put(self, statement: Put) -> None:
        store = statement.store
        access = store.access
        if self.vector not in store.domain:
            self._put_one(store)
            return
        for copy in range(self.copies):
            value = self._wide(store.value, copy)
            mask = None if self.masks is None else self.masks[copy]
            if isinstance(store, Add):
                old = self._load_vector(access, value.dtype, copy, mask, None)
                value = store.add(self.wide, old, value)
            self._store_vector(access, value, copy, mask)

    def _put_one(self, store: object) -> None:
        access, value = store.access, self._one(store.value)  # type: ignore[attr-defined]
        pointer = self._address(access)
        if isinstance(store, Add):
            value = store.add(self.narrow, self.narrow.load(pointer, value.dtype), value)
        self.narrow.store(value, pointer)

    def _store_vector(self, access: Access, value: Vec, copy: int, mask: Vec | None) -> None:
        stride = access.stride(self.vector)  # type: ignore[arg-type]
        if any(self._is_wide(n) for n, _ in access.dynamic) or stride not in (1, -1):
            base, index = self._gather_index(access, copy)
            self.wide.scatter(value, base, index, mask=mask)
            return
        pointer = self._address(access, value.dtype, copy)
        if stride == -1:
            pointer = self._advance(pointer, value.dtype, 1 - self.wide.lanes)
            value = self._reverse(value)
            mask = None if mask is None else self._reverse(mask)
        self.wide.store(value, pointer, mask=mask)

    def _reverse(self, x: Vec) -> Vec:
        return self._shuffle(x, x, list(range(self.wide.lanes))[::-1])

    def _shuffle(self, x: Vec, y: Vec, order: list[int]) -> Vec:
        type_ = self.wide.type(x.dtype)
        lanes = ", ".join(f"i32 {i}" for i in order)
        return Vec(
            self.f.emit(f"shufflevector {type_} {x.text}, {type_} {y.text}, <{len(order)} x i32> <{lanes}>"), x.dtype
        )

    # -- addresses --------------------------------------------------------------------------------------------------
    def _buffer_dtype(self, buffer: int) -> DType:
        return self.plan.group.buffers[buffer].dtype

    def _address(self, access: Access, dtype: DType | None = None, copy: int = 0, *, dynamic: bool = True) -> str:
        """The address of an access at the open axes' indices; of a copy's first lane along the vector axis."""
        dtype = dtype or self._buffer_dtype(access.buffer)
        pointer = self._approach(access)
        offset: Size = 0
        if dynamic:
            for node, stride in access.dynamic:
                position = self.narrow.convert(self._one(node), int64)
                offset = self.sizes.add(offset, self.sizes.mul(position.text, self.dims[stride]))
        if copy:
            step = self.dims[access.stride(self.vector)]  # type: ignore[arg-type]
            offset = self.sizes.add(offset, self.sizes.mul(step, copy * self.wide.lanes))
        return self._advance(pointer, dtype, offset)

    def _approach(self, access: Access) -> str:
        """The pointer with all open axes taken into account. It advances with each loop that is opened, so that inner loops
        only add their own step; accesses that agree so far share it."""
        open_ = frozenset(self.index)
        terms = tuple((a, s) for a, s in access.terms if a in open_)
        key = (access.buffer, access.offset, terms)
        found = self.pointers.get(key)
        if found is not None:
            return found[0]
        pointer, taken = self._nearest(access, open_)
        offset: Size = 0 if taken is not None else self.dims[access.offset]
        for axis, stride in terms:
            if taken is None or axis not in taken:
                offset = self.sizes.add(offset, self.sizes.mul(self.index[axis], self.dims[stride]))
        pointer = self._advance(pointer, self._buffer_dtype(access.buffer), offset)
        self.pointers[key] = pointer, open_
        return pointer

    def _nearest(self, access: Access, open_: frozenset[int]) -> tuple[str, frozenset[int] | None]:
        """The pointer made for most of the open axes."""
        best: tuple[str, frozenset[int]] | None = None
        for (buffer, offset, terms), (pointer, taken) in self.pointers.items():  # type: ignore[misc]
            fits = buffer == access.buffer and offset == access.offset and taken <= open_
            better = best is None or len(taken) > len(best[1])
            if fits and better and terms == tuple((a, s) for a, s in access.terms if a in taken):
                best = pointer, taken
        return best or (f"%b{access.buffer}", None)

    def _advance(self, pointer: str, dtype: DType, offset: Size) -> str:
        if offset == 0:
            return pointer
        return self.f.emit(f"getelementptr i8, ptr {pointer}, i64 {self.sizes.mul(offset, dtype.itemsize)}")

    # -- scratch ----------------------------------------------------------------------------------------------------
    def _slot_strides(self, slot: Slot) -> list[Dim]:
        """Strides of a slot's axes, row-major; the vector axis, if among them, comes last with stride 1."""
        axes = sorted(slot.axes, key=lambda a: (a == self.vector, a))
        strides: list[Dim] = []
        size: Dim = self.plan.strip if slot.strip else 1
        for axis in reversed(axes):
            strides.append(size)
            size = size * self.plan.group.extents[axis]
        return strides[::-1]

    def _slot_address(self, slot: Slot, copy: int) -> str:
        axes = sorted(slot.axes, key=lambda a: (a == self.vector, a))
        offset: Size = copy * self.wide.lanes
        for axis, stride in zip(axes, self._slot_strides(slot), strict=True):
            offset = self.sizes.add(offset, self.sizes.mul(self.index[axis], self.dims[stride]))
        start = self.dims[self.offsets[slot.index]]
        pointer = "%scratch" if start == 0 else self.f.emit(f"getelementptr i8, ptr %scratch, i64 {start}")
        return self._advance(pointer, slot.node.dtype, offset)

    def _save(self, statement: Save) -> None:
        slot = statement.slot
        if not self._is_wide(slot.node):
            self.narrow.store(self._one(slot.node), self._slot_address(slot, 0))
            return
        for copy in range(self.copies):
            mask = None if self.masks is None else self.masks[copy]
            self.wide.store(self._wide(slot.node, copy), self._slot_address(slot, copy), mask=mask)

    def _reload(self, statement: Reload) -> None:
        slot = statement.slot
        node = slot.node
        if not self._is_wide(node):
            self._define(node, (self.narrow.load(self._slot_address(slot, 0), node.dtype),))
            return
        masks = self.masks or (None,) * self.copies
        loaded = [self.wide.load(self._slot_address(slot, c), node.dtype, mask=masks[c]) for c in range(self.copies)]
        self._define(node, tuple(loaded))

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
            operands = tuple(self._wide(x, copy) if spread else self._one(x) for x in reduce.operands)
            new = folding.step(s, reduce.combine, operands, old)
            if self.masks is not None and self._spans(reduce):
                mask = self.masks[copy]
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
            self._approach(access)
        self.inner = self._chunks(loop, loop.chunks, 0, self.dims[loop.extent])

    def _chunks(self, loop: Loop, chunks: tuple[int, ...], start: Size, end: Size) -> _Accumulators:
        """Part of an axis, cut into chunks of sizes `chunks`, outermost first."""
        if not chunks:
            return self._pass(loop, start, end)

        def chunk(first: Size, totals: _Accumulators) -> _Accumulators:
            last = self.sizes.minimum(self.sizes.add(first, chunks[0]), end)
            parts = self._chunks(loop, chunks[1:], first, last)
            return {r.id: self._combined(r, parts[r.id], totals[r.id]) for r in loop.accumulators}

        count = {r.id: self._count(loop, r) for r in loop.accumulators}
        return self._counted(loop, Range(start, end, chunks[0]), count, chunk, "chunk")

    def _count(self, loop: Loop, reduce: Reduce) -> int:
        """Vectors of a reduction's accumulator around a loop."""
        if not self._spans(reduce):
            return self.copies if self._is_wide(reduce) else 1
        inner = next(x for x in [loop, *loops(loop.body)] if x.vector)
        return inner.granule if self._short(inner) else inner.copies

    def _short(self, loop: Loop) -> bool:
        """Whether a vector loop is known to have a tail only."""
        return isinstance(loop.extent, int) and loop.extent < loop.copies * self.wide.lanes

    def _pass(self, loop: Loop, start: Size, end: Size) -> _Accumulators:
        """The iterations start .. end of a loop, with accumulators of their own."""
        if not loop.vector:
            count = {r.id: self._count(loop, r) for r in loop.accumulators}
            return self._counted(loop, Range(start, end, 1), count, self._iteration(loop, 1), f"a{loop.axis}")
        step = loop.copies * self.wide.lanes
        middle = self.sizes.add(start, self.sizes.round_down(self.sizes.sub(end, start), step))
        counts = dict.fromkeys((r.id for r in loop.accumulators), loop.copies)
        main = self._counted(
            loop, Range(start, middle, step), counts, self._iteration(loop, loop.copies), f"a{loop.axis}"
        )
        if middle == end and not self._short(loop):
            return main
        counts = dict.fromkeys(counts, loop.granule)
        step = loop.granule * self.wide.lanes
        tail = self._counted(loop, Range(middle, end, step), counts, self._iteration(loop, loop.granule, end), "tail")
        if self._short(loop):
            return tail
        return {r.id: self._combined(r, tail[r.id], main[r.id]) for r in loop.accumulators}

    def _iteration(
        self, loop: Loop, copies: int, end: Size | None = None
    ) -> Callable[[Size, _Accumulators], _Accumulators]:
        """Writes one iteration: `copies` vectors, masked if `end` says where the axis ends."""

        def write(index: Size, accumulators: _Accumulators) -> _Accumulators:
            around = self._scope()
            if loop.vector:
                self.copies = copies
                self.masks = None if end is None else self._tail_masks(self.sizes.sub(end, index), copies)
            self.index[loop.axis] = index
            self.partials.update(accumulators)
            self.block(loop.body)
            made = {i: self.partials[i] for i in accumulators}
            self._leave(around)
            return made

        return write

    def _tail_masks(self, remaining: Size, copies: int) -> tuple[Vec, ...] | None:
        """For each vector, which lanes are among the `remaining` elements; None if all are."""
        lanes = self.wide.lanes
        if isinstance(remaining, int):
            if remaining >= copies * lanes:
                return None
            bound = self.wide.const(int32, remaining)
        else:
            bound = self.wide.splat(self.f.emit(f"trunc i64 {remaining} to i32"), int32)
        masks = []
        for copy in range(copies):
            numbers = ", ".join(f"i32 {copy * lanes + i}" for i in range(lanes))
            numbers = f"<{numbers}>" if lanes > 1 else str(copy)
            masks.append(self.wide.lt(Vec(numbers, int32), bound))
        return tuple(masks)

    def _counted(
        self,
        loop: Loop,
        span: Range,
        counts: dict[int, int],
        iteration: Callable[[Size, _Accumulators], _Accumulators],
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


def _wide_operands(plan: Schedule) -> frozenset[int]:
    """Nodes that do not vary along the vector axis but are used by one that does, or by a wide store or accumulator."""
    found: set[int] = set()
    for node in plan.group.nodes():
        axes = node.domain | node.axes if isinstance(node, Reduce) else node.domain
        if plan.vector in axes:
            found.update(x.id for x in node.operands)
    for store in plan.group.stores:
        if plan.vector in store.domain:
            found.add(store.value.id)
    return frozenset(n.id for n in plan.group.nodes() if n.id in found and plan.vector not in n.domain)

"""From a fused node's body to a group: movement becomes index arithmetic. Layer 4, codegen.

The body is walked in pairs of a value and an index map (one affine expression of loop axes for each dimension); a movement
turns a pair into pairs of its operands, an input turns into a load. A value that is needed under two maps is computed
under both; equal nodes are one, since the DAG is interned.

Axes: the dimensions of the outputs are loop axes in order, those of size 1 have none. A reduction's axes are bound
variables: an axis of the same extent that the result does not depend on is used again, so that softmax reduces along the
axis that it is stored along and its stages share loads and scratch.

A load whose address is not seen to be inside of its buffer is masked by the condition that it is; that serves padding,
concatenation and slices of symbolic size alike. A dynamic index (`take`) is an axis of its own in index maps, numbered
from `_DYNAMIC` on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from graphc.codegen.kernel import Add, Buffer, Combine, Const, Dag, Group, Load, Node, Store
from graphc.dtypes import DType, int64
from graphc.errors import CompileError
from graphc.ir.access import is_view, sources_at, unit_reshape
from graphc.ir.affine import Affine, affine, axes_of
from graphc.ir.dims import Dim, is_nonnegative
from graphc.ir.graph import Graph, Value, attribute_key
from graphc.ir.graph import Node as GraphNode
from graphc.ir.op import Elementwise, Indexing, Movement, Random, Reduction, Special
from graphc.ir.scalar import S, Scalar
from graphc.ir.types import Shape, TensorType, Type
from graphc.ops.indexing import position

__all__ = ["expand", "expand_scatter"]

#: Axis numbers from here on are dynamic indices.
_DYNAMIC = 1 << 20

_Map = tuple[Affine, ...]
_Request = tuple[Value, _Map]
_Walk = Generator[_Request, Node, Node]
_ZERO = Affine(())


def expand(body: Graph, aliases: Mapping[int, int] | None = None) -> Group:
    """The group that computes a body.

    Its buffers are the body's inputs in order, then its outputs. `aliases[k] = j` says that output k is written over input j
    element by element: the output then has no buffer of its own. That is right if the kernel reads no element of the input
    but the one that it writes at the same indices.

    Raises
    ------
    CompileError
        If the body holds a node that has no place in a loop (a product, an effect, a general reshape of a computed value).
    """
    return _Expander(body, aliases or {}).group()


def expand_scatter(
    types: Sequence[TensorType], axis: int, mode: str, combine: Callable[..., S], *, aliased: bool = False
) -> Group:
    """The group of a scattering op on (x, indices, updates): buffers x, indices, updates and the result, or, if the result
    is `aliased` to x, x, indices and updates. `combine(s, old, new)` is applied to one element after the other, in row-major
    order of the indices."""
    x, indices, updates = types
    rank = len(indices.shape)
    dag = Dag()
    extents = [*updates.shape]
    walked = [a if d != 1 else None for a, d in enumerate(updates.shape)]
    index = dag.load(indices.dtype, dag.access(1, _terms(walked[axis : axis + rank], indices.shape)))
    place = _position(dag, index, x.shape[axis], mode)
    strides = _strides(x.shape)
    outer = zip(walked[:axis], strides[:axis], strict=True)
    inner = zip(walked[axis + rank :], strides[axis + 1 :], strict=True)
    target = 0 if aliased else 3
    terms = [(a, s) for a, s in (*outer, *inner) if a is not None]
    value = dag.load(updates.dtype, dag.access(2, _terms(walked, updates.shape)))
    access = dag.access(target, terms, 0, [(place, strides[axis])])
    domain = frozenset(a for a in walked if a is not None)
    stores: list[Store | Add] = [Add(access, value, domain, combine)]
    buffers = [Buffer(t.dtype, t.shape) for t in types]
    if not aliased:
        copied = [len(extents) + a if d != 1 else None for a, d in enumerate(x.shape)]
        extents += x.shape
        flat = _terms(copied, x.shape)
        source = dag.load(x.dtype, dag.access(0, flat))
        stores.insert(0, Store(dag.access(3, flat), source, frozenset(a for a in copied if a is not None)))
        buffers.append(Buffer(x.dtype, x.shape))
    return Group(tuple(extents), tuple(buffers), tuple(stores))


def _strides(shape: Shape) -> list[Dim]:
    """Row-major strides in elements; an empty dimension counts as 1, so that strides do not vanish."""
    strides: list[Dim] = []
    step: Dim = 1
    for extent in reversed(shape):
        strides.append(step)
        step = step * (1 if extent == 0 else extent)
    return strides[::-1]


def _terms(axes: Iterable[int | None], shape: Shape) -> list[tuple[int, Dim]]:
    return [(a, s) for a, s in zip(axes, _strides(shape), strict=True) if a is not None]


def _position(dag: Dag, index: Node, size: Dim, mode: str) -> Node:
    """The place along an axis that a run-time index means, always inside of the axis."""

    def rule(s: Scalar, x: S, extent: S) -> S:
        return position(s, x, extent, mode)[0]

    return dag.apply("position", rule, (index, dag.index((), size)), int64, key=mode)


def _tensor(type_: Type) -> TensorType:
    if not isinstance(type_, TensorType):
        raise CompileError("an effect token has no place in a loop kernel")
    return type_


def _inner(shape: Shape) -> Shape:
    """The dimensions that have a loop."""
    return tuple(d for d in shape if d != 1)


def _viewed_input(value: Value) -> int | None:
    """The input whose memory a value is, if it is one's: a contiguous array has any shape of its size."""
    while is_view(value.node):
        value = value.node.operands[0]
    return value.node.attrs["index"] if value.node.op.name == "input" else None


def _start(op: Reduction) -> Callable[[DType], float]:
    """What accumulators start with: the identity, but +0.0 for a sum, which is what NumPy's sums of nothing and of negative
    zeros give."""
    return lambda dtype: op.identity(dtype) + 0.0 if dtype.is_float else op.identity(dtype)


def _column(node: GraphNode, number: int) -> Value | None:
    """The operand of a movement that is, with a last axis of size 1, the result's last index `number`; None if none is."""
    if is_view(node):
        return None
    outer = axes_of(len(node.result.shape) - 1)
    for source in sources_at(node, (*outer, Affine((), number))):
        holds = True
        for guard in source.guards:
            index, extent = affine(guard.index), guard.extent
            if index.factors or not isinstance(index.offset, int) or not isinstance(extent, int):
                return None
            holds = holds and 0 <= index.offset < extent
        if holds:
            operand = node.operands[source.operand]
            plain = tuple(map(affine, source.index)) == (*outer, _ZERO) and operand.shape[-1] == 1
            return operand if plain else None
    return None


@dataclass(slots=True)
class _Expander:
    """The state of one expansion."""

    body: Graph
    aliases: Mapping[int, int]
    dag: Dag = field(default_factory=Dag)
    #: Extents of loop axes, by number.
    extents: list[Dim] = field(default_factory=list)
    #: Dynamic indices with the size of what they index, by number less `_DYNAMIC`.
    dynamic: list[tuple[Node, Dim]] = field(default_factory=list)
    made: dict[_Request, Node] = field(default_factory=dict)

    def group(self) -> Group:
        buffers = [Buffer(t.dtype, t.shape) for t in map(_tensor, self.body.inputs)]
        stores: list[Store | Add] = []
        for number, (output, axes) in enumerate(zip(self.body.outputs, self._output_axes(), strict=True)):
            index = tuple(_ZERO if a is None else Affine(((a, 1),)) for a in axes)
            values = [self._evaluate((v, index)) for v in self._stored(number)]
            alias = self.aliases.get(number)
            if alias is None:
                buffers.append(Buffer(output.dtype, output.shape))
            access = self.dag.access(len(buffers) - 1 if alias is None else alias, _terms(axes, output.shape))
            domain = frozenset(a for a in axes if a is not None)
            stores.append(Store(access, values[0], domain, alias is not None, values[1] if len(values) > 1 else None))
        return Group(tuple(self.extents), tuple(buffers), tuple(stores))

    def _stored(self, number: int) -> tuple[Value, ...]:
        """The values that one step of the loops writes to an output, one after the other in memory: the output, or the two that
        were put together along its last axis (real and imaginary parts), which then has no loop."""
        output = self.body.outputs[number]
        if number in self.aliases or output.shape[-1:] != (2,) or not isinstance(output.node.op, Movement):
            return (output,)
        pair = [_column(output.node, k) for k in (0, 1)]
        return (output,) if pair[0] is None or pair[1] is None or pair[0] is pair[1] else (pair[0], pair[1])

    # -- axes -----------------------------------------------------------------------------------------------------------
    def _output_axes(self) -> list[tuple[int | None, ...]]:
        """The loop axis of each dimension of each output. Outputs of the largest rank span the kernel's space; smaller ones
        are what is kept of it after its reductions."""
        stored = [self._stored(number)[0].shape for number in range(len(self.body.outputs))]
        shapes = [_inner(shape) for shape in stored]
        space = max(shapes, key=len, default=())
        self.extents += space
        known = {space: tuple(range(len(space)))}
        kept = self._kept(space)
        if kept is not None:
            known.setdefault(tuple(space[a] for a in kept), kept)
        axes = []
        for whole, shape in zip(stored, shapes, strict=True):
            if shape not in known:
                known[shape] = tuple(range(len(self.extents), len(self.extents) + len(shape)))
                self.extents += shape
            own = iter(known[shape])
            axes.append(tuple(None if d == 1 else next(own) for d in whole))
        return axes

    def _kept(self, space: Shape) -> tuple[int, ...] | None:
        """The axes of the space that its reductions leave."""
        for node in self.body.nodes:
            if isinstance(node.op, Reduction) and _inner(node.operands[0].shape) == space:
                removed = set(node.attrs["axes"])
                walked = [a for a, d in enumerate(node.operands[0].shape) if d != 1]
                return tuple(i for i, a in enumerate(walked) if a not in removed)
        return None

    def _bound_axis(self, extent: Dim, used: set[int]) -> int:
        """An axis for a reduction: one of the extent that is not in use, or a new one."""
        for axis, known in enumerate(self.extents):
            if known == extent and axis not in used:
                return axis
        self.extents.append(extent)
        return len(self.extents) - 1

    # -- walking ----------------------------------------------------------------------------------------------------------
    def _evaluate(self, request: _Request) -> Node:
        """The node of a value under an index map. A walk asks for its operands by yielding; the stack is explicit, since
        bodies may be deep."""
        if request in self.made:
            return self.made[request]
        stack = [(request, self._walk(request))]
        answer: Node | None = None
        while stack:
            current, walk = stack[-1]
            try:
                wanted = next(walk) if answer is None else walk.send(answer)
            except StopIteration as finished:
                self.made[current] = answer = finished.value
                stack.pop()
                continue
            answer = self.made.get(wanted)
            if answer is None:
                stack.append((wanted, self._walk(wanted)))
        assert answer is not None
        return answer

    def _walk(self, request: _Request) -> _Walk:
        value, index = request
        op = value.node.op
        if op.name == "constant" and not value.shape:
            return self._walk_constant(value)
        viewed = _viewed_input(value)
        if viewed is not None:
            return self._walk_input(viewed, value.shape, index)
        for kind, walk in _WALKS:
            if isinstance(op, kind):
                return walk(self, value.node, index)
        raise CompileError(f"{op.name} has no place in a loop kernel")

    def _walk_input(self, buffer: int, shape: Shape, index: _Map) -> _Walk:
        """A load; masked where the index may be outside."""
        dtype = _tensor(self.body.inputs[buffer]).dtype
        total = _ZERO
        mask: Node | None = None
        for expression, stride, extent in zip(index, _strides(shape), shape, strict=True):
            total = total + expression * stride
            if not self._inside(expression, extent):
                condition = yield from self._within(expression, extent)
                mask = condition if mask is None else self.dag.both(mask, condition)
        terms = [(a, c) for a, c in total.factors if a < _DYNAMIC]
        dynamic = [(self.dynamic[a - _DYNAMIC][0], c) for a, c in total.factors if a >= _DYNAMIC]
        return self.dag.load(dtype, self.dag.access(buffer, terms, total.offset, dynamic), mask)

    def _walk_constant(self, value: Value) -> _Walk:
        return self.dag.const(value.dtype, value.node.attrs["value"].array[()].item())
        yield

    def _walk_elementwise(self, node: GraphNode, index: _Map) -> _Walk:
        op = node.op
        assert isinstance(op, Elementwise)
        operands = []
        for operand in node.operands:
            operands.append((yield operand, index))
        key = tuple((name, attribute_key(node.attrs[name])) for name in sorted(node.attrs))
        rule = partial(op.scalar, **node.attrs)
        return self.dag.apply(op.name, rule, operands, node.result.dtype, key=key, heavy=op.heavy)

    def _walk_movement(self, node: GraphNode, index: _Map) -> _Walk:
        if is_view(node) and unit_reshape(node) is None:
            raise CompileError("a general reshape of a computed value has no place in a loop kernel")
        sources = sources_at(node, index)
        result: Node | None = None
        # Backwards, since the first source whose guards hold is taken.
        for source in reversed(sources):
            value = yield node.operands[source.operand], tuple(affine(x) for x in source.index)
            condition: Node | None = None
            for guard in source.guards:
                expression = affine(guard.index)
                if not self._inside(expression, guard.extent):
                    holds = yield from self._within(expression, guard.extent)
                    condition = holds if condition is None else self.dag.both(condition, holds)
            if result is None or condition is None:
                result = value
            else:
                result = self._choose(condition, value, result)
        assert result is not None, node
        return result

    def _choose(self, condition: Node, value: Node, other: Node) -> Node:
        """value where the condition holds; a load that is masked by the same condition takes a constant in passing."""
        if isinstance(value, Load) and value.mask is condition and isinstance(other, Const):
            return self.dag.load(value.dtype, value.access, condition, other)
        return self.dag.select(condition, value, other)

    def _walk_reduction(self, node: GraphNode, index: _Map) -> _Walk:
        op = node.op
        assert isinstance(op, Reduction)
        (operand,) = node.operands
        removed = node.attrs["axes"]
        used = {a for expression in index for a, _ in expression.factors}
        kept = iter(index)
        inner: list[Affine] = []
        axes: list[int] = []
        for dimension, extent in enumerate(operand.shape):
            if dimension not in removed:
                inner.append(next(kept))
                continue
            axis = self._bound_axis(extent, used)
            used.add(axis)
            axes.append(axis)
            inner.append(Affine(((axis, 1),)))
        value = yield operand, tuple(inner)
        where = self.dag.index([(axes[0], 1)]) if op.arg else None
        if not axes:
            return value
        return self.dag.reduce(Combine(op.name, op.combine, _start(op), op.arg, op.exact), value, axes, where)

    def _walk_special(self, node: GraphNode, index: _Map) -> _Walk:
        op = node.op
        assert isinstance(op, Special)
        if op.name == "barrier":
            return (yield node.operands[0], index)
        scalar = op.scalar
        if scalar is None:
            raise CompileError(f"{op.name} of shape {list(node.result.shape)} has no place in a loop kernel")
        axis = node.attrs["axis"]
        along = yield from self._index_node(index[axis])
        rank = len(index)

        def rule(s: Scalar, i: S) -> S:
            return scalar(s, tuple(i if k == axis else None for k in range(rank)), **node.attrs)

        return self.dag.apply(op.name, rule, (along,), node.result.dtype)

    def _walk_random(self, node: GraphNode, index: _Map) -> _Walk:
        op = node.op
        assert isinstance(op, Random)
        keys = node.operands[0].tensor.rank - 1
        flat = _ZERO
        for expression, stride in zip(index[keys:], _strides(node.result.shape[keys:]), strict=True):
            flat = flat + expression * stride
        operands = [(yield from self._index_node(flat))]
        for operand in node.operands:
            words = operand.shape[-1]
            assert isinstance(words, int), operand
            for number in range(words):
                operands.append((yield operand, (*index[:keys], Affine((), number))))
        key = tuple((name, attribute_key(node.attrs[name])) for name in sorted(node.attrs))
        rule = partial(op.scalar, **node.attrs)
        return self.dag.apply(op.name, rule, operands, node.result.dtype, key=key, heavy=True)

    def _walk_take(self, node: GraphNode, index: _Map) -> _Walk:
        if node.op.name != "take":
            raise CompileError(f"{node.op.name} has no place in a loop kernel")
        x, indices = node.operands
        axis, mode, rank = node.attrs["axis"], node.attrs["mode"], len(indices.shape)
        found = yield indices, index[axis : axis + rank]
        place = _position(self.dag, found, x.shape[axis], mode)
        entry = (place, x.shape[axis])
        if entry not in self.dynamic:
            self.dynamic.append(entry)
        along = Affine(((_DYNAMIC + self.dynamic.index(entry), 1),))
        return (yield x, (*index[:axis], along, *index[axis + rank :]))

    # -- conditions ---------------------------------------------------------------------------------------------------------
    def _index_node(self, expression: Affine) -> _Walk:
        """An index expression as an i64 value."""
        terms = [(a, c) for a, c in expression.factors if a < _DYNAMIC]
        node: Node = self.dag.index(terms, expression.offset)
        for axis, factor in expression.factors:
            if axis >= _DYNAMIC:
                scaled = (node, self.dynamic[axis - _DYNAMIC][0], self.dag.index((), factor))
                node = self.dag.apply("step", lambda s, x, i, c: s.add(x, s.mul(i, c)), scaled, int64)
        return node
        yield

    def _within(self, expression: Affine, extent: Dim) -> _Walk:
        return self.dag.within((yield from self._index_node(expression)), extent)

    def _inside(self, expression: Affine, extent: Dim) -> bool:
        """Whether 0 <= expression < extent is seen to hold wherever the loops run."""
        low, high = expression.offset, expression.offset
        for axis, factor in expression.factors:
            last = (self.extents[axis] if axis < _DYNAMIC else self.dynamic[axis - _DYNAMIC][1]) - 1
            if is_nonnegative(factor):
                high = high + factor * last
            elif is_nonnegative(-factor):
                low = low + factor * last
            else:
                return False
        return is_nonnegative(low) and is_nonnegative(extent - 1 - high)


_WALKS: tuple[tuple[type, Callable[[_Expander, GraphNode, _Map], _Walk]], ...] = (
    (Elementwise, _Expander._walk_elementwise),
    (Movement, _Expander._walk_movement),
    (Reduction, _Expander._walk_reduction),
    (Special, _Expander._walk_special),
    (Random, _Expander._walk_random),
    (Indexing, _Expander._walk_take),
)

"""From a fused body with a dot to a matrix product with an epilogue. Layer 4, codegen.

The body's dot is brought to the form of `GemmSpec`: movements on its operands become strides and offsets, free axes become
rows and columns, contracted axes nested k loops, and what does not fit becomes an outer (batch) loop. The elementwise
rest of the body is the epilogue: it is computed on accumulators before they are stored, and reads further operands at
the accumulators' indices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphc.codegen.body import is_scalar_constant, without_dot
from graphc.codegen.emitted import Argument, Emitted
from graphc.codegen.gemm import Code, GemmSpec, emit_gemm, make_plan
from graphc.codegen.gemm_plan import Plan
from graphc.codegen.helpers import ZERO, zero_function
from graphc.codegen.loop import emit_loop
from graphc.codegen.sizes import Size, Sizes, parameter
from graphc.codegen.text import Function
from graphc.codegen.vectors import Vec, Vectors
from graphc.dtypes import DType, int64
from graphc.errors import CompileError
from graphc.ir.access import sources_at
from graphc.ir.affine import Affine, affine, axes_of
from graphc.ir.dims import Dim, product, symbols_of
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.op import Contraction, Elementwise, Movement
from graphc.ir.types import TensorType
from graphc.target import Target

__all__ = ["emit_contraction"]

Index = tuple[Affine, ...]

#: Epilogues of more operations than this are written once, outside of the register tiles.
INLINE_OPERATIONS = 8
#: Blocks of an axis whose size is known at run time only.
BLOCKS = (64, 8, 1)


def emit_contraction(name: str, body: Graph, aliases: Mapping[int, int], target: Target, *, contract: bool) -> Emitted:
    """Write the kernel of a body with one dot and elementwise ops on its result."""
    (dot,) = (n for n in body.nodes if isinstance(n.op, Contraction))
    open_axes = [a for a, d in enumerate(dot_dims(dot)) if not isinstance(d, int)]
    try:
        if not open_axes:
            return _emit_static(name, body, target, contract)
        if len(open_axes) == 1:
            return _emit_blocked(name, body, open_axes[0], target, contract)
    except _NotStatic:
        pass
    return emit_loop(name, without_dot(body), aliases, target, contract=contract)


class _NotStatic(Exception):
    """A size or stride that the product's kernels need is known at run time only."""


def _static(dim: Dim) -> int:
    if not isinstance(dim, int):
        raise _NotStatic
    return dim


def _emit_static(name: str, body: Graph, target: Target, contract: bool) -> Emitted:
    """All sizes are known: one call of the product."""
    core = _core(name, _Product(body), target, contract)
    flops, moved = _work(body, core.product)
    return Emitted(
        functions=core.code.functions,
        declarations=core.code.declarations,
        arguments=(core.product.lhs, core.product.rhs, *core.arguments, Argument("scratch")),
        scratch_bytes=core.plan.scratch_bytes,
        flops=flops,
        bytes=moved,
        tree=str(core.plan),
    )


def _emit_blocked(name: str, body: Graph, axis: int, target: Target, contract: bool) -> Emitted:
    """One size is known at run time only: loops over blocks of that axis, large ones first, around products of known
    size. Blocks of a contracted axis continue the sums in the result, so that sums are formed in the same order."""
    first = _Product(body, {axis: 1})
    summed = axis >= len(first.dims) - first.contracted
    if summed and body.outputs != (first.dot.result,):
        raise _NotStatic
    extent = first.dims[axis]
    symbols = sorted({s.index for d in first.dims for s in symbols_of(d)})
    sizes = [f"i64 {parameter(s)}" for s in symbols]
    pointers = [f"%x{i}" for i in range(len(body.inputs))], [f"%y{i}" for i in range(len(body.outputs))]
    parameters = [f"ptr {p}" for p in (*pointers[0], *pointers[1], "%scratch")]
    f = Function("void", f"@{name}", [*parameters, *sizes])
    calc = Sizes(f)
    total = calc.dim(extent)
    functions: dict[str, str] = {}
    declarations: dict[str, str] = {}
    if summed:
        functions[ZERO] = zero_function()
        f.do(f"call void {ZERO}(ptr %y0, i64 {calc.dim(first.dot.result.tensor.nbytes)})")
    start: Size = 0
    scratch = 0
    trees = []
    for block in BLOCKS:
        core = _core(f"{name}_{block}", _Product(body, {axis: block}), target, contract, initial=summed)
        functions.update(core.code.functions)
        declarations.update(core.code.declarations)
        scratch = max(scratch, core.plan.scratch_bytes)
        trees.append(str(core.plan))
        end = calc.add(start, calc.round_down(calc.sub(total, start), block))
        _block_loop(f, core, axis, (start, end, block), summed)
        start = end
    functions[f"@{name}"] = f.finish("ret void")
    flops, moved = _work(body, first)
    arguments = [Argument("operand", i) for i in range(len(body.inputs))]
    arguments += [Argument("result", i) for i in range(len(body.outputs))]
    return Emitted(
        functions=functions,
        declarations=declarations,
        arguments=(*arguments, Argument("scratch"), *(Argument("size", s) for s in symbols)),
        scratch_bytes=scratch,
        flops=flops,
        bytes=moved,
        tree=f"blocks of a{axis}: {extent}\n" + "\n".join(trees),
    )


def _block_loop(f: Function, core: _Core, axis: int, span: tuple[Size, Size, int], summed: bool) -> None:
    """Call a product of fixed size for start, start + block, ... below end."""
    start, end, block = span
    loop = f.loop_header("blocks")
    at = f.phi("i64", str(start))
    body, done = f.label("block"), f.label("blocks.done")
    f.branch_if(f.emit(f"icmp slt i64 {at.name}, {end}"), body, done)
    f.start(body)
    arguments = []
    for argument, step in ((core.product.lhs, core.product.lhs_step), (core.product.rhs, core.product.rhs_step)):
        moved = f.emit(f"mul i64 {at.name}, {step * core.product.itemsize}")
        offset = f.emit(f"add i64 {moved}, {argument.bytes}")
        arguments.append("ptr " + f.emit(f"getelementptr i8, ptr %x{argument.index}, i64 {offset}"))
    for argument in core.arguments:
        if argument.room == "null":
            arguments.append("ptr null")
        elif argument.room == "operand":
            arguments.append(f"ptr %x{argument.index}")
        elif argument.room == "first":
            arguments.append(f"i64 {at.name}")
        elif core.plain and not summed:
            moved = f.emit(f"mul i64 {at.name}, {core.product.result_step(axis) * core.product.itemsize}")
            arguments.append("ptr " + f.emit(f"getelementptr i8, ptr %y{argument.index}, i64 {moved}"))
        else:
            arguments.append(f"ptr %y{argument.index}")
    f.do(f"call void @{core.name}({', '.join([*arguments, 'ptr %scratch'])})")
    at.add(f.emit(f"add i64 {at.name}, {block}"), f.block)
    f.branch(loop)
    f.start(done)


@dataclass(frozen=True, slots=True)
class _Core:
    """A product of known sizes with its epilogue; `arguments` are those between operands and scratch."""

    name: str
    product: _Product
    code: Code
    plan: Plan
    arguments: tuple[Argument, ...]
    plain: bool


def _core(name: str, product_: _Product, target: Target, contract: bool, *, initial: bool = False) -> _Core:
    body = product_.body
    epilogue = _Epilogue(body, product_)
    plain = body.outputs == (product_.dot.result,)
    pointers = [] if plain else epilogue.arguments()
    extra = [f"ptr %e{i}" for i in range(len(pointers))]
    if product_.block_axis is not None and not plain:
        pointers.append(Argument("first"))
        extra.append("i64 %first")
    heavy = epilogue.operations() > INLINE_OPERATIONS or epilogue.heavy()
    plan = make_plan(product_.spec, target, initial=initial, epilogue=not plain, heavy_epilogue=heavy)
    code = emit_gemm(
        f"@{name}",
        product_.spec,
        target,
        contract=contract,
        initial=initial,
        epilogue=None if plain else epilogue.emit,
        heavy_epilogue=heavy,
        extra=extra,
    )
    # With an epilogue nothing is stored through %c; an operand that is overwritten in place is not noalias then.
    c = Argument("result", 0) if plain else Argument("null")
    return _Core(name, product_, code, plan, (c, *pointers), plain)


def _work(body: Graph, product_: _Product) -> tuple[Dim, Dim]:
    """Operations and bytes."""
    elements = product(product_.dims[: len(product_.dims) - product_.contracted])
    computed = sum(isinstance(n.op, Elementwise) for n in body.nodes)
    moved: Dim = 0
    for type_ in (*body.inputs, *(v.type for v in body.outputs)):
        assert isinstance(type_, TensorType)
        moved = moved + type_.nbytes
    return product(product_.dims) * 2 + elements * computed, moved


def _strides(shape: Sequence[Dim]) -> list[Dim]:
    strides: list[Dim] = []
    step: Dim = 1
    for extent in reversed(shape):
        strides.insert(0, step)
        step = step * extent
    return strides


def dot_dims(dot: Node) -> list[Dim]:
    """The extents of a dot's loops: the result's axes, then the contracted ones."""
    lhs = dot.operands[0]
    return [*dot.result.shape, *(lhs.shape[a] for a in dot.attrs["lhs_contract"])]


def _fold(value: Value, index: Index) -> tuple[Value, Affine]:
    """The body's input that movements lead to, and the element's offset in it."""
    while isinstance(value.node.op, Movement):
        (source,) = sources_at(value.node, index)
        value, index = value.node.operands[source.operand], tuple(affine(x) for x in source.index)
    assert value.node.op.name == "input", value
    offset = affine(0)
    for x, stride in zip(index, _strides(value.shape), strict=True):
        offset = offset + x * stride
    return value, offset


@dataclass(frozen=True, slots=True)
class _Loop:
    """Axes of the result that one loop runs over, outermost first."""

    axes: tuple[int, ...]
    extent: int


class _Product:
    """The dot of a body as a `GemmSpec`, and which of its loops each result axis is in.

    Axes are numbered: those of the result first, then the contracted ones.
    """

    def __init__(self, body: Graph, blocks: Mapping[int, int] | None = None) -> None:
        """`blocks` gives the length of the block of an axis whose size is not known."""
        self.body = body
        (self.dot,) = (n for n in body.nodes if isinstance(n.op, Contraction))
        lhs, rhs = self.dot.operands
        numbers = self.dot.attrs
        blocks = blocks or {}
        self.block_axis = next(iter(blocks), None)
        self.dims = dot_dims(self.dot)
        self.contracted = len(numbers["lhs_contract"])
        self.extents = [blocks[a] if a in blocks else _static(d) for a, d in enumerate(self.dims)]
        axes = axes_of(len(self.extents))
        rank = len(self.extents) - self.contracted
        batch = len(numbers["lhs_batch"])
        rows = len(lhs.shape) - batch - self.contracted
        self._rows, self._columns = list(range(batch, batch + rows)), list(range(batch + rows, rank))
        free_lhs = iter(axes[batch : batch + rows])
        free_rhs = iter(axes[batch + rows : rank])
        a_value, a = self._operand(lhs, numbers["lhs_batch"], numbers["lhs_contract"], free_lhs, axes[rank:])
        b_value, b = self._operand(rhs, numbers["rhs_batch"], numbers["rhs_contract"], free_rhs, axes[rank:])
        c = affine(0)
        for axis, stride in zip(axes, _strides(self.dims[:rank]), strict=False):
            c = c + axis * stride
        self.result_offset = c
        self.accesses = [a, b, c, *_epilogue_offsets(body, self.dot)]
        if self._count(self._columns) == 1 < self._count(self._rows):
            # One column: the transposed product has one row, and its columns are contiguous in the result.
            self._rows, self._columns = self._columns, self._rows
            a, b, a_value, b_value = b, a, b_value, a_value
        self.lhs, self.rhs = _pointer(a_value, a), _pointer(b_value, b)
        self.lhs_step, self.rhs_step = _of(a, self.block_axis), _of(b, self.block_axis)
        self.itemsize = self.dot.result.dtype.itemsize
        self._cut(a, b, c, list(range(batch)), list(range(rank, len(self.extents))))

    def result_step(self, axis: int) -> int:
        """Elements from one index of a result's axis to the next."""
        return _of(self.result_offset, axis)

    def _operand(
        self, value: Value, batch: Sequence[int], contract: Sequence[int], free: object, k: Sequence[Affine]
    ) -> tuple[Value, Affine]:
        index: list[Affine] = []
        batch_axes = axes_of(len(batch))
        for axis in range(len(value.shape)):
            if axis in batch:
                index.append(batch_axes[batch.index(axis)])
            elif axis in contract:
                index.append(k[contract.index(axis)])
            else:
                index.append(next(free))  # type: ignore[call-overload]
        return _fold(value, tuple(index))

    def _count(self, axes: Sequence[int]) -> int:
        count = 1
        for axis in axes:
            count *= self.extents[axis]
        return count

    def _cut(self, a: Affine, b: Affine, c: Affine, batch: list[int], contracted: list[int]) -> None:
        """Rows and columns are the innermost axes that all accesses walk as one; the outer ones become batch loops."""
        outer_rows, self.row = self._innermost(self._rows)
        outer_columns, self.column = self._innermost(self._columns)
        self.batch = [*batch, *outer_rows, *outer_columns]
        row, column = self._inner(self.row), self._inner(self.column)
        self.spec = GemmSpec(
            m=self.row.extent,
            n=self.column.extent,
            k=tuple((self.extents[x], _of(a, x), _of(b, x)) for x in contracted) or ((1, 0, 0),),
            a_row_stride=_of(a, row),
            b_col_stride=_of(b, column) if column is not None else 1,
            c_row_stride=_of(c, row) if row is not None else self._count(self._columns),
            dtype=self.dot.result.dtype,
            batch=tuple((self.extents[x], _of(a, x), _of(b, x), _of(c, x)) for x in self.batch),
        )

    def _innermost(self, axes: Sequence[int]) -> tuple[list[int], _Loop]:
        """Outer axes, and the loop over the inner ones."""
        live = [x for x in axes if self.extents[x] != 1]
        loop = _Loop((), 1)
        while live:
            outer = live[-1]
            inner = loop.axes[0] if loop.axes else None
            if inner is not None and any(_of(x, outer) != loop.extent * _of(x, loop.axes[-1]) for x in self.accesses):
                break
            loop = _Loop((outer, *loop.axes), loop.extent * self.extents[outer])
            live.pop()
        return live, loop

    def _inner(self, loop: _Loop) -> int | None:
        return loop.axes[-1] if loop.axes else None

    def coefficients(self, offset: Affine) -> tuple[int, int, list[int], int]:
        """An offset as factors of row, column and each batch index, and a constant."""
        row, column = _of(offset, self._inner(self.row)), _of(offset, self._inner(self.column))
        return row, column, [_of(offset, x) for x in self.batch], _static(offset.offset)


def _of(offset: Affine, axis: int | None) -> int:
    return 0 if axis is None else _static(offset.coefficient(axis))


def _pointer(value: Value, offset: Affine) -> Argument:
    return Argument("operand", value.node.attrs["index"], _static(offset.offset) * value.dtype.itemsize)


def _epilogue_offsets(body: Graph, dot: Node) -> list[Affine]:
    """The offsets of all loads that the epilogue makes, over the result's axes."""
    found: list[Affine] = []
    stack: list[tuple[Value, Index]] = [(v, _place_of(v, dot)) for v in body.outputs]
    seen = set(stack)
    while stack:
        value, index = stack.pop()
        if value.node is dot or is_scalar_constant(value):
            continue
        if value.node.op.name == "input":
            found.append(_fold(value, index)[1])
            continue
        for following in _following(value.node, index):
            if following not in seen:
                seen.add(following)
                stack.append(following)
    return found


def _place_of(value: Value, dot: Node) -> Index:
    """Where the element of a value is that belongs to an accumulator: their dimensions are the same but for unit ones."""
    axes = iter([a for a, d in zip(axes_of(len(dot.result.shape)), dot.result.shape, strict=True) if d != 1])
    return tuple(affine(0) if d == 1 else next(axes) for d in value.shape)


def _following(node: Node, index: Index) -> list[tuple[Value, Index]]:
    """What a node of the epilogue reads when it is asked at `index`."""
    if isinstance(node.op, Movement):
        (source,) = sources_at(node, index)
        return [(node.operands[source.operand], tuple(affine(x) for x in source.index))]
    if not isinstance(node.op, Elementwise):
        raise CompileError(f"an epilogue cannot hold {node.op.name}")
    return [(v, index) for v in node.operands]


class _Epilogue:
    """Emits the elementwise rest of a body on one vector of accumulators."""

    def __init__(self, body: Graph, product_: _Product) -> None:
        self.body = body
        self.product = product_
        self.computed = [n for n in body.nodes if isinstance(n.op, Elementwise)]

    def operations(self) -> int:
        return len(self.computed)

    def heavy(self) -> bool:
        return any(n.op.heavy for n in self.computed if isinstance(n.op, Elementwise))

    def arguments(self) -> list[Argument]:
        """Further pointers: all operands, then all results."""
        operands = [Argument("operand", i) for i in range(len(self.body.inputs))]
        return operands + [Argument("result", i) for i in range(len(self.body.outputs))]

    def emit(
        self, s: Vectors, accumulator: Vec, row: str, column: str, batch: tuple[str, ...], mask: Vec | None
    ) -> None:
        """The callback of `emit_gemm`: all loads and operations, then all stores."""
        place = _Place(s, self.product, (row, column, *batch), mask)
        dot = self.product.dot
        computed = self._compute(place, accumulator)
        for i, output in enumerate(self.body.outputs):
            pointer = f"%e{len(self.body.inputs) + i}"
            place.store(computed[output, _place_of(output, dot)], pointer, self.product.result_offset)

    def _compute(self, place: _Place, accumulator: Vec) -> dict[tuple[Value, Index], Vec]:
        dot = self.product.dot
        done: dict[tuple[Value, Index], Vec] = {(dot.result, _place_of(dot.result, dot)): accumulator}
        stack: list[tuple[Value, Index]] = [(v, _place_of(v, dot)) for v in self.body.outputs]
        while stack:
            key = stack[-1]
            value, index = key
            if key in done:
                stack.pop()
                continue
            node = value.node
            if node.op.name == "input":
                done[key] = place.load(f"%e{node.attrs['index']}", value.dtype, _fold(value, index)[1])
            elif is_scalar_constant(value):
                done[key] = place.vectors.const(value.dtype, node.attrs["value"].array.item())
            else:
                following = _following(node, index)
                missing = [f for f in following if f not in done]
                if missing:
                    stack.extend(missing)
                    continue
                operands = [done[f] for f in following]
                op = node.op
                done[key] = (
                    op.scalar(place.vectors, *operands, **node.attrs) if isinstance(op, Elementwise) else operands[0]
                )
            stack.pop()
        return done


class _Place:
    """Memory at the accumulators' place: offsets are expressions over the result's axes."""

    def __init__(self, s: Vectors, product_: _Product, indices: tuple[str, ...], mask: Vec | None) -> None:
        self.vectors = s
        self.product = product_
        self.indices = indices
        self.mask = mask

    def _address(self, pointer: str, dtype: DType, offset: Affine) -> tuple[str, int]:
        """The first lane's address and the step from lane to lane."""
        f = self.vectors.function
        row, column, batch, constant = self.product.coefficients(offset)
        total = str(constant)
        terms = [*zip(self.indices, (row, column, *batch), strict=True)]
        if self.product.block_axis is not None:
            terms.append(("%first", _of(offset, self.product.block_axis)))
        for name, factor in terms:
            if factor == 0 or name == "0":
                continue
            term = name if factor == 1 else f.emit(f"mul i64 {name}, {factor}")
            total = term if total == "0" else f.emit(f"add i64 {total}, {term}")
        element = f"i{8 * dtype.itemsize}"
        return pointer if total == "0" else f.emit(f"getelementptr {element}, ptr {pointer}, i64 {total}"), column

    def load(self, pointer: str, dtype: DType, offset: Affine) -> Vec:
        s = self.vectors
        address, step = self._address(pointer, dtype, offset)
        if step == 1:
            return s.load(address, dtype, mask=self.mask)
        if step == 0:
            return s.splat(_load_scalar(s, address, dtype), dtype)
        lanes = s.mul(s.iota(int64), s.const(int64, step))
        return s.gather(address, lanes, dtype, mask=self.mask)

    def store(self, x: Vec, pointer: str, offset: Affine) -> None:
        address, step = self._address(pointer, x.dtype, offset)
        if step in (0, 1):  # 0: there is one column only
            self.vectors.store(x, address, mask=self.mask)
        else:
            lanes = self.vectors.mul(self.vectors.iota(int64), self.vectors.const(int64, step))
            self.vectors.scatter(x, address, lanes, mask=self.mask)


def _load_scalar(s: Vectors, address: str, dtype: DType) -> str:
    """One element as an SSA scalar."""
    one = Vectors(s.function, 1, contract=s.contract, features=s.features)
    return one.load(address, dtype).text

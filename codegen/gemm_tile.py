"""The micro-kernels of matrix products: register tiles, dot products along k, and the epilogue over finished values. Layer 4.

Each function here writes one LLVM function. Sizes of tiles and all strides but one are constants; pointers point at the
tile's first element already. A tile's accumulators are phis of the innermost k loop, which is not unrolled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphc.codegen.gemm_plan import KLoop, fuses
from graphc.codegen.gemm_text import add, advance, counted, element, lanes_below, multiply_add, when
from graphc.codegen.text import Function, Phi
from graphc.codegen.vectors import Vec, Vectors, constant_mask
from graphc.dtypes import DType

__all__ = ["Epilogue", "Kernel", "TileShape", "emit_dots", "emit_epilogue", "emit_tile"]

#: Called with (vectors, accumulator, row, first column, batch indices, mask or None): computes and stores what it likes.
Epilogue = Callable[[Vectors, Vec, str, str, tuple[str, ...], "Vec | None"], None]


#: Pointers into A and B, and the accumulators.
_State = tuple[str, str, list[Vec]]


@dataclass(frozen=True, slots=True)
class TileShape:
    """Rows, vectors a row, and how many lanes of the last vector count (0: all)."""

    rows: int
    vectors: int
    remainder: int = 0


@dataclass(frozen=True, slots=True)
class Kernel:
    """What all functions of one product have in common.

    `levels` are the k loops with the strides that the kernel sees (B may be packed); `extra` and `batch` are parameter texts
    (`ptr %e0`, `i64 %batch0`) handed through to epilogues; `merged` and `m` take a row apart into batch indices and row.
    """

    dtype: DType
    lanes: int
    levels: tuple[KLoop, ...]
    a_row_stride: int
    b_col_stride: int
    out_stride: int
    initial: bool
    masked_b: bool
    epilogue: Epilogue | None
    batch: tuple[str, ...]
    extra: tuple[str, ...]
    m: int
    merged: tuple[int, ...]
    contract: bool
    features: frozenset[str]

    @property
    def fused(self) -> bool:
        """Whether products are added by a fused instruction."""
        return self.contract and fuses(self.dtype, self.features)

    def vectors(self, f: Function, lanes: int | None = None) -> Vectors:
        return Vectors(f, lanes or self.lanes, contract=self.contract, features=self.features)

    @property
    def inputs(self) -> list[str]:
        """Parameters of every micro-kernel. `%k` is the number of iterations of the outermost k loop."""
        return ["ptr %a", "ptr %b", *(["ptr %init", "i64 %init_stride"] if self.initial else []), "ptr %out", "i64 %k"]

    @property
    def place(self) -> list[str]:
        """Parameters that an epilogue needs: C's own base, where the tile is, and the caller's extra parameters."""
        return ["ptr %c", "i64 %row", "i64 %col", *self.batch, *self.extra]


def emit_tile(name: str, shape: TileShape, kernel: Kernel, *, inline: bool) -> Function:
    """`out[r, j] = init[r, j] + sum over k of a[r, k] * b[k, j]` on one register tile, or the epilogue in place of `out`."""
    f = Function("void", name, kernel.inputs + (kernel.place if inline else []))
    vectors = kernel.vectors(f)
    masks: list[Vec | None] = [None] * shape.vectors
    if shape.remainder:
        masks[-1] = constant_mask(kernel.lanes, shape.remainder)
    start = _initial_tile(vectors, shape, kernel, masks)

    def step(a: str, b: str, accumulators: list[Vec]) -> list[Vec]:
        b_masks = masks if kernel.masked_b else [None] * shape.vectors
        columns = [
            vectors.load(advance(f, b, kernel.dtype, (str(v * kernel.lanes), 1)), kernel.dtype, mask=mask)
            for v, mask in enumerate(b_masks)
        ]
        result = []
        for r in range(shape.rows):
            x = _splat_load(vectors, advance(f, a, kernel.dtype, (str(r), kernel.a_row_stride)), kernel.dtype)
            for v, column in enumerate(columns):
                accumulator = accumulators[r * shape.vectors + v]
                result.append(multiply_add(vectors, x, column, accumulator, fused=kernel.fused))
        return result

    finished = _k_loops(vectors, kernel.levels, "%k", ("%a", "%b", start), step)
    for r in range(shape.rows):
        row, batch = place_row(f, kernel, add(f, "%row", str(r))) if inline else ("", ())
        for v in range(shape.vectors):
            value, mask, first = finished[r * shape.vectors + v], masks[v], v * kernel.lanes
            if inline:
                assert kernel.epilogue is not None
                kernel.epilogue(vectors, value, row, add(f, "%col", str(first)), batch, mask)
            else:
                where = advance(f, "%out", kernel.dtype, (str(r), kernel.out_stride), (str(first), 1))
                vectors.store(value, where, mask=mask)
    return f


def place_row(f: Function, kernel: Kernel, row: str) -> tuple[str, tuple[str, ...]]:
    """The row within its matrix, and all batch indices, of a row that may run through merged batch loops."""
    batch = tuple(text.split()[-1] for text in kernel.batch)
    inner: list[str] = []
    sizes = (*kernel.merged, kernel.m)
    for size in sizes[:0:-1]:
        if not row.startswith("%"):
            inner.insert(0, str(int(row) % size))
            row = str(int(row) // size)
        else:
            inner.insert(0, f.emit(f"urem i64 {row}, {size}"))
            row = f.emit(f"udiv i64 {row}, {size}")
    if not kernel.merged:
        return row, batch
    return inner[-1], (*batch, row, *inner[:-1])


def _initial_tile(vectors: Vectors, shape: TileShape, kernel: Kernel, masks: list[Vec | None]) -> list[Vec]:
    if not kernel.initial:
        return [vectors.const(kernel.dtype, 0)] * (shape.rows * shape.vectors)
    f, result, row = vectors.function, [], "%init"
    for r in range(shape.rows):
        if r:
            row = f.emit(f"getelementptr {element(kernel.dtype)}, ptr {row}, i64 %init_stride")
        for v, mask in enumerate(masks):
            result.append(
                vectors.load(advance(f, row, kernel.dtype, (str(v * kernel.lanes), 1)), kernel.dtype, mask=mask)
            )
    return result


def _splat_load(vectors: Vectors, pointer: str, dtype: DType) -> Vec:
    scalar = vectors.function.emit(f"load {element(dtype)}, ptr {pointer}, align {dtype.itemsize}")
    return vectors.splat(scalar, dtype)


def _k_loops(
    vectors: Vectors,
    levels: tuple[KLoop, ...],
    count: str,
    start: _State,
    step: Callable[[str, str, list[Vec]], list[Vec]],
) -> list[Vec]:
    """Nested loops over k around `step(a, b, accumulators)`; the outermost runs `count` (at least 1) times."""
    a, b, accumulators = start
    if not levels:
        return step(a, b, accumulators)
    f = vectors.function
    _, a_stride, b_stride = levels[0]
    dtype = accumulators[0].dtype
    header = f.loop_header("k")
    left, a_here, b_here = f.phi("i64", count), f.phi("ptr", a), f.phi("ptr", b)
    carried: list[Phi] = [f.phi(vectors.type(dtype), x.text) for x in accumulators]
    inner = _k_loops(
        vectors,
        levels[1:],
        str(levels[1][0]) if len(levels) > 1 else "",
        (a_here.name, b_here.name, [Vec(phi.name, dtype) for phi in carried]),
        step,
    )
    following = f.emit(f"add i64 {left.name}, -1")
    left.add(following, f.block)
    a_here.add(advance(f, a_here.name, dtype, ("1", a_stride)), f.block)
    b_here.add(advance(f, b_here.name, dtype, ("1", b_stride)), f.block)
    for phi, x in zip(carried, inner, strict=True):
        phi.add(x.text, f.block)
    again, done = f.emit(f"icmp ne i64 {following}, 0"), f.label("k_end")
    f.branch_if(again, header, done)
    f.start(done)
    return inner


def emit_dots(name: str, rows: int, columns: int, kernel: Kernel) -> Function:
    """`out[r, j] = init[r, j] + fold of a[r, :] * b[:, j]`, lane by lane along k (see `gemm_plan` for the order)."""
    f = Function("void", name, kernel.inputs)
    vectors = kernel.vectors(f)
    dtype, lanes = kernel.dtype, kernel.lanes
    extent = kernel.levels[-1][0]

    def products(a: str, b: str, accumulators: list[Vec], mask: Vec | None) -> list[Vec]:
        """One vector of k from every row and column."""
        pairs = (
            [(a, r, kernel.a_row_stride) for r in range(rows)],
            [(b, j, kernel.b_col_stride) for j in range(columns)],
        )
        left, right = (
            [vectors.load(advance(f, p, dtype, (str(i), stride)), dtype, mask=mask) for p, i, stride in side]
            for side in pairs
        )
        return [
            multiply_add(vectors, x, y, accumulators[r * columns + j], fused=kernel.fused)
            for r, x in enumerate(left)
            for j, y in enumerate(right)
        ]

    def run(a: str, b: str, accumulators: list[Vec]) -> list[Vec]:
        """The whole innermost loop: full vectors, then the masked rest."""
        full, rest = divmod(extent, lanes)
        if full:
            along = ((full, lanes, lanes),)
            accumulators = _k_loops(
                vectors, along, str(full), (a, b, accumulators), lambda x, y, acc: products(x, y, acc, None)
            )
        if rest:
            a, b = (advance(f, p, dtype, (str(full * lanes), 1)) for p in (a, b))
            accumulators = products(a, b, accumulators, constant_mask(lanes, rest))
        return accumulators

    zeros = [vectors.const(dtype, 0)] * (rows * columns)
    finished = _k_loops(vectors, kernel.levels[:-1], "%k", ("%a", "%b", zeros), run)
    for r in range(rows):
        init_row = _run_time_row(f, dtype, r) if kernel.initial else ""
        for j in range(columns):
            value = _fold(kernel, f, finished[r * columns + j])
            scalar = kernel.vectors(f, 1)
            if kernel.initial:
                value = scalar.add(scalar.load(advance(f, init_row, dtype, (str(j), 1)), dtype), value)
            scalar.store(value, advance(f, "%out", dtype, (str(r), kernel.out_stride), (str(j), 1)))
    return f


def _run_time_row(f: Function, dtype: DType, row: int) -> str:
    offset = f.emit(f"mul i64 %init_stride, {row}")
    return f.emit(f"getelementptr {element(dtype)}, ptr %init, i64 {offset}")


def _fold(kernel: Kernel, f: Function, x: Vec) -> Vec:
    """The sum of all lanes, by halving distance: lane i and lane i + half, then on with half as many."""
    lanes = kernel.lanes
    while lanes > 1:
        half, type_ = lanes // 2, f"<{lanes} x {element(x.dtype)}>"
        halves = []
        for start in (0, half):
            picked = ", ".join(f"i32 {i}" for i in range(start, start + half))
            halves.append(f.emit(f"shufflevector {type_} {x.text}, {type_} poison, <{half} x i32> <{picked}>"))
        if half == 1:
            one = f"<1 x {element(x.dtype)}>"
            halves = [f.emit(f"extractelement {one} {text}, i64 0") for text in halves]
        # Never contracted: the fold is additions only.
        low, high = (Vec(text, x.dtype) for text in halves)
        x = Vectors(f, half, contract=False).add(low, high)
        lanes = half
    return x


def emit_epilogue(name: str, kernel: Kernel, *, columns_total: int) -> Function:
    """Run the epilogue over `%rows` x `%count` finished values, read from `%source` with run-time row stride.

    Used where the tiles do not run it themselves: k in blocks, dot products, no products at all, or a body too large to
    be repeated for every accumulator.
    """
    parameters = ["ptr %source", "i64 %source_stride", "i64 %rows", "i64 %count", *kernel.place]
    f = Function("void", name, parameters)
    vectors, dtype, lanes = kernel.vectors(f), kernel.dtype, kernel.lanes
    epilogue = kernel.epilogue
    assert epilogue is not None
    shift = lanes.bit_length() - 1
    full = f.emit(f"lshr i64 %count, {shift}") if columns_total >= lanes else "0"
    rest = f.emit(f"and i64 %count, {lanes - 1}") if columns_total % lanes else "0"

    def one_row(r: str) -> None:
        offset = f.emit(f"mul i64 {r}, %source_stride")
        source = f.emit(f"getelementptr {element(dtype)}, ptr %source, i64 {offset}")
        row, batch = place_row(f, kernel, add(f, "%row", r))

        def one_vector(v: str) -> None:
            column = f.emit(f"shl i64 {v}, {shift}") if v.startswith("%") else str(int(v) << shift)
            value = vectors.load(advance(f, source, dtype, (column, 1)), dtype)
            epilogue(vectors, value, row, add(f, "%col", column), batch, None)

        def last_vector() -> None:
            column = f.emit(f"sub i64 %count, {rest}")
            mask = lanes_below(vectors, rest)
            value = vectors.load(advance(f, source, dtype, (column, 1)), dtype, mask=mask)
            epilogue(vectors, value, row, add(f, "%col", column), batch, mask)

        if full != "0":
            when(f, f.emit(f"icmp ne i64 {full}, 0"), "full", lambda: counted(f, full, "vector", one_vector))
        if rest != "0":
            when(f, f.emit(f"icmp ne i64 {rest}, 0"), "rest", last_vector)

    counted(f, "%rows", "row", one_row)
    return f

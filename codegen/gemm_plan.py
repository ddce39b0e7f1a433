"""What a matrix product is and how it is cut: `GemmSpec`, its normal form, and the `Plan` that schedules it. Layer 4.

A plan holds decisions only (tile sizes, blocks of k, packing, scratch layout); `gemm` writes them as LLVM text.

Invariant: the order of summation does not depend on a plan's tile sizes, on k blocks, on packing or on the target.
It is one of two, chosen from sizes, strides and dtype alone:

- *tiles*: each element of C is one chain over k in increasing order, beginning with its initial value (+0.0 without
  one). A k block stores the chain's value and the next one goes on from it.
- *dots*, where C has few rows or few columns and the larger operand is contiguous along k: element k of the innermost
  loop goes to lane k mod (64 / itemsize), each lane is one chain over k beginning with +0.0, lanes are folded by
  halving distance, and the fold is added to the initial value.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from graphc.dtypes import DType
from graphc.target import Target

__all__ = ["GemmSpec", "KLoop", "Plan", "Split", "canonical", "fuses", "make_plan", "swapped"]

#: One loop over k: extent, stride in A, stride in B.
KLoop = tuple[int, int, int]

#: C with at most this many rows (or columns) is computed by dot products along k where the operands allow it.
DOT_EDGE = 4
#: Below this depth folding the lanes costs more than the dot products save.
DOT_DEPTH = 32
#: Rows from which copying B into panels pays where B exceeds the second cache.
COPY_ROWS = 512
#: The same for vectors shorter than a cache line, whatever B's size: their narrow panels are not prefetched in place.
COPY_ROWS_NARROW = 64
#: Aim for the length of a block of k.
K_BLOCK = 512
#: Vectors of a tile with one row: wider strips of B gain nothing, memory is the limit.
ROW_VECTORS = 8


@dataclass(frozen=True, slots=True)
class GemmSpec:
    """`C[b.., i, j] = init + sum over k.. of A[b.., i, k..] * B[b.., k.., j]`, all strides in elements.

    C has unit column stride. Strides of A and B may be any integers, 0 (broadcast) included, so every transpose of A and
    B is a matter of strides. `k` lists the nested loops over k, outermost first; `batch` the outer loops as (extent,
    stride in A, in B, in C).
    """

    m: int
    n: int
    k: tuple[KLoop, ...]
    a_row_stride: int
    b_col_stride: int
    c_row_stride: int
    dtype: DType
    batch: tuple[tuple[int, int, int, int], ...] = ()

    @property
    def depth(self) -> int:
        """Products per element of C."""
        return prod(extent for extent, _, _ in self.k)

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.m * self.n * self.depth * prod(b[0] for b in self.batch)


def swapped(spec: GemmSpec) -> GemmSpec:
    """The product with A and B exchanged, for C with one column: C^T = B^T A^T, whose single row has unit stride.

    Callers with an epilogue should ask for this form themselves when `n == 1`, since the epilogue's columns are then C's rows.
    """
    if spec.n != 1 or spec.c_row_stride != 1:
        raise ValueError("only a contiguous single column can be swapped")
    return replace(
        spec,
        m=1,
        n=spec.m,
        k=tuple((extent, b, a) for extent, a, b in spec.k),
        a_row_stride=spec.b_col_stride,
        b_col_stride=spec.a_row_stride,
        c_row_stride=spec.m,
        batch=tuple((extent, b, a, c) for extent, a, b, c in spec.batch),
    )


def _collapse(loops: tuple[KLoop, ...]) -> tuple[KLoop, ...]:
    """Drop loops of one iteration and join neighbours that are one loop in both operands; at least one loop stays."""
    result: list[KLoop] = []
    for extent, a, b in loops:
        if extent == 1:
            continue
        if result and result[-1][1] == extent * a and result[-1][2] == extent * b:
            result[-1] = (result[-1][0] * extent, a, b)
        else:
            result.append((extent, a, b))
    return tuple(result) or ((1, 1, 1),)


def canonical(spec: GemmSpec) -> GemmSpec:
    """The same product with joined k loops and with strides that do not matter set to what suits the kernels."""
    return replace(
        spec,
        k=_collapse(spec.k),
        a_row_stride=0 if spec.m == 1 else spec.a_row_stride,
        b_col_stride=1 if spec.n == 1 else spec.b_col_stride,
    )


@dataclass(frozen=True, slots=True)
class Part:
    """`count` equal blocks of `size`, the first at `start`."""

    size: int
    count: int
    start: int


@dataclass(frozen=True, slots=True)
class Split:
    """`total` cut evenly into blocks of at most `block`: sizes differ by one at most, so there is never a tiny tail."""

    total: int
    block: int

    @property
    def count(self) -> int:
        return -(-self.total // self.block)

    @property
    def largest(self) -> int:
        return -(-self.total // self.count)

    def parts(self) -> tuple[Part, ...]:
        """The larger blocks, then the smaller ones."""
        small, larger = divmod(self.total, self.count)
        found = (Part(small + 1, larger, 0), Part(small, self.count - larger, larger * (small + 1)))
        return tuple(part for part in found if part.count)


@dataclass(frozen=True, slots=True)
class Plan:
    """The schedule of one product.

    Attributes
    ----------
    method
        `empty` (nothing to do), `fill` (no products: initial values or zeros), `tiles`, `dots`.
    spec
        The product as it is computed: canonical, batch loops merged into rows where possible, perhaps swapped.
    merged
        Extents of the innermost batch loops that became rows, outermost first; a row is then `(.. * merged) * m + i`.
    swap
        Whether `spec` has A and B exchanged.
    lanes
        Lanes of the tiles' vectors (for `dots`: of the virtual 64-byte vectors).
    rows, columns
        How rows, and columns counted in vectors (`dots`: in elements), are cut.
    pack
        How B reaches the tiles: `none`, `copy`, `transpose`, `move` (any strides, element by element).
    pack_a, a_stride
        Whether A is copied first so that its rows are contiguous along k, and their distance (copied or not).
    k_block
        Iterations of the outermost k loop per block; equal to its extent when k is not blocked.
    k_outer
        Whether k blocks are the outermost loop (otherwise panels of columns are).
    rows_outer
        Whether rows are the outer and panels the inner loop (no packing, no k blocks).
    inline
        Whether the epilogue is written into the tiles (otherwise into a function that reads finished values from memory).
    partial
        Whether finished or half-finished values are held in scratch instead of C.
    partial_stride, partial_bytes, panel_bytes, zero_bytes, side_bytes
        The scratch block, in this order: held values, packed B panel, a row of zeros, copied operands.
    """

    method: str
    spec: GemmSpec
    merged: tuple[int, ...] = ()
    swap: bool = False
    lanes: int = 1
    rows: Split = Split(1, 1)
    columns: Split = Split(1, 1)
    pack: str = "none"
    pack_a: bool = False
    a_stride: int = 0
    k_block: int = 1
    k_outer: bool = False
    rows_outer: bool = False
    inline: bool = False
    partial: bool = False
    partial_stride: int = 0
    partial_bytes: int = 0
    panel_bytes: int = 0
    zero_bytes: int = 0
    side_bytes: int = 0

    @property
    def scratch_bytes(self) -> int:
        return self.partial_bytes + self.panel_bytes + self.zero_bytes + self.side_bytes

    @property
    def blocked(self) -> bool:
        """Whether k is cut into blocks."""
        return self.k_block < self.spec.k[0][0]

    def __str__(self) -> str:
        s = self.spec
        head = f"{self.method} {s.m}x{s.depth}x{s.n} {s.dtype}"
        if self.method not in ("tiles", "dots"):
            return head
        shape = f"{self.rows.largest}x{self.columns.largest * (self.lanes if self.method == 'tiles' else 1)}"
        notes = (
            [f"pack={self.pack}"] * (self.pack != "none")
            + ["pack_a"] * self.pack_a
            + [f"k_block={self.k_block}"] * self.blocked
        )
        notes += [name for name in ("swap", "k_outer", "rows_outer", "inline", "partial") if getattr(self, name)]
        return " ".join([head, shape, *notes])


def _round(size: int, unit: int = 64) -> int:
    return -(-size // unit) * unit


def _merge_batch(spec: GemmSpec, *, stores_c: bool) -> tuple[GemmSpec, tuple[int, ...]]:
    """Make innermost batch loops over one shared B into rows, where A (and C, if the kernel itself touches it) allows it."""
    merged: list[int] = []
    while spec.batch and spec.m:
        extent, a, b, c = spec.batch[-1]
        if extent == 1:
            merged.insert(0, 1)
            spec = replace(spec, batch=spec.batch[:-1])
            continue
        fits = b == 0 and (spec.m == 1 or a == spec.m * spec.a_row_stride)
        if not fits or (stores_c and c != spec.m * spec.c_row_stride and spec.m > 1):
            break
        merged.insert(0, extent)
        spec = replace(
            spec,
            batch=spec.batch[:-1],
            m=spec.m * extent,
            a_row_stride=a if spec.m == 1 else spec.a_row_stride,
            c_row_stride=c if spec.m == 1 else spec.c_row_stride,
        )
    return spec, tuple(merged)


def fuses(dtype: DType, features: frozenset[str]) -> bool:
    """Whether the target multiplies and adds in one instruction."""
    return dtype.is_float and not features.isdisjoint({"fma", "avx512f", "neon"})


def _tile_shapes(registers: int) -> list[tuple[int, int]]:
    """Largest (rows, vectors) whose accumulators, vectors of B and one element of A fit the registers.

    With one row or one vector each operand is used once and comes straight from memory, so only accumulators count.
    """
    limit = registers - 4
    shapes = [(1, vectors) for vectors in range(1, ROW_VECTORS + 1)]
    for vectors in range(1, 7):
        rows = min((registers - 1 - vectors) // vectors, 14 if vectors > 1 else limit)
        shapes += [(r, vectors) for r in range(2, rows + 1)]
    return shapes


def _tile_cost(rows: Split, columns: Split, depth: int) -> float:
    """Estimated cycles of all tiles: per k the larger of arithmetic, loads and latency, and per tile a fixed part."""
    cost = 0.0
    for row in rows.parts():
        for column in columns.parts():
            r, v = row.size, column.size
            per_k = max(r * v, 8.0) + 0.1 * r + 0.3 * v
            cost += row.count * column.count * (depth * per_k + 25.0 + 2.0 * r * v)
    variants = len(rows.parts()) * len(columns.parts())
    return cost * (1.0 + 0.02 * variants)


def _choose_tile(spec: GemmSpec, lanes: int, registers: int) -> tuple[Split, Split]:
    """The cheapest even cut into register tiles.

    Where products cannot be added by one instruction, one more register holds the product.
    """
    vectors = -(-spec.n // lanes)
    size = spec.dtype.itemsize
    # More than eight rows a power of two apart fall into one set of the first cache.
    most = 8 if spec.a_row_stride * size % 2048 == 0 and spec.m > 1 else registers
    cuts = {
        (Split(spec.m, min(r, spec.m)), Split(vectors, min(v, vectors)))
        for r, v in _tile_shapes(registers)
        if r <= most
    }
    return min(cuts, key=lambda cut: (_tile_cost(cut[0], cut[1], spec.depth), cut[0].block, cut[1].block))


def _wants_dots(spec: GemmSpec) -> bool:
    """Whether C is computed by dot products along k; sizes, strides and dtype alone decide (see the module's invariant)."""
    extent, a, b = spec.k[-1]
    if extent < DOT_DEPTH:
        return False
    few_rows = spec.m <= DOT_EDGE and spec.b_col_stride != 1 and b == 1
    few_columns = spec.n <= DOT_EDGE and a == 1 and (spec.m > 1 or b == 1)
    return few_rows or few_columns


def _plan_dots(plan: Plan, target: Target, *, held: bool) -> Plan:
    spec = plan.spec
    _, a, b = spec.k[-1]
    # 64-byte vectors are two or four registers on narrower targets; half of the registers hold accumulators.
    limit = max(1, min(12, target.vector_registers * target.vector_bytes // 128))
    if spec.m <= DOT_EDGE:
        rows = min(spec.m, limit)
        columns = min(spec.n, max(1, min(8, limit // rows)))
    else:
        columns = min(spec.n, limit)
        rows = min(spec.m, max(1, min(8, limit // columns)))
    size = spec.dtype.itemsize
    pack_a, pack_b = a != 1, b != 1
    stride = _round(spec.n * size) // size
    return replace(
        plan,
        method="dots",
        lanes=64 // size,
        rows=Split(spec.m, rows),
        columns=Split(spec.n, columns),
        pack="move" if pack_b else "none",
        pack_a=pack_a,
        a_stride=spec.depth if pack_a else spec.a_row_stride,
        k_block=spec.k[0][0],
        partial=held,
        partial_stride=stride,
        partial_bytes=stride * spec.m * size if held else 0,
        side_bytes=_round(
            spec.depth * size * (spec.m if pack_a else 0) + spec.depth * size * (spec.n if pack_b else 0)
        ),
    )


def _wants_packed_a(spec: GemmSpec, lanes: int, target: Target) -> bool:
    """Whether a large transposed A is turned round first: in place, each step along k is a line, or a page, of its own."""
    large = spec.m * spec.depth * spec.dtype.itemsize > target.l2_bytes and spec.depth >= 256
    return spec.a_row_stride == 1 and spec.k[-1][1] != 1 and large and spec.n >= 8 * lanes and spec.m > DOT_EDGE


def _k_block(spec: GemmSpec, aim: int) -> int:
    """Iterations of the outermost k loop per block of about `aim` products, evenly cut."""
    inner = spec.depth // spec.k[0][0]
    return Split(spec.k[0][0], max(1, aim // inner)).largest


def _plan_tiles(plan: Plan, target: Target, *, epilogue: bool, heavy: bool) -> Plan:
    spec = plan.spec
    size = spec.dtype.itemsize
    lanes = max(1, target.vector_bytes // size)
    pack_a = _wants_packed_a(spec, lanes, target)
    # Rows an odd number of cache lines apart spread over all sets; runs along k are written in whole vectors.
    a_stride = (_round((spec.depth + lanes - 1) * size) // 64 | 1) * 64 // size
    seen = replace(spec, a_row_stride=a_stride) if pack_a else spec
    rows, columns = _choose_tile(seen, lanes, target.vector_registers - (not fuses(spec.dtype, target.features)))
    width = columns.largest * lanes
    k_block = spec.k[0][0]
    b_bytes = spec.depth * spec.n * size
    if spec.b_col_stride != 1:
        pack = "transpose" if spec.k[-1][2] == 1 and spec.k[-1][0] >= lanes // 2 else "move"
    else:
        narrow = target.vector_bytes < 64 and spec.m >= COPY_ROWS_NARROW
        pack = "copy" if narrow or (spec.m >= COPY_ROWS and b_bytes > target.l2_bytes) else "none"
    if rows.count >= 4 and spec.depth * width * size > target.l2_bytes * 3 // 8:
        k_block = _k_block(spec, K_BLOCK)
    blocked = k_block < spec.k[0][0]
    inline = epilogue and not heavy and not blocked
    partial = epilogue and not inline
    # Without k blocks a tile's values are consumed at once; with them a whole panel's have to wait.
    held = 0 if not partial else (spec.m if blocked else rows.largest) * width * size
    # Transposing writes whole vectors of k, beyond the end of each run.
    padded = k_block * (spec.depth // spec.k[0][0]) + (lanes - 1 if pack == "transpose" else 0)
    a_bytes = spec.m * spec.depth * size
    return replace(
        plan,
        method="tiles",
        lanes=lanes,
        rows=rows,
        columns=columns,
        pack=pack,
        pack_a=pack_a,
        a_stride=a_stride if pack_a else spec.a_row_stride,
        k_block=k_block,
        k_outer=blocked and not epilogue,
        rows_outer=pack == "none" and not blocked and b_bytes <= target.l2_bytes // 2 < a_bytes,
        inline=inline,
        partial=partial,
        partial_stride=width,
        partial_bytes=_round(held),
        panel_bytes=_round(padded * width * size) if pack != "none" else 0,
        zero_bytes=_round(width * size) if blocked else 0,
        side_bytes=_round(spec.m, lanes) * a_stride * size if pack_a else 0,
    )


def make_plan(
    spec: GemmSpec, target: Target, *, initial: bool = False, epilogue: bool = False, heavy_epilogue: bool = False
) -> Plan:
    """Schedule a product; the arguments are those of `gemm.emit_gemm`."""
    empty = spec.m == 0 or spec.n == 0 or any(extent == 0 for extent, *_ in spec.batch)
    if empty:
        return Plan("empty", spec)
    spec, merged = _merge_batch(spec, stores_c=initial or not epilogue)
    spec = canonical(spec)
    swap = not epilogue and spec.n == 1 and spec.m > 1 and spec.c_row_stride == 1 and spec.k[-1][1] != 1
    if swap:
        spec = canonical(swapped(spec))
    plan = Plan("fill", spec, merged, swap)
    if spec.depth == 0:
        lanes = max(1, target.vector_bytes // spec.dtype.itemsize)
        zeros = 0 if initial else _round(spec.n * spec.dtype.itemsize)
        return replace(plan, lanes=lanes, zero_bytes=zeros)
    if _wants_dots(spec):
        return _plan_dots(plan, target, held=epilogue)
    return _plan_tiles(plan, target, epilogue=epilogue, heavy=heavy_epilogue)

"""Copying an operand of a matrix product into the layout that the micro-kernels read. Layer 4, codegen.

A packed panel of B is `[k][width]`, `width` a multiple of the vector length; lanes beyond the last column hold anything.
Strides are run-time arguments where that costs nothing, so that products share these functions.
"""

from __future__ import annotations

from graphc.codegen.gemm_text import add, advance, counted, element, lanes_below, multiply
from graphc.codegen.gemm_tile import Kernel, TileShape
from graphc.codegen.text import Function
from graphc.codegen.vectors import Vec, Vectors, constant_mask
from graphc.dtypes import DType

__all__ = ["emit_copy", "emit_move", "emit_transpose", "emit_zeros"]


def emit_copy(name: str, shape: TileShape, kernel: Kernel, *, stride: int, width: int) -> Function:
    """`dst[k, :] = src[k, :]` for `%depth` rows (at least 1) whose columns are adjacent."""
    f = Function("void", name, ["ptr %src", "i64 %depth", "ptr %dst"])
    vectors, dtype = kernel.vectors(f), kernel.dtype
    masks: list[Vec | None] = [None] * shape.vectors
    if shape.remainder:
        masks[-1] = constant_mask(kernel.lanes, shape.remainder)

    def row(k: str) -> None:
        source, target = advance(f, "%src", dtype, (k, stride)), advance(f, "%dst", dtype, (k, width))
        for v, mask in enumerate(masks):
            column = (str(v * kernel.lanes), 1)
            vectors.store(
                vectors.load(advance(f, source, dtype, column), dtype, mask=mask), advance(f, target, dtype, column)
            )

    counted(f, "%depth", "k", row)
    return f


def emit_move(name: str, dtype: DType) -> Function:
    """`dst[i * dst_stride + j] = src[i * stride_i + j * stride_j]`, element by element: any strides at all."""
    f = Function(
        "void",
        name,
        ["ptr %src", "i64 %stride_i", "i64 %stride_j", "i64 %n_i", "i64 %n_j", "ptr %dst", "i64 %dst_stride"],
    )
    type_ = element(dtype)

    def outer(i: str) -> None:
        source_row, target_row = multiply(f, i, "%stride_i"), multiply(f, i, "%dst_stride")

        def inner(j: str) -> None:
            source = add(f, source_row, multiply(f, j, "%stride_j"))
            pointer = f.emit(f"getelementptr {type_}, ptr %src, i64 {source}")
            value = f.emit(f"load {type_}, ptr {pointer}, align {dtype.itemsize}")
            where = f.emit(f"getelementptr {type_}, ptr %dst, i64 {add(f, target_row, j)}")
            f.do(f"store {type_} {value}, ptr {where}, align {dtype.itemsize}")

        counted(f, "%n_j", "j", inner)

    counted(f, "%n_i", "i", outer)
    return f


def emit_transpose(name: str, dtype: DType, lanes: int, features: frozenset[str]) -> Function:
    """`dst[k * dst_stride + j] = src[j * src_stride + k]` for one vector of `%columns` columns and `%depth` k's (both >= 1).

    Square blocks are transposed in registers. Absent columns repeat the last one; the rows of `dst` are written up to the next
    multiple of the vector length.
    """
    f = Function(
        "void",
        name,
        ["ptr %src", "i64 %src_stride", "i64 %columns", "i64 %depth", "ptr %dst", "i64 %dst_stride"],
    )
    vectors = Vectors(f, lanes, features=features)
    type_ = element(dtype)
    # The pointers of the rows and of the target are kept in memory: as loop variables they would make LLVM's loop strength
    # reduction weigh them all against each other, four fifths of the time to compile this function.
    table = f.emit(f"alloca [{lanes + 1} x ptr], align 8")
    slots = [f.emit(f"getelementptr ptr, ptr {table}, i64 {i}") for i in range(lanes + 1)]
    source = "%src"
    for j, slot in enumerate(slots[:lanes]):
        if j:
            present = f.emit(f"icmp ugt i64 %columns, {j}")
            step = f.emit(f"select i1 {present}, i64 %src_stride, i64 0")
            source = f.emit(f"getelementptr {type_}, ptr {source}, i64 {step}")
        f.do(f"store ptr {source}, ptr {slot}")
    f.do(f"store ptr %dst, ptr {slots[lanes]}")
    blocks = f.emit(f"udiv i64 {f.emit(f'add i64 %depth, {lanes - 1}')}, {lanes}")

    def block(index: str) -> None:
        k = f.emit(f"mul i64 {index}, {lanes}")
        left = f.emit(f"sub i64 %depth, {k}")
        many = f.emit(f"icmp ult i64 {left}, {lanes}")
        mask = lanes_below(vectors, f.emit(f"select i1 {many}, i64 {left}, i64 {lanes}"))
        rows = []
        for slot in slots[:lanes]:
            base = f.emit(f"load ptr, ptr {slot}")
            rows.append(vectors.load(f.emit(f"getelementptr {type_}, ptr {base}, i64 {k}"), dtype, mask=mask))
        columns = _transposed(vectors, rows)
        target = f.emit(f"load ptr, ptr {slots[lanes]}")
        for column in columns:
            vectors.store(column, target)
            target = f.emit(f"getelementptr {type_}, ptr {target}, i64 %dst_stride")
        f.do(f"store ptr {target}, ptr {slots[lanes]}")

    counted(f, blocks, "block", block)
    return f


def _transposed(vectors: Vectors, rows: list[Vec]) -> list[Vec]:
    """The transpose of a square block held as one vector a row.

    First small squares within each 16 bytes (unpack instructions), then whole 16-byte pieces between vectors: single
    instructions on every x86 level.
    """
    piece = 16 // rows[0].dtype.itemsize
    # parts[p]: vectors that hold the same columns, one for each group of rows (at first: one for each row).
    parts = [rows]
    while len(parts) < piece:
        parts = [half for part in parts for half in _unpack(vectors, part, piece, len(parts))]
    # Now parts[j] holds columns j, j + piece, ..., one to each piece of 16 bytes.
    return [
        column for block in zip(*(_pieces(vectors, part, piece) for part in parts), strict=True) for column in block
    ]


def _unpack(vectors: Vectors, rows: list[Vec], piece: int, width: int) -> tuple[list[Vec], list[Vec]]:
    """One round within 16-byte pieces: of neighbours a, b the low halves a0 b0 a1 b1 and the high halves a2 b2 a3 b3, in
    units of `width` lanes."""
    n = vectors.lanes
    halves = []
    for side in (0, 1):
        picked = [
            base + side * piece // 2 + unit + source * n + lane
            for base in range(0, n, piece)
            for unit in range(0, piece // 2, width)
            for source in (0, 1)
            for lane in range(width)
        ]
        halves.append([_shuffle(vectors, a, b, picked) for a, b in zip(rows[::2], rows[1::2], strict=True)])
    return halves[0], halves[1]


def _pieces(vectors: Vectors, rows: list[Vec], piece: int) -> list[Vec]:
    """Transpose in units of pieces: of each two neighbours the even pieces and the odd ones, and so on with each half."""
    if len(rows) == 1:
        return rows
    n = vectors.lanes
    halves = []
    for parity in (0, 1):
        picked = [
            source * n + start + i
            for source in (0, 1)
            for start in range(parity * piece, n, 2 * piece)
            for i in range(piece)
        ]
        chosen = [_shuffle(vectors, a, b, picked) for a, b in zip(rows[::2], rows[1::2], strict=True)]
        halves.append(_pieces(vectors, chosen, piece))
    return [column for pair in zip(*halves, strict=True) for column in pair]


def _shuffle(vectors: Vectors, a: Vec, b: Vec, picked: list[int]) -> Vec:
    type_ = vectors.type(a.dtype)
    lanes = ", ".join(f"i32 {i}" for i in picked)
    return Vec(
        vectors.function.emit(f"shufflevector {type_} {a.text}, {type_} {b.text}, <{len(picked)} x i32> <{lanes}>"),
        a.dtype,
    )


def emit_zeros(name: str, dtype: DType) -> Function:
    """`dst[i] = 0` for `%n` (at least 1) elements."""
    f = Function("void", name, ["ptr %dst", "i64 %n"])

    def one(i: str) -> None:
        where = f.emit(f"getelementptr {element(dtype)}, ptr %dst, i64 {i}")
        zero = Vectors(f, 1).const(dtype, 0)
        f.do(f"store {element(dtype)} {zero.text}, ptr {where}, align {dtype.itemsize}")

    counted(f, "%n", "i", one)
    return f

"""Index arithmetic and counted loops for the contraction emitters. Layer 4, codegen.

Indices are i64 operands in text form: a decimal literal or an SSA name. Literals are folded, so constant sizes leave no
instructions behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphc.codegen.text import Function
from graphc.codegen.vectors import Vec, Vectors, constant_mask
from graphc.dtypes import DType, int32

__all__ = [
    "Code",
    "add",
    "advance",
    "counted",
    "element",
    "lanes_below",
    "multiply",
    "multiply_add",
    "when",
]


@dataclass(frozen=True, slots=True)
class Code:
    """Finished functions, and the declarations of the intrinsics that they call, by name.

    Functions whose names begin with `@gemm_` are the same in all products of a module.
    """

    functions: dict[str, str]
    declarations: dict[str, str]


def element(dtype: DType) -> str:
    """The LLVM type of one element in memory (no bools here)."""
    return {"f32": "float", "f64": "double", "i32": "i32", "u32": "i32", "i64": "i64", "u64": "i64"}[dtype.name]


def _literal(text: str) -> int | None:
    return None if text.startswith("%") else int(text)


def add(f: Function, x: str, y: str) -> str:
    """x + y"""
    a, b = _literal(x), _literal(y)
    if a is not None and b is not None:
        return str(a + b)
    if a == 0:
        return y
    if b == 0:
        return x
    return f.emit(f"add i64 {x}, {y}")


def multiply(f: Function, x: str, y: str) -> str:
    """x * y"""
    a, b = _literal(x), _literal(y)
    if a is not None and b is not None:
        return str(a * b)
    if a == 0 or b == 0:
        return "0"
    if a == 1:
        return y
    if b == 1:
        return x
    return f.emit(f"mul i64 {x}, {y}")


def advance(f: Function, pointer: str, dtype: DType, *terms: tuple[str, int]) -> str:
    """`pointer` moved on by the sum of index * stride, in elements."""
    offset = "0"
    for index, stride in terms:
        offset = add(f, offset, multiply(f, index, str(stride)))
    return pointer if offset == "0" else f.emit(f"getelementptr {element(dtype)}, ptr {pointer}, i64 {offset}")


def counted(f: Function, count: str | int, hint: str, body: Callable[[str], None]) -> None:
    """Run `body(index)` for index 0 .. count - 1. A count in a name must be at least 1; a literal 0 leaves no code."""
    count = str(count)
    if count == "0":
        return
    if count == "1":
        body("0")
        return
    header = f.loop_header(hint)
    index = f.phi("i64", "0")
    body(index.name)
    following = f.emit(f"add i64 {index.name}, 1")
    index.add(following, f.block)
    again, done = f.emit(f"icmp ult i64 {following}, {count}"), f.label(f"{hint}_end")
    f.branch_if(again, header, done)
    f.start(done)


def when(f: Function, condition: str, hint: str, body: Callable[[], None]) -> None:
    """Run `body` if the i1 `condition` holds."""
    then, done = f.label(hint), f.label(f"{hint}_end")
    f.branch_if(condition, then, done)
    f.start(then)
    body()
    f.branch(done)
    f.start(done)


def lanes_below(vectors: Vectors, count: str) -> Vec:
    """The mask of the lanes whose number is below the i64 `count`."""
    if not count.startswith("%"):
        return constant_mask(vectors.lanes, int(count))
    narrow = vectors.function.emit(f"trunc i64 {count} to i32")
    return vectors.lt(vectors.iota(int32), vectors.splat(narrow, int32))


def multiply_add(vectors: Vectors, x: Vec, y: Vec, accumulator: Vec, *, fused: bool) -> Vec:
    """accumulator + x * y, rounded once if `fused`, otherwise after each operation."""
    if fused:
        return vectors.fma(x, y, accumulator)
    return vectors.add(accumulator, vectors.mul(x, y))

"""Small functions that kernels and the entry call: copies, zeros, range checks. Layer 4, codegen.

They call nothing themselves; `memcpy` and `memset` are no functions that an image could find.
"""

from __future__ import annotations

from graphc.dtypes import DType

__all__ = ["COPY", "ZERO", "check_function", "copy_function", "element", "zero_function"]

#: `void (ptr target, ptr source, i64 bytes)`.
COPY = "@graphc_copy"
#: `void (ptr target, i64 bytes)`.
ZERO = "@graphc_zero"


def element(dtype: DType) -> str:
    """The integer type of an element's size in memory."""
    return f"i{8 * dtype.itemsize}"


def check_function(dtype: DType) -> str:
    """`i64 (ptr indices, i64 count, i64 low, i64 high)`: the position of the first index outside of [low, high), or -1.

    Unsigned indices are compared as such; `low` is not positive then, and says nothing.
    """
    kind = element(dtype)
    wide = "%x" if kind == "i64" else f"{'sext' if dtype.is_signed else 'zext'} {kind} %x to i64"
    convert = [] if wide == "%x" else [f"  %w = {wide}"]
    value = "%x" if wide == "%x" else "%w"
    compare = (
        [f"  %a = icmp sge i64 {value}, %low", f"  %b = icmp slt i64 {value}, %high", "  %ok = and i1 %a, %b"]
        if dtype.is_signed
        else [
            f"  %a = icmp ult i64 {value}, %high",
            "  %b = icmp sgt i64 %high, 0",
            "  %ok = and i1 %a, %b",
        ]
    )
    return "\n".join(
        [
            f"define internal i64 @graphc_check_{dtype.name}(ptr %p, i64 %count, i64 %low, i64 %high) nounwind #0 {{",
            "entry:",
            "  br label %loop",
            "loop:",
            "  %i = phi i64 [ 0, %entry ], [ %next, %step ]",
            "  %more = icmp slt i64 %i, %count",
            "  br i1 %more, label %body, label %good",
            "body:",
            f"  %at = getelementptr {kind}, ptr %p, i64 %i",
            f"  %x = load {kind}, ptr %at, align {dtype.itemsize}",
            *convert,
            *compare,
            "  br i1 %ok, label %step, label %bad",
            "step:",
            "  %next = add i64 %i, 1",
            "  br label %loop",
            "good:",
            "  ret i64 -1",
            "bad:",
            "  ret i64 %i",
            "}",
        ]
    )


def copy_function() -> str:
    """Copies bytes between buffers that do not overlap."""
    wide = ["%from.i = getelementptr i8, ptr %from, i64 %i", "%x = load <64 x i8>, ptr %from.i, align 1"]
    byte = ["%from.j = getelementptr i8, ptr %from, i64 %j", "%y = load i8, ptr %from.j, align 1"]
    return _fill(f"{COPY}(ptr noalias %to, ptr noalias %from, i64 %bytes)", (wide, "%x"), (byte, "%y"))


def zero_function() -> str:
    """Clears bytes."""
    return _fill(f"{ZERO}(ptr noalias %to, i64 %bytes)", ([], "zeroinitializer"), ([], "0"))


def _fill(head: str, wide: tuple[list[str], str], byte: tuple[list[str], str]) -> str:
    """A function that stores vectors of 64 bytes, then single bytes: each a list of instructions and what to store."""
    return "\n".join(
        [
            f"define internal void {head} nounwind #0 {{",
            "entry:",
            "  %whole = and i64 %bytes, -64",
            "  br label %wide",
            "wide:",
            "  %i = phi i64 [ 0, %entry ], [ %i1, %wide.body ]",
            "  %wide.more = icmp slt i64 %i, %whole",
            "  br i1 %wide.more, label %wide.body, label %rest",
            "wide.body:",
            *(f"  {line}" for line in wide[0]),
            "  %to.i = getelementptr i8, ptr %to, i64 %i",
            f"  store <64 x i8> {wide[1]}, ptr %to.i, align 1",
            "  %i1 = add i64 %i, 64",
            "  br label %wide",
            "rest:",
            "  %j = phi i64 [ %whole, %wide ], [ %j1, %rest.body ]",
            "  %rest.more = icmp slt i64 %j, %bytes",
            "  br i1 %rest.more, label %rest.body, label %done",
            "rest.body:",
            *(f"  {line}" for line in byte[0]),
            "  %to.j = getelementptr i8, ptr %to, i64 %j",
            f"  store i8 {byte[1]}, ptr %to.j, align 1",
            "  %j1 = add i64 %j, 1",
            "  br label %rest",
            "done:",
            "  ret void",
            "}",
        ]
    )

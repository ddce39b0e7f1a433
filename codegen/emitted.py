"""What an emitter gives back: one kernel's functions and how to call it. Layer 4, codegen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphc.ir.dims import Dim

__all__ = ["Argument", "Emitted", "GraphFunction"]


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a kernel's call.

    `room` is `"operand"` or `"result"` (a pointer to the node's operand or result `index`, moved by `bytes`), `"scratch"`,
    `"null"`, `"sizes"` (the table), or `"size"` (the value of the symbol `index`).
    """

    room: str
    index: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Emitted:
    """LLVM text of a kernel: `functions` by name, the kernel itself and its helpers (helpers of equal name are equal);
    `tree` is the schedule as text."""

    functions: Mapping[str, str]
    declarations: Mapping[str, str]
    arguments: tuple[Argument, ...]
    scratch_bytes: Dim
    flops: Dim
    bytes: Dim
    tree: str
    fallible: bool = False
    """Whether the function returns a status (i64) instead of nothing."""


@dataclass(frozen=True, slots=True)
class GraphFunction:
    """The function of a held graph: `i64 @name(ptr pointers, ptr sizes, ptr arena)`; pointers to inputs, then outputs."""

    name: str
    arena_bytes: Dim

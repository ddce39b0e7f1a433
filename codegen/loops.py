"""Counted loops in LLVM text. Layer 4, codegen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphc.codegen.sizes import Size, Sizes
from graphc.codegen.text import Function

__all__ = ["Range", "counted"]

Carried = Sequence[tuple[str, str]]
"""Values that go from one iteration to the next: LLVM type and SSA name (or literal)."""
Body = Callable[[Size, list[str]], list[str]]
"""`body(i, values)` writes one iteration and returns the carried values' new names."""


@dataclass(frozen=True, slots=True)
class Range:
    """start, start + step, ... below end, as in Python; step > 0."""

    start: Size
    end: Size
    step: int


def counted(sizes: Sizes, span: Range, carried: Carried, body: Body, hint: str) -> list[str]:
    """Write `for i in span: values = body(i, values)`; returns the final values.

    Known trip counts of 0 and 1 make no loop. A loop tests at its end, behind a guard where it may have no iteration.
    """
    names = [name for _, name in carried]
    if isinstance(span.start, int) and isinstance(span.end, int):
        trips = max(0, -(-(span.end - span.start) // span.step))
        if trips <= 1:
            return body(span.start, names) if trips else names
        return _loop(sizes.function, span, carried, body, hint)
    f = sizes.function
    enter, leave = f.label(f"{hint}.enter"), f.label(f"{hint}.exit")
    before = f.block
    f.branch_if(f.emit(f"icmp slt i64 {span.start}, {span.end}"), enter, leave)
    f.start(enter)
    results = _loop(f, span, carried, body, hint)
    last = f.block
    f.branch(leave)
    f.start(leave)
    return [
        f.emit(f"phi {type_} [ {name}, %{before} ], [ {result}, %{last} ]")
        for (type_, name), result in zip(carried, results, strict=True)
    ]


def _loop(f: Function, span: Range, carried: Carried, body: Body, hint: str) -> list[str]:
    """A loop that runs at least once."""
    header = f.loop_header(hint)
    index = f.phi("i64", str(span.start))
    phis = [f.phi(type_, name) for type_, name in carried]
    results = body(index.name, [p.name for p in phis])
    following = f.emit(f"add nsw i64 {index.name}, {span.step}")
    again = f.emit(f"icmp slt i64 {following}, {span.end}")
    index.add(following, f.block)
    for phi, result in zip(phis, results, strict=True):
        phi.add(result, f.block)
    done = f.label(f"{hint}.done")
    f.branch_if(again, header, done)
    f.start(done)
    return results

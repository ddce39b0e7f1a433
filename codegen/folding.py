"""Combining accumulators of reductions. Layer 4, codegen.

An accumulator is a tuple of vectors (`parts`): the value, and for arg reductions the position of the best element as well.
A *partial* is a list of accumulators; lane k of its vector i is virtual lane i * lanes + k. The tree is fixed: see
`graphc.codegen.schedule`.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphc.codegen.kernel import Combine
from graphc.codegen.shuffles import half
from graphc.codegen.vectors import Vec, Vectors
from graphc.dtypes import DType, int64

__all__ = ["Partial", "Parts", "combined", "fold", "identity", "join", "step"]

Parts = tuple[Vec, ...]
Partial = list[Parts]


def identity(s: Vectors, combine: Combine, dtype: DType) -> Parts:
    """The accumulator of no elements of `dtype`. An arg reduction starts at position 0: if no element beats the identity, all
    are equal to it, and the first one wins."""
    first = s.const(dtype, combine.identity(dtype))
    return (first, s.const(int64, 0)) if combine.arg else (first,)


def step(s: Vectors, combine: Combine, x: Parts, accumulator: Parts) -> Parts:
    """The accumulator with one more element, whose position is above those before it."""
    if not combine.arg:
        return (combine.combine(s, x[0], accumulator[0]),)
    better = combine.combine(s, x[0], accumulator[0])
    return tuple(s.select(better, new, old) for new, old in zip(x, accumulator, strict=True))


def join(s: Vectors, combine: Combine, x: Parts, accumulator: Parts) -> Parts:
    """Two accumulators as one; of equally good positions the lower wins."""
    if not combine.arg:
        return step(s, combine, x, accumulator)
    better = combine.combine(s, x[0], accumulator[0])
    worse = combine.combine(s, accumulator[0], x[0])
    first = s.and_(s.not_(worse), s.lt(x[1], accumulator[1]))
    chosen = s.or_(better, first)
    return tuple(s.select(chosen, new, old) for new, old in zip(x, accumulator, strict=True))


def combined(s: Vectors, combine: Combine, x: Partial, accumulator: Partial) -> Partial:
    """Two partials, vector by vector; the shorter one's vectors belong to the first of the longer one."""
    longer = max(x, accumulator, key=len)
    merged = [join(s, combine, a, b) for a, b in zip(x, accumulator, strict=False)]
    return merged + longer[len(merged) :]


def fold(widths: Mapping[int, Vectors], lanes: int, combine: Combine, partial: Partial) -> Parts:
    """All virtual lanes as one, halving the distance: lane k takes lane k + n/2, then k + n/4, ..."""
    while len(partial) > 1:
        middle = len(partial) // 2
        partial = combined(widths[lanes], combine, partial[middle:], partial[:middle])
    parts = partial[0]
    while lanes > 1:
        lanes //= 2
        low = tuple(half(widths[2 * lanes], x, 0) for x in parts)
        high = tuple(half(widths[2 * lanes], x, lanes) for x in parts)
        parts = join(widths[lanes], combine, high, low)
    return parts

"""Rearranging lanes of LLVM vectors. Layer 4, codegen."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.codegen.vectors import Vec, Vectors

__all__ = ["half", "reverse", "shuffle", "transpose", "unzip", "zipped"]


def shuffle(s: Vectors, x: Vec, y: Vec, order: Sequence[int]) -> Vec:
    """Lane i is lane order[i] of x followed by y."""
    type_ = s.type(x.dtype)
    lanes = ", ".join(f"i32 {i}" for i in order)
    text = f"shufflevector {type_} {x.text}, {type_} {y.text}, <{len(order)} x i32> <{lanes}>"
    return Vec(s.function.emit(text), x.dtype)


def reverse(s: Vectors, x: Vec) -> Vec:
    """The lanes in the opposite order."""
    if x.text.startswith("<"):
        return Vec(f"<{', '.join(x.text.strip('<>').split(', ')[::-1])}>", x.dtype)
    return x if s.lanes == 1 else shuffle(s, x, x, range(s.lanes)[::-1])


def unzip(s: Vectors, low: Vec, high: Vec) -> Vec:
    """Every second of 2n - 1 elements, given the first n and the last n of them."""
    n = s.lanes
    # Element 2i is low[2i], or high[2i - (n - 1)]; high is numbered from n on.
    return low if n == 1 else shuffle(s, low, high, [2 * i if 2 * i < n else 2 * i + 1 for i in range(n)])


def zipped(s: Vectors, x: Vec, y: Vec) -> tuple[Vec, Vec]:
    """x[0], y[0], x[1], y[1], ... as two vectors."""
    n = s.lanes
    order = [lane for i in range(n) for lane in (i, n + i)]
    return shuffle(s, x, y, order[:n]), shuffle(s, x, y, order[n:])


def half(s: Vectors, x: Vec, first: int) -> Vec:
    """The half of the lanes that begins at `first`: a scalar of two."""
    if s.lanes == 2:
        return Vec(s.function.emit(f"extractelement {s.type(x.dtype)} {x.text}, i64 {first}"), x.dtype)
    return shuffle(s, x, x, range(first, first + s.lanes // 2))


def transpose(s: Vectors, rows: Sequence[Vec]) -> list[Vec]:
    """Lane i of result j is lane j of row i; as many rows as lanes. Blocks off the diagonal change places, by halves."""
    n = s.lanes
    assert len(rows) == n, (len(rows), n)
    found = list(rows)
    block = n // 2
    while block:
        keep = [i if not i & block else n + i - block for i in range(n)]
        swap = [i + block if not i & block else n + i for i in range(n)]
        for i in range(n):
            if not i & block:
                x, y = found[i], found[i + block]
                found[i], found[i + block] = shuffle(s, x, y, keep), shuffle(s, x, y, swap)
        block //= 2
    return found

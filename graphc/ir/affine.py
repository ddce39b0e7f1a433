"""Affine index expressions: what a movement's `sources` rule is asked with. Layer 1.

An `Affine` is offset + sum of coefficient * axis, where coefficients and offset are dimensions. It supports `+`, `-` and
`*` with dimensions and with its like, which is all that index maps need. It is canonical: terms are sorted by axis and
have no zeros, so equal expressions are structurally equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from graphc.ir.dims import Dim, Expr

__all__ = ["Affine", "affine", "axes_of"]

Factors = tuple[tuple[int, Dim], ...]


@dataclass(frozen=True, slots=True)
class Affine:
    """offset + sum of coefficient * axis index.

    >>> i, j = axes_of(2)
    >>> str(2 * i + j - 3)
    '2*a0 + a1 - 3'
    """

    factors: Factors
    offset: Dim = 0

    def __add__(self, other: Affine | Dim) -> Affine:
        other = affine(other)
        return Affine(_merge((*self.factors, *other.factors)), self.offset + other.offset)

    __radd__ = __add__

    def __neg__(self) -> Affine:
        return self * -1

    def __sub__(self, other: Affine | Dim) -> Affine:
        return self + affine(other) * -1

    def __rsub__(self, other: Dim) -> Affine:
        return affine(other) + self * -1

    def __mul__(self, factor: Dim) -> Affine:
        if not isinstance(factor, (int, Expr)):
            return NotImplemented
        return Affine(_merge((a, c * factor) for a, c in self.factors), self.offset * factor)

    __rmul__ = __mul__

    @property
    def axis(self) -> int | None:
        """The axis, if the expression is just one axis's index."""
        if self.offset == 0 and len(self.factors) == 1 and self.factors[0][1] == 1:
            return self.factors[0][0]
        return None

    def coefficient(self, axis: int) -> Dim:
        """The factor of an axis; 0 if it does not occur."""
        return dict(self.factors).get(axis, 0)

    def substitute(self, index: Mapping[int, Affine]) -> Affine:
        """The expression with axes replaced."""
        total = Affine((), self.offset)
        for axis, factor in self.factors:
            total = total + index[axis] * factor
        return total

    def __str__(self) -> str:
        parts = [f"a{a}" if c == 1 else f"{c}*a{a}" if isinstance(c, int) else f"({c})*a{a}" for a, c in self.factors]
        text = " + ".join(parts)
        if isinstance(self.offset, int) and self.offset < 0 and parts:
            return f"{text} - {-self.offset}"
        return f"{text} + {self.offset}" if parts and self.offset != 0 else text or str(self.offset)


def affine(x: Affine | Dim) -> Affine:
    """A dimension as a constant expression."""
    return x if isinstance(x, Affine) else Affine((), x)


def axes_of(rank: int) -> tuple[Affine, ...]:
    """The indices of `rank` axes."""
    return tuple(Affine(((a, 1),)) for a in range(rank))


def _merge(terms: Iterable[tuple[int, Dim]]) -> Factors:
    total: dict[int, Dim] = {}
    for axis, coefficient in terms:
        total[axis] = total.get(axis, 0) + coefficient
    return tuple((a, total[a]) for a in sorted(total) if total[a] != 0)

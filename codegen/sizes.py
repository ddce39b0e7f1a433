"""Integer arithmetic on sizes while LLVM text is written. Layer 4, codegen.

A size is a Python `int` or the name of an i64 SSA value; what is known is folded. Dimensions are evaluated from the symbols'
values, `%s<index>`, which are i64 parameters of the function.
"""

from __future__ import annotations

from collections.abc import Iterable

from graphc.codegen.text import Function
from graphc.ir.dims import Dim, FloorDiv, Symbol

__all__ = ["Size", "Sizes", "parameter"]

Size = int | str


def parameter(symbol: int) -> str:
    """The parameter that holds the symbol's value."""
    return f"%s{symbol}"


class Sizes:
    """Folding integer instructions of one function; products and sums do not overflow (sizes of real arrays)."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self._known: dict[Dim, Size] = {}

    def prepare(self, dims: Iterable[Dim]) -> None:
        """Evaluate dimensions here, to be used in all blocks that this one dominates."""
        for dim in dims:
            self._known[dim] = self.dim(dim)

    def add(self, x: Size, y: Size) -> Size:
        if isinstance(x, int) and isinstance(y, int):
            return x + y
        if x == 0:
            return y
        return x if y == 0 else self.function.emit(f"add nsw i64 {x}, {y}")

    def sub(self, x: Size, y: Size) -> Size:
        if isinstance(x, int) and isinstance(y, int):
            return x - y
        return x if y == 0 else self.function.emit(f"sub nsw i64 {x}, {y}")

    def mul(self, x: Size, y: Size) -> Size:
        if isinstance(x, int) and isinstance(y, int):
            return x * y
        if x == 0 or y == 0:
            return 0
        if x == 1:
            return y
        return x if y == 1 else self.function.emit(f"mul nsw i64 {x}, {y}")

    def round_down(self, x: Size, step: int) -> Size:
        """The greatest multiple of `step`, a power of two, not above x >= 0."""
        if isinstance(x, int):
            return x - x % step
        return x if step == 1 else self.function.emit(f"and i64 {x}, {-step}")

    def minimum(self, x: Size, y: Size) -> Size:
        if isinstance(x, int) and isinstance(y, int):
            return min(x, y)
        return self._pick("slt", x, y)

    def positive(self, x: Size) -> Size:
        """max(x, 0)."""
        return max(x, 0) if isinstance(x, int) else self._pick("sgt", x, 0)

    def _pick(self, relation: str, x: Size, y: Size) -> Size:
        chosen = self.function.emit(f"icmp {relation} i64 {x}, {y}")
        return self.function.emit(f"select i1 {chosen}, i64 {x}, i64 {y}")

    def floordiv(self, x: Size, y: Size) -> Size:
        """floor(x / y) for y > 0."""
        if isinstance(x, int) and isinstance(y, int):
            return x // y
        quotient = self.function.emit(f"sdiv i64 {x}, {y}")
        remainder = self.function.emit(f"srem i64 {x}, {y}")
        negative = self.function.emit(f"icmp slt i64 {remainder}, 0")
        return self.add(quotient, self.function.emit(f"sext i1 {negative} to i64"))

    def dim(self, dim: Dim) -> Size:
        """The value of a dimension."""
        if isinstance(dim, int):
            return dim
        if dim in self._known:
            return self._known[dim]
        total: Size = 0
        for monomial, coefficient in dim.terms:
            value: Size = coefficient
            for atom, power in monomial:
                factor = self._atom(atom)
                for _ in range(power):
                    value = self.mul(value, factor)
            total = self.add(total, value)
        return total

    def _atom(self, atom: object) -> Size:
        if isinstance(atom, Symbol):
            return parameter(atom.index)
        if isinstance(atom, FloorDiv):
            return self.floordiv(self.dim(atom.numerator), self.dim(atom.denominator))
        return self.positive(self.dim(atom.operand))  # type: ignore[attr-defined]

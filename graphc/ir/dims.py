"""Symbolic dimensions. Layer 1: imports nothing of graphc.

A dimension is a Python `int` or an `Expr`: an integer polynomial over atoms, where an atom is a symbol, a floor division
or `pos(p) = max(p, 0)`; minimum, maximum and remainder reduce to these. An `Expr` is canonical: equal polynomials are
structurally equal, and an expression that is constant is an `int`, never an `Expr`. Symbols are numbered by the position
at which they first appear in a graph's inputs, so equal graphs have equal symbols.

Equality here is structural and records nothing; the frontend's guarded comparison of sizes is another matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

__all__ = [
    "Atom",
    "Dim",
    "Expr",
    "FloorDiv",
    "Pos",
    "Symbol",
    "evaluate",
    "is_static",
    "maximum",
    "minimum",
    "pos",
    "product",
    "substitute",
    "symbol",
    "symbols_of",
]


@dataclass(frozen=True, slots=True)
class Symbol:
    """An unknown size >= 0; `s<index>` in text."""

    index: int

    def __str__(self) -> str:
        return f"s{self.index}"


@dataclass(frozen=True, slots=True)
class FloorDiv:
    """floor(numerator / denominator), with a denominator known to be positive."""

    numerator: Dim
    denominator: Dim

    def __str__(self) -> str:
        return f"floordiv({self.numerator}, {self.denominator})"


@dataclass(frozen=True, slots=True)
class Pos:
    """max(operand, 0)."""

    operand: Dim

    def __str__(self) -> str:
        return f"pos({self.operand})"


Atom = Symbol | FloorDiv | Pos
#: A product of powers of atoms, sorted by text; the empty product is 1.
Monomial = tuple[tuple[Atom, int], ...]


@dataclass(frozen=True, slots=True)
class Expr:
    """A polynomial: `terms` maps monomials to coefficients, sorted, without zeros, and not constant.

    >>> n = symbol(0)
    >>> str((n + 2) * (n - 1)), (4 * n + 7) // 4
    ('s0*s0 + s0 - 2', s0 + 1)
    """

    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: Dim) -> Dim:
        if not isinstance(other, (int, Expr)):
            return NotImplemented
        return _build([*self.terms, *_terms(other)])

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return self * -1

    def __sub__(self, other: Dim) -> Dim:
        return self + (other * -1)

    def __rsub__(self, other: Dim) -> Dim:
        return (self * -1) + other

    def __mul__(self, other: Dim) -> Dim:
        if not isinstance(other, (int, Expr)):
            return NotImplemented
        return _build([(_times(m, n), a * b) for m, a in self.terms for n, b in _terms(other)])

    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        return _floordiv(self, other)

    def __rfloordiv__(self, other: Dim) -> Dim:
        return _floordiv(other, self)

    def __mod__(self, other: Dim) -> Dim:
        return self - (self // other) * other

    def __rmod__(self, other: Dim) -> Dim:
        return other - (other // self) * self

    def __str__(self) -> str:
        parts: list[str] = []
        for monomial, coefficient in self.terms:
            factors = [str(atom) for atom, power in monomial for _ in range(power)]
            magnitude = abs(coefficient)
            text = "*".join([str(magnitude), *factors] if magnitude != 1 or not factors else factors)
            sign = "-" if coefficient < 0 else "+"
            parts.append(f"{sign} {text}" if parts else (f"-{text}" if coefficient < 0 else text))
        return " ".join(parts)

    __repr__ = __str__


Dim = int | Expr


def symbol(index: int) -> Expr:
    """The dimension that is the symbol `s<index>`."""
    return Expr(((((Symbol(index), 1),), 1),))


def is_static(dims: Iterable[Dim]) -> bool:
    """Whether all dimensions are integers."""
    return all(isinstance(d, int) for d in dims)


def product(dims: Iterable[Dim]) -> Dim:
    """The product of dimensions; 1 for none."""
    result: Dim = 1
    for d in dims:
        result = result * d
    return result


def pos(operand: Dim) -> Dim:
    """max(operand, 0); a polynomial without negative coefficients is known not to be negative.

    >>> str(pos(symbol(0) - 1)), pos(-3), pos(symbol(0) + 1)
    ('pos(s0 - 1)', 0, s0 + 1)
    """
    if isinstance(operand, int):
        return max(operand, 0)
    if is_nonnegative(operand):
        return operand
    if is_nonnegative(-operand):
        return 0
    return _atom(Pos(operand))


def maximum(x: Dim, y: Dim) -> Dim:
    """max(x, y) as y + pos(x - y)."""
    return y + pos(x - y)


def minimum(x: Dim, y: Dim) -> Dim:
    """min(x, y) as x - pos(x - y)."""
    return x - pos(x - y)


def is_nonnegative(dim: Dim) -> bool:
    """Whether `dim` is seen to be >= 0 (atoms are; False when unknown)."""
    if isinstance(dim, int):
        return dim >= 0
    return all(c >= 0 and all(_atom_nonnegative(a) or p % 2 == 0 for a, p in m) for m, c in dim.terms)


def symbols_of(dim: Dim) -> Iterator[Symbol]:
    """The symbols of an expression, in order of appearance, possibly repeated."""
    if isinstance(dim, int):
        return
    for monomial, _ in dim.terms:
        for atom, _power in monomial:
            if isinstance(atom, Symbol):
                yield atom
            elif isinstance(atom, FloorDiv):
                yield from symbols_of(atom.numerator)
                yield from symbols_of(atom.denominator)
            else:
                yield from symbols_of(atom.operand)


def substitute(dim: Dim, values: Mapping[int, Dim]) -> Dim:
    """Replace symbols by index; symbols that `values` lacks stay."""

    def replace(atom: Atom) -> Dim:
        if isinstance(atom, Symbol):
            found = values.get(atom.index)
            return _atom(atom) if found is None else found
        if isinstance(atom, FloorDiv):
            return substitute(atom.numerator, values) // substitute(atom.denominator, values)
        return pos(substitute(atom.operand, values))

    return _map_atoms(dim, replace)


def evaluate(dim: Dim, sizes: Mapping[int, int]) -> int:
    """The integer that `dim` is when symbol `s<i>` is `sizes[i]`."""
    result = substitute(dim, sizes)
    if not isinstance(result, int):
        missing = ", ".join(sorted({str(s) for s in symbols_of(result)}))
        raise KeyError(f"no size given for {missing} in {dim}")
    return result


def _map_atoms(dim: Dim, replace: Callable[[Atom], Dim]) -> Dim:
    if isinstance(dim, int):
        return dim
    total: Dim = 0
    for monomial, coefficient in dim.terms:
        value: Dim = coefficient
        for atom, power in monomial:
            factor = replace(atom)
            for _ in range(power):
                value = value * factor
        total = total + value
    return total


def _atom_nonnegative(atom: Atom) -> bool:
    if isinstance(atom, FloorDiv):
        return is_nonnegative(atom.numerator)
    return True


def _atom(atom: Atom) -> Expr:
    return Expr(((((atom, 1),), 1),))


def _terms(dim: Dim) -> tuple[tuple[Monomial, int], ...]:
    return (((), dim),) if isinstance(dim, int) else dim.terms


@lru_cache(maxsize=65536)
def _atom_key(atom: Atom) -> str:
    return str(atom)


def _monomial_key(monomial: Monomial) -> tuple[int, tuple[tuple[str, int], ...]]:
    return -sum(p for _, p in monomial), tuple((_atom_key(a), p) for a, p in monomial)


def _times(x: Monomial, y: Monomial) -> Monomial:
    powers: dict[Atom, int] = dict(x)
    for atom, power in y:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(powers.items(), key=lambda item: _atom_key(item[0])))


def _build(terms: Iterable[tuple[Monomial, int]]) -> Dim:
    total: dict[Monomial, int] = {}
    for monomial, coefficient in terms:
        total[monomial] = total.get(monomial, 0) + coefficient
    kept = {m: c for m, c in total.items() if c}
    if not kept:
        return 0
    if len(kept) == 1 and () in kept:
        return kept[()]
    return Expr(tuple(sorted(kept.items(), key=lambda item: _monomial_key(item[0]))))


@lru_cache(maxsize=65536)
def _floordiv(numerator: Dim, denominator: Dim) -> Dim:
    if isinstance(numerator, int) and isinstance(denominator, int):
        return numerator // denominator
    if numerator == 0 or denominator == 1:
        return numerator
    exact = _divide_exactly(numerator, denominator)
    if exact is not None:
        return exact
    if isinstance(denominator, int):
        return _floordiv_constant(numerator, denominator)
    return _atom(FloorDiv(numerator, denominator))


def _floordiv_constant(numerator: Dim, denominator: int) -> Dim:
    """Pull multiples of the denominator out: (k*q*a + r) // q = k*a + r // q; merge (p // a + c) // b into
    (p + a*c) // (a*b)."""
    whole: list[tuple[Monomial, int]] = []
    rest: list[tuple[Monomial, int]] = []
    for monomial, coefficient in _terms(numerator):
        quotient, remainder = divmod(coefficient, denominator) if monomial == () else (0, coefficient)
        if monomial != () and coefficient % denominator == 0:
            quotient, remainder = coefficient // denominator, 0
        if quotient:
            whole.append((monomial, quotient))
        if remainder:
            rest.append((monomial, remainder))
    inner = _build(rest)
    if isinstance(inner, int):
        return _build([*whole, ((), inner // denominator)])
    monomial, coefficient = inner.terms[0]
    offset = inner - _build([inner.terms[0]])
    if coefficient == 1 and len(monomial) == 1 and isinstance(offset, int):
        atom, power = monomial[0]
        if power == 1 and isinstance(atom, FloorDiv) and isinstance(atom.denominator, int):
            merged = atom.numerator + offset * atom.denominator
            return _build(whole) + _floordiv(merged, atom.denominator * denominator)
    return _build(whole) + _atom(FloorDiv(inner, denominator))


def _divide_exactly(numerator: Dim, denominator: Dim) -> Dim | None:
    """The polynomial quotient if the division leaves no remainder, else None (long division by the leading term)."""
    lead_monomial, lead_coefficient = _terms(denominator)[0]
    quotient: Dim = 0
    rest = numerator
    for _ in range(len(_terms(numerator)) * 4):
        if rest == 0:
            return quotient
        monomial, coefficient = _terms(rest)[0]
        powers = dict(monomial)
        for atom, power in lead_monomial:
            powers[atom] = powers.get(atom, 0) - power
        if coefficient % lead_coefficient or any(p < 0 for p in powers.values()):
            return None
        reduced = tuple((a, p) for a, p in sorted(powers.items(), key=lambda item: _atom_key(item[0])) if p)
        step = _build([(reduced, coefficient // lead_coefficient)])
        quotient = quotient + step
        rest = rest - step * denominator
    return None

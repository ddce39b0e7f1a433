"""Fits the polynomials of graphc/ops/coefficients.py and writes that file: `python tests/ops/fit_mathlib.py > ...`.

A fit starts from Chebyshev interpolation in 60 digits. Then, from the lowest coefficient up, one coefficient is rounded
to the dtype and the others are chosen anew so that the largest weighted error on a fine grid is least (a linear program
in the corrections, scaled by the error, so that double precision is enough for it).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import mpmath as mp
import numpy as np
from scipy.optimize import linprog

mp.mp.dps = 60
Real = Callable[[mp.mpf], mp.mpf]
Pair = tuple[Real, Real]
LN2 = mp.log(2)


@dataclass(frozen=True)
class Fit:
    """`terms` coefficients of a polynomial for `target` on [low, high]; the error counted is weight * (p - target)."""

    name: str
    dtype: str
    low: mp.mpf
    high: mp.mpf
    terms: int
    target: Real
    weight: Real
    what: str

    def nodes(self, count: int) -> list[mp.mpf]:
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        return [middle + half * mp.cos((2 * i + 1) * mp.pi / (2 * count)) for i in range(count)]


def value(coefficients: list[mp.mpf], x: mp.mpf) -> mp.mpf:
    result = mp.mpf(0)
    for coefficient in reversed(coefficients):
        result = result * x + coefficient
    return result


def rounded(x: mp.mpf, dtype: str) -> mp.mpf:
    with mp.workprec(24 if dtype == "f32" else 53):
        return +mp.mpf(x)


def coefficients(fit: Fit) -> tuple[list[mp.mpf], float]:
    """The rounded coefficients, lowest first, and the base-2 logarithm of the largest weighted error."""
    nodes = fit.nodes(fit.terms)
    matrix = mp.matrix([[x**i for i in range(fit.terms)] for x in nodes])
    found = list(mp.lu_solve(matrix, mp.matrix([fit.target(x) for x in nodes])))
    grid = fit.nodes(40 * fit.terms + 1)
    targets, weights = [fit.target(x) for x in grid], [fit.weight(x) for x in grid]
    powers = [[w * x**i for i in range(fit.terms)] for x, w in zip(grid, weights, strict=True)]

    def errors() -> list[mp.mpf]:
        return [w * (value(found, x) - t) for x, t, w in zip(grid, targets, weights, strict=True)]

    for fixed in range(fit.terms + 1):
        current = errors()
        scale = max(abs(e) for e in current)
        residual = np.array([float(e / scale) for e in current])
        free = fit.terms - fixed
        if free == 0:
            return found, float(mp.log(scale, 2))
        sizes = [max(abs(row[i]) for row in powers) / scale for i in range(fixed, fit.terms)]
        basis = np.array([[float(row[fixed + i] / scale / sizes[i]) for i in range(free)] for row in powers])
        column = np.ones((len(grid), 1))
        bounds = [(None, None)] * free + [(0, None)]
        solution = linprog(
            np.r_[np.zeros(free), 1.0],
            A_ub=np.vstack([np.hstack([basis, -column]), np.hstack([-basis, -column])]),
            b_ub=np.r_[-residual, residual],
            bounds=bounds,
        )
        if solution.x is not None:
            for i in range(free):
                found[fixed + i] += mp.mpf(float(solution.x[i])) / sizes[i]
        found[fixed] = rounded(found[fixed], fit.dtype)
    raise AssertionError


def log_rest(z: mp.mpf) -> mp.mpf:
    """(log((1+s)/(1-s)) / s - 2) / s**2 for z = s**2."""
    s = mp.sqrt(z)
    return (2 * mp.atanh(s) / s - 2) / z


def erfcx(a: mp.mpf) -> mp.mpf:
    return mp.exp(a * a) * mp.erfc(a)


def odd(function: Real) -> Pair:
    """For f(x) = x + x * z * P(z), z = x**2: P and the weight of relative error."""

    def target(z: mp.mpf) -> mp.mpf:
        x = mp.sqrt(z)
        return (function(x) / x - 1) / z

    def weight(z: mp.mpf) -> mp.mpf:
        x = mp.sqrt(z)
        return z * x / function(x)

    return target, weight


def tail(shift: int) -> Pair:
    """erfcx(a) * (1 + 2a) - 1 as a function of t = (a - shift) / (a + shift), and its weight."""

    def of(t: mp.mpf) -> mp.mpf:
        a = shift * (1 + t) / (1 - t)
        return erfcx(a) * (1 + 2 * a)

    return (lambda t: of(t) - 1), (lambda t: 1 / of(t))


def of_root(function: Real) -> Real:
    """The function of z = x**2 that takes x."""
    return lambda z: function(mp.sqrt(z))


def fits() -> list[Fit]:
    result: list[Fit] = []

    def add(name: str, interval: tuple[object, object], terms: dict[str, int], functions: Pair, what: str) -> None:
        low, high = (mp.mpf(v) for v in interval)
        for dtype, count in terms.items():
            result.append(Fit(name, dtype, low, high, count, *functions, what))

    e = mp.mpf(10) ** -12  # keeps intervals from holding 0 itself, where targets are 0 / 0
    half = LN2 / 2 * mp.mpf("1.0005")
    centred, squares, two = (-half, half + e), (e, half**2), mp.mpf(2)

    def exp_target(r: mp.mpf) -> mp.mpf:
        return (mp.expm1(r) - r) / r**2

    def exp2_target(r: mp.mpf) -> mp.mpf:
        return mp.expm1(r * LN2) / r

    exp2 = (exp2_target, lambda r: r / two**r)
    add("EXP", centred, {"f32": 5, "f64": 10}, (exp_target, lambda r: r**2 / mp.exp(r)), "(exp(r) - 1 - r) / r**2")
    add("EXPM1", centred, {"f32": 5, "f64": 11}, (exp_target, lambda r: r**2 / mp.expm1(r)), "(expm1(r) - r) / r**2")
    add("EXP2", (-0.5, 0.5 + e), {"f32": 6, "f64": 12}, exp2, "(2**r - 1) / r")
    add("POW32_EXP2", (-0.5, 0.5 + e), {"f64": 7}, exp2, "(2**r - 1) / r, for float32 pow")

    s_range = (e, "0.02945")
    add(
        "LOG_S",
        s_range,
        {"f64": 7},
        (log_rest, lambda z: z / (2 + z * log_rest(z))),
        "(log((1 + s) / (1 - s)) / s - 2) / z, z = s**2",
    )
    add(
        "LOG_F",
        (mp.sqrt(mp.mpf(0.5)) - 1 - e, mp.sqrt(2) - 1 + e),
        {"f32": 8},
        (lambda f: (mp.log1p(f) - f + f * f / 2) / f**3, lambda f: f**3 / mp.log1p(f)),
        "(log(1 + f) - f + f**2 / 2) / f**3",
    )
    add(
        "POW32_LOG2",
        s_range,
        {"f64": 5},
        (of_root(lambda s: 2 * mp.atanh(s) / s / LN2), of_root(lambda s: s / mp.atanh(s) * LN2 / 2)),
        "log2((1 + s) / (1 - s)) / s, z = s**2, for float32 pow",
    )
    add(
        "POW64_LOG",
        (mp.mpf(10) ** -8, "0.02945"),
        {"f64": 7},
        (lambda z: (log_rest(z) - two / 3) / z, lambda z: z * z / (2 + z * log_rest(z))),
        "(log((1 + s) / (1 - s)) / s - 2 - 2/3 * z) / z**2, z = s**2",
    )

    add("TANH", (e, mp.mpf("0.5501") ** 2), {"f32": 5, "f64": 11}, odd(mp.tanh), "(tanh(x) / x - 1) / z, z = x**2")
    add("SINH", squares, {"f32": 3, "f64": 6}, odd(mp.sinh), "(sinh(r) / r - 1) / z, z = r**2")
    cosh = of_root(lambda r: (mp.cosh(r) - 1 - r**2 / 2) / r**4), of_root(lambda r: r**4 / mp.cosh(r))
    add("COSH", squares, {"f32": 2, "f64": 5}, cosh, "(cosh(r) - 1 - z / 2) / z**2, z = r**2")

    erf = of_root(lambda x: mp.erf(x) / x - 1), of_root(lambda x: x / mp.erf(x))
    add("ERF", (e, "1.0001"), {"f32": 7, "f64": 13}, erf, "erf(x) / x - 1, z = x**2")
    erf_tail = (lambda a: -mp.log(mp.erfc(a)) / a - 1, lambda a: a * mp.erfc(a) / mp.erf(a))
    add("ERF_TAIL", (1, "3.95"), {"f32": 7}, erf_tail, "-log(erfc(a)) / a - 1")
    what = "erfcx(a) * (1 + 2 * a) - 1 in t = (a - {0}) / (a + {0})"
    add("ERFC32", ("-0.6001", "0.675"), {"f32": 10}, tail(2), what.format(2))
    add("ERFC64", ("-0.7778", "0.75"), {"f64": 22}, tail(4), what.format(4))

    quarter = (e, (mp.pi / 4 * mp.mpf("1.01")) ** 2)  # the reduction overshoots by up to 2**-8
    add("SIN", quarter, {"f32": 3, "f64": 6}, odd(mp.sin), "(sin(r) / r - 1) / z, z = r**2")
    cos = of_root(lambda r: (mp.cos(r) - 1 + r**2 / 2) / r**4), of_root(lambda r: r**4 / mp.cos(r))
    add("COS", quarter, {"f32": 3, "f64": 6}, cos, "(cos(r) - 1 + z / 2) / z**2, z = r**2")
    add("ATAN", (e, 1), {"f32": 9, "f64": 20}, odd(mp.atan), "(atan(t) / t - 1) / z, z = t**2")
    add("ASIN", (e, "0.2501"), {"f32": 5, "f64": 12}, odd(mp.asin), "(asin(x) / x - 1) / z, z = x**2")
    return result


HEADER = '''"""Polynomial coefficients of the math library, lowest degree first. Layer 2.

Written by tests/ops/fit_mathlib.py: minimax polynomials whose coefficients are already rounded to the dtype. A comment
gives the function approximated, the interval and the largest error of the approximation, relative to the final function.
"""

from __future__ import annotations
'''


def constant_name(fit: Fit) -> str:
    """The name of the coefficients in graphc/ops/coefficients.py."""
    return fit.name if fit.name[-2:].isdigit() else f"{fit.name}_{fit.dtype.upper()}"


def main(only: list[str]) -> None:
    print(HEADER)
    for fit in fits():
        if only and fit.name not in only:
            continue
        found, error = coefficients(fit)
        interval = f"[{mp.nstr(fit.low, 4)}, {mp.nstr(fit.high, 4)}]"
        print(f"#: {fit.what} on {interval}, {fit.dtype}: error 2**{error:.1f}.")
        print(f"{constant_name(fit)} = (\n" + "".join(f"    {float(c)!r},\n" for c in found) + ")\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

"""Enclosures of elementwise ops: what an op may give where its operands lie in intervals. (`tests/intervals.py` explains.)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ml_dtypes
import numpy as np
from intervals import INF, Array, Interval, Rule, Shadow, apply, holds, is_float, marked, widened

from graphc.ir.graph import Node

__all__ = ["ELEMENTWISE", "known_or_not"]


def _increasing(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    return apply(node, *(x.lo for x in xs)), apply(node, *(x.hi for x in xs))


def _decreasing(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    return apply(node, *(x.hi for x in xs)), apply(node, *(x.lo for x in xs))


def _corners(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    """For functions that are monotone in each operand: the extremes are at corners."""
    ends: list[list[Array]] = [[]]
    for x in xs:
        ends = [[*corner, end] for corner in ends for end in (x.lo, x.hi)]
    values = np.stack([apply(node, *corner) for corner in ends])
    nan = np.isnan(values).any(axis=0)
    return np.where(nan, -INF, values.min(axis=0)), np.where(nan, INF, values.max(axis=0))


def _subtract(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    return xs[0].lo - xs[1].hi, xs[0].hi - xs[1].lo


def _quotient(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    """divide and reciprocal: no bound where the divisor may be zero."""
    lo, hi = _corners(node, xs, value)
    pole = holds(xs[-1], 0.0)
    return np.where(pole, -INF, lo), np.where(pole, INF, hi)


def _even(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    """Functions of all operands' magnitudes that grow with each of them: absolute, square, cosh, hypot."""
    least = [np.where(holds(x, 0.0), 0.0, np.minimum(np.abs(x.lo), np.abs(x.hi))) for x in xs]
    most = [np.maximum(np.abs(x.lo), np.abs(x.hi)) for x in xs]
    return apply(node, *least), apply(node, *most)


def _lipschitz(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    """sin and cos: they move by no more than their operand."""
    (x,) = xs
    middle = (x.lo + x.hi) / 2
    y, radius = apply(node, middle), (x.hi - x.lo) / 2
    # The middle is rounded, too.
    radius = radius + np.spacing(np.abs(middle))
    return np.maximum(y - radius, -1.0), np.minimum(y + radius, 1.0)


def _tan(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    (x,) = xs
    safe = (x.hi - x.lo < 1.0) & (np.cos(x.lo) * np.cos(x.hi) > 0)
    return np.where(safe, np.tan(x.lo), -INF), np.where(safe, np.tan(x.hi), INF)


def _atan2(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    """By the corners, which hold the extremes away from the cut; across it, anything that the function gives."""
    y, x = xs
    lo, hi = _corners(node, xs, value)
    cut = holds(y, 0.0) & (x.lo <= 0.0)
    return np.where(cut, -4.0, lo), np.where(cut, 4.0, hi)


def _copysign(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    x, y = xs
    least = np.where(holds(x, 0.0), 0.0, np.minimum(np.abs(x.lo), np.abs(x.hi)))
    most = np.maximum(np.abs(x.lo), np.abs(x.hi))
    lo = np.where(y.lo > 0, least, -most)
    return lo, np.where(y.hi < 0, -least, most)


def _power(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    lo, hi = _corners(node, xs, value)
    simple = xs[0].lo > 0
    return np.where(simple, lo, -INF), np.where(simple, hi, INF)


def _divided(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    """floor_divide, remainder and fmod of intervals: bounded where the quotient, rounded to an integer, is sure."""
    x, y = xs
    rounded = np.trunc if node.op.name == "fmod" else np.floor
    corners = np.stack([a / b for a in (x.lo, x.hi) for b in (y.lo, y.hi)])
    low, high = corners.min(axis=0), corners.max(axis=0)
    slack = 1e-6 * np.maximum(1.0, np.abs(low))
    quotient = rounded(low - slack)
    sure = (quotient == rounded(high + slack)) & ~holds(y, 0.0) & (np.abs(quotient) < 1e6)
    if node.op.name == "floor_divide":
        lo = hi = quotient
    else:
        products = np.stack([quotient * y.lo, quotient * y.hi])
        eps = float(ml_dtypes.finfo(value.dtype).eps) * np.maximum(np.abs(x.lo), np.abs(x.hi))
        lo, hi = x.lo - products.max(axis=0) - eps, x.hi - products.min(axis=0) + eps
    return np.where(sure, lo, -INF), np.where(sure, hi, INF)


def _neighbour(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    """nextafter: a step up or down, or none."""
    return widened(xs[0].lo, xs[0].hi, value.dtype, 2.0)


def _scale_shift(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    products = np.stack([a * b for a in (xs[0].lo, xs[0].hi) for b in (xs[1].lo, xs[1].hi)])
    lo, hi = widened(products.min(axis=0), products.max(axis=0), value.dtype, 1.0)
    return lo + xs[2].lo, hi + xs[2].hi


def _select(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    condition, x, y = xs
    if not is_float(value):
        either = np.where(condition.value, x.known, y.known) & condition.known
        return marked(either)
    lo, hi = np.where(condition.value, x.lo, y.lo), np.where(condition.value, x.hi, y.hi)
    return (
        np.where(condition.known, lo, np.minimum(x.lo, y.lo)),
        np.where(condition.known, hi, np.maximum(x.hi, y.hi)),
    )


def _convert(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    (x,) = xs
    if is_float(value):
        if x.is_float:
            return x.lo, x.hi
        return np.where(x.known, value, -INF), np.where(x.known, value, INF)
    if not x.is_float:
        return marked(x.known)
    if value.dtype.kind == "b":
        return marked(x.known | ~holds(x, 0.0))
    return marked(x.known | (x.bounded & (np.trunc(x.lo) == np.trunc(x.hi))))


def _comparison(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    x, y = xs
    if not x.is_float:
        return marked(x.known & y.known)
    return marked((x.hi < y.lo) | (x.lo > y.hi) | (x.known & y.known))


def _is_special(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    return marked(xs[0].bounded)


def _sign_bit(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    return marked(xs[0].known | (xs[0].lo > 0) | (xs[0].hi < 0))


def known_or_not(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    """Ops on integers and bools, and floats made from them: known where all operands are."""
    assert not any(x.is_float for x in xs), f"tests/enclosures.py has no rule for {node.op.name}"
    known = np.logical_and.reduce([x.known for x in xs])
    if not is_float(value):
        return marked(known)
    return np.where(known, value, -INF), np.where(known, value, INF)


_INCREASING = ("add", "maximum", "minimum", "sqrt", "sign", "floor", "ceil", "trunc", "rint", "exp", "exp2", "expm1")
_INCREASING += ("log", "log2", "log10", "log1p", "cbrt", "asin", "atan", "sinh", "tanh", "asinh", "acosh", "atanh")
_INCREASING += ("erf", "sigmoid", "normal_cdf", "normal_quantile")
_COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")


def _float_only(rule: Rule) -> Rule:
    """The rule for floats; integers are known or not."""
    return lambda node, xs, value: rule(node, xs, value) if xs[-1].is_float else known_or_not(node, xs, value)


#: Rules of elementwise ops that take floats, by name; `known_or_not` serves the others.
ELEMENTWISE: Mapping[str, Rule] = {
    **dict.fromkeys(_INCREASING, _float_only(_increasing)),
    **dict.fromkeys(("negative", "acos", "erfc"), _float_only(_decreasing)),
    **dict.fromkeys(("absolute", "square", "cosh", "hypot"), _float_only(_even)),
    **dict.fromkeys(("sin", "cos"), _lipschitz),
    **dict.fromkeys(("divide", "reciprocal"), _quotient),
    **dict.fromkeys(("floor_divide", "fmod", "remainder"), _float_only(_divided)),
    **dict.fromkeys(_COMPARISONS, _comparison),
    **dict.fromkeys(("isnan", "isinf", "isfinite"), _is_special),
    "signbit": _sign_bit,
    "subtract": _float_only(_subtract),
    "multiply": _float_only(_corners),
    "tan": _tan,
    "atan2": _atan2,
    "copysign": _copysign,
    "nextafter": _neighbour,
    "power": _power,
    "scale_shift": _scale_shift,
    "select": _select,
    "convert": _convert,
}

"""What any faithful evaluation of a graph may give: an enclosure of every element, propagated in float64.

`shadow(graph, arrays)` walks a graph once and keeps, for every value,

- `value`: what the *twin* gives, an evaluation by each op's NumPy definition where the op is exactly rounded and by its
  scalar rule through NumPy where it is not (compiled code runs the same rule, so the twin has its bits);
- `bits`: whether an evaluation must have the twin's very bits: no sum, product or dot of floats, whose order of
  summation is the implementation's, and no power (a rule rewrites power(x, 2) to the better square(x));
- for floats, an interval `lo <= y <= hi` of float64 that holds every result in which each op makes an error of at most
  its stated bound. It is a bound, not a tuned tolerance: exactly rounded ops of exactly known operands have lo = hi; an
  op with bound u ulp widens its interval by u + 4 ulp (NumPy's own functions, which the interpreter calls, are within
  4 ulp); a sum of n elements by n * eps * sum(|x|), which holds for any order; rules over intervals are those of interval
  arithmetic, with a few ulp of float64 added for the arithmetic on the ends themselves. An element that is not bounded
  (a division by an interval with zero in it, an overflow) is (-inf, inf);
- for other dtypes, `known`: where the element cannot differ, because no decision before it (a comparison, a rounding to
  an integer, a position of a maximum) is within the errors of its operands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from graphc import dtypes
from graphc.ir import registry
from graphc.ir.graph import Graph, Literal, Node, Value
from graphc.ir.op import Composite, Contraction, Elementwise, Expansion, Fused, Movement, Op, Reduction, lengthened
from graphc.ops.numpy_scalar import NumpyScalar

__all__ = ["Shadow", "agrees", "shadow", "twin"]

Array = np.ndarray[Any, Any]
Interval = tuple[Array, Array]

_SCALAR = NumpyScalar()
_INF = np.inf


@dataclass(frozen=True, slots=True)
class Shadow:
    """All that is known of a value; see the module."""

    value: Array
    bits: bool
    lo: Array
    hi: Array

    @property
    def is_float(self) -> bool:
        return dtypes.from_numpy(self.value.dtype).is_float

    @property
    def known(self) -> Array:
        """Where all evaluations agree exactly. (For dtypes other than floats, lo and hi only say this.)"""
        return np.asarray(self.lo == self.hi)

    @property
    def bounded(self) -> Array:
        """Where the element is enclosed at all."""
        return np.asarray(np.isfinite(self.lo) & np.isfinite(self.hi)) if self.is_float else self.known


def agrees(s: Shadow, found: Array) -> Array:
    """Where an evaluation's result is one of those that the shadow permits."""
    if s.is_float:
        inside = (s.lo <= found) & (found <= s.hi)
        return np.asarray(inside | ~s.bounded)
    return np.asarray((found == s.value) | ~s.known)


def shadow(graph: Graph, arrays: Sequence[Any], *, contract: bool = False) -> dict[Value, Shadow]:
    """The shadow of every value of `graph` on `arrays`; `contract` permits a product and a sum to be rounded once."""
    with np.errstate(all="ignore"):
        return _walk(graph, [_exactly(np.asarray(x)) for x in arrays], contract)


def twin(graph: Graph, arrays: Sequence[Any]) -> list[Array]:
    """The outputs of the twin alone."""
    found: dict[Value, Array] = {}
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if node.op.name == "input":
                results = [np.asarray(arrays[node.attrs["index"]])]
            elif isinstance(node.op, (Composite, Fused)):
                results = twin(node.attrs["body"], [found[v] for v in node.operands])
            else:
                results = [_twin(node, [found[v] for v in node.operands])]
            found.update(zip(node.results, results, strict=True))
    return [found[v] for v in graph.outputs]


def _walk(graph: Graph, inputs: Sequence[Shadow], contract: bool) -> dict[Value, Shadow]:
    found: dict[Value, Shadow] = {}
    for node in graph.nodes:
        operands = [found[v] for v in node.operands]
        if node.op.name == "input":
            results = [inputs[node.attrs["index"]]]
        elif isinstance(node.op, (Composite, Fused)):
            body = node.attrs["body"]
            inner = _walk(body, operands, contract)
            results = [inner[v] for v in body.outputs]
        else:
            results = [_node(node, operands, contract)]
        found.update(zip(node.results, results, strict=True))
    return found


def _node(node: Node, xs: list[Shadow], contract: bool) -> Shadow:
    value = _twin(node, [x.value for x in xs])
    exact = _is_exact(node, contract)
    bits = all(x.bits for x in xs) and (exact or not _is_unordered(node, contract))
    if all(x.known.all() for x in xs) and exact:
        return _exactly(value, bits)
    ends = _RULES_BY_NAME.get(node.op.name) or next(rule for kind, rule in _RULES_BY_KIND if isinstance(node.op, kind))
    lo, hi = ends(node, xs, value)
    if not dtypes.from_numpy(value.dtype).is_float:
        return Shadow(value, bits, *_marked(np.broadcast_to(lo == hi, value.shape)))
    certain = np.zeros(value.shape, bool)
    if exact and isinstance(node.op, Elementwise):
        certain = np.logical_and.reduce([x.known for x in xs])
    lo, hi = _widened(lo, hi, value.dtype, 0.0 if isinstance(node.op, Movement) else _ulps(node.op, value.dtype))
    lo, hi = (np.where(certain, value, end) for end in (lo, hi))
    unbounded = ~np.isfinite(lo) | ~np.isfinite(hi) | ~np.isfinite(value)
    greatest = float(ml_dtypes.finfo(value.dtype).max)
    unbounded |= (np.abs(lo) >= greatest) | (np.abs(hi) >= greatest)
    return Shadow(value, bits, np.where(unbounded, -_INF, lo), np.where(unbounded, _INF, hi))


def _exactly(value: Array, bits: bool = True) -> Shadow:
    if not dtypes.from_numpy(value.dtype).is_float:
        return Shadow(value, bits, *_marked(np.ones(value.shape, bool)))
    wide = value.astype(np.float64)
    finite = np.isfinite(wide)
    return Shadow(value, bits, np.where(finite, wide, -_INF), np.where(finite, wide, _INF))


def _marked(known: Array) -> Interval:
    """Whether the element is known, as ends that are equal where it is."""
    return np.zeros(known.shape), np.where(known, 0.0, 1.0)


def _twin(node: Node, operands: Sequence[Array]) -> Array:
    operands = [np.ascontiguousarray(x).reshape(x.shape) for x in operands]
    op = node.op
    if isinstance(op, Elementwise) and not op.exact:
        found = op.scalar(_SCALAR, *lengthened(op, operands), **node.attrs)
        return np.array(np.broadcast_to(found, operands[0].shape), node.results[0].dtype.numpy)
    (result,) = op.evaluate(operands, node.attrs)
    return np.asarray(result)


_CONTRACTED = frozenset({"add", "subtract", "multiply", "square"})


def _is_exact(node: Node, contract: bool) -> bool:
    """Whether the result is a function of the operands' bits."""
    op = node.op
    if contract and op.name in _CONTRACTED and node.results[0].dtype.is_float:
        return False
    if isinstance(op, (Elementwise, Reduction)):
        return op.exact or not node.results[0].dtype.is_float
    if isinstance(op, Expansion):
        return op.exact or not node.results[0].dtype.is_float
    return not isinstance(op, Contraction) or not node.results[0].dtype.is_float


def _is_unordered(node: Node, contract: bool) -> bool:
    """Whether not even the twin says which bits come out."""
    return not isinstance(node.op, Elementwise) or node.op.name == "power" or (contract and node.op.name in _CONTRACTED)


def _ulps(op: Op, dtype: Any) -> float:
    if isinstance(op, Elementwise) and not op.exact and not dtypes.from_numpy(dtype).is_short_float:
        return op.bound(dtypes.from_numpy(dtype)) + 4.0
    return 1.0


def _widened(lo: Array, hi: Array, dtype: Any, ulps: float) -> Interval:
    """An interval's ends moved outwards: by ulps of the dtype, and by what float64 arithmetic on the ends may have lost."""
    if ulps == 0:
        return lo, hi

    def slack(end: Array) -> Array:
        size = np.minimum(np.abs(end), float(ml_dtypes.finfo(dtype).max))
        return np.asarray(ulps * np.spacing(size.astype(dtype)).astype(np.float64) + 8 * np.spacing(size))

    return lo - slack(lo), hi + slack(hi)


# -- elementwise ------------------------------------------------------------------------------------------------------

Rule = Callable[[Node, Sequence[Shadow], Array], Interval]


def _apply(node: Node, *operands: Array) -> Array:
    """The op's NumPy definition in float64."""
    return np.asarray(node.op.evaluate([np.asarray(x, np.float64) for x in operands], node.attrs)[0], np.float64)


def _increasing(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    return _apply(node, *(x.lo for x in xs)), _apply(node, *(x.hi for x in xs))


def _decreasing(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    return _apply(node, *(x.hi for x in xs)), _apply(node, *(x.lo for x in xs))


def _corners(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    """For functions that are monotone in each operand: the extremes are at corners."""
    ends: list[list[Array]] = [[]]
    for x in xs:
        ends = [[*corner, end] for corner in ends for end in (x.lo, x.hi)]
    values = np.stack([_apply(node, *corner) for corner in ends])
    nan = np.isnan(values).any(axis=0)
    return np.where(nan, -_INF, values.min(axis=0)), np.where(nan, _INF, values.max(axis=0))


def _subtract(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    return xs[0].lo - xs[1].hi, xs[0].hi - xs[1].lo


def _holds(x: Shadow, number: float) -> Array:
    return np.asarray((x.lo <= number) & (number <= x.hi))


def _quotient(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    """divide and reciprocal: no bound where the divisor may be zero."""
    lo, hi = _corners(node, xs, value)
    pole = _holds(xs[-1], 0.0)
    return np.where(pole, -_INF, lo), np.where(pole, _INF, hi)


def _even(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    """Functions of all operands' magnitudes that grow with each of them: absolute, square, cosh, hypot."""
    least = [np.where(_holds(x, 0.0), 0.0, np.minimum(np.abs(x.lo), np.abs(x.hi))) for x in xs]
    most = [np.maximum(np.abs(x.lo), np.abs(x.hi)) for x in xs]
    return _apply(node, *least), _apply(node, *most)


def _lipschitz(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    """sin and cos: they move by no more than their operand."""
    (x,) = xs
    middle = (x.lo + x.hi) / 2
    y, radius = _apply(node, middle), (x.hi - x.lo) / 2
    # The middle is rounded, too.
    radius = radius + np.spacing(np.abs(middle))
    return np.maximum(y - radius, -1.0), np.minimum(y + radius, 1.0)


def _tan(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    (x,) = xs
    safe = (x.hi - x.lo < 1.0) & (np.cos(x.lo) * np.cos(x.hi) > 0)
    return np.where(safe, np.tan(x.lo), -_INF), np.where(safe, np.tan(x.hi), _INF)


def _atan2(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    """By the corners, which hold the extremes away from the cut; across it, anything that the function gives."""
    y, x = xs
    lo, hi = _corners(node, xs, value)
    cut = _holds(y, 0.0) & (x.lo <= 0.0)
    return np.where(cut, -4.0, lo), np.where(cut, 4.0, hi)


def _copysign(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    x, y = xs
    least = np.where(_holds(x, 0.0), 0.0, np.minimum(np.abs(x.lo), np.abs(x.hi)))
    most = np.maximum(np.abs(x.lo), np.abs(x.hi))
    lo = np.where(y.lo > 0, least, -most)
    return lo, np.where(y.hi < 0, -least, most)


def _power(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    lo, hi = _corners(node, xs, value)
    simple = xs[0].lo > 0
    return np.where(simple, lo, -_INF), np.where(simple, hi, _INF)


def _floored(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    """floor_divide and remainder of intervals: bounded where the floored quotient is sure."""
    x, y = xs
    corners = np.stack([a / b for a in (x.lo, x.hi) for b in (y.lo, y.hi)])
    low, high = corners.min(axis=0), corners.max(axis=0)
    slack = 1e-6 * np.maximum(1.0, np.abs(low))
    quotient = np.floor(low - slack)
    sure = (quotient == np.floor(high + slack)) & ~_holds(y, 0.0) & (np.abs(quotient) < 1e6)
    if node.op.name == "floor_divide":
        lo = hi = quotient
    else:
        products = np.stack([quotient * y.lo, quotient * y.hi])
        eps = float(ml_dtypes.finfo(value.dtype).eps) * np.maximum(np.abs(x.lo), np.abs(x.hi))
        lo, hi = x.lo - products.max(axis=0) - eps, x.hi - products.min(axis=0) + eps
    return np.where(sure, lo, -_INF), np.where(sure, hi, _INF)


def _scale_shift(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    products = np.stack([a * b for a in (xs[0].lo, xs[0].hi) for b in (xs[1].lo, xs[1].hi)])
    lo, hi = _widened(products.min(axis=0), products.max(axis=0), value.dtype, 1.0)
    return lo + xs[2].lo, hi + xs[2].hi


def _select(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    condition, x, y = xs
    if not dtypes.from_numpy(value.dtype).is_float:
        either = np.where(condition.value, x.known, y.known) & condition.known
        return _marked(either)
    lo, hi = np.where(condition.value, x.lo, y.lo), np.where(condition.value, x.hi, y.hi)
    return (
        np.where(condition.known, lo, np.minimum(x.lo, y.lo)),
        np.where(condition.known, hi, np.maximum(x.hi, y.hi)),
    )


def _convert(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    (x,) = xs
    if dtypes.from_numpy(value.dtype).is_float:
        if x.is_float:
            return x.lo, x.hi
        return np.where(x.known, value, -_INF), np.where(x.known, value, _INF)
    if not x.is_float:
        return _marked(x.known)
    if value.dtype.kind == "b":
        return _marked(x.known | ~_holds(x, 0.0))
    return _marked(x.known | (x.bounded & (np.trunc(x.lo) == np.trunc(x.hi))))


def _comparison(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    x, y = xs
    if not x.is_float:
        return _marked(x.known & y.known)
    return _marked((x.hi < y.lo) | (x.lo > y.hi) | (x.known & y.known))


def _is_special(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    return _marked(xs[0].bounded)


def _sign_bit(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    return _marked(xs[0].known | (xs[0].lo > 0) | (xs[0].hi < 0))


def _elementwise(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    """Ops on integers and bools, and floats made from them: known where all operands are."""
    assert not any(x.is_float for x in xs), f"tests/shadow.py has no rule for {node.op.name}"
    known = np.logical_and.reduce([x.known for x in xs])
    if not dtypes.from_numpy(value.dtype).is_float:
        return _marked(known)
    return np.where(known, value, -_INF), np.where(known, value, _INF)


# -- movement, reduction, contraction, indexing -----------------------------------------------------------------------


def _movement(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    lo, hi = ([np.asarray(getattr(x, end)) for x in xs] for end in ("lo", "hi"))
    return np.asarray(node.op.evaluate(lo, node.attrs)[0]), np.asarray(node.op.evaluate(hi, node.attrs)[0])


def _middle(x: Shadow) -> tuple[Array, Array]:
    """Middle and radius; the radius covers the middle's rounding."""
    middle = np.where(x.bounded, (x.lo + x.hi) / 2, 0.0)
    radius = np.where(x.bounded, (x.hi - x.lo) / 2 + np.where(x.known, 0.0, np.spacing(np.abs(middle))), _INF)
    return middle, radius


def _reduction(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    (x,) = xs
    axes = node.attrs["axes"]
    if node.op.name in ("argmax", "argmin"):
        return _position(node, x, value)
    if not x.is_float:
        return _marked(np.all(x.known, axis=axes))
    if node.op.name in ("max", "min"):
        return _apply(node, x.lo), _apply(node, x.hi)
    count = int(np.prod([x.value.shape[a] for a in axes]))
    middle, radius = _middle(x)
    eps = max(float(ml_dtypes.finfo(value.dtype).eps) * count, 4 * np.finfo(np.float64).eps * count)
    most = np.abs(middle) + radius
    if node.op.name == "sum":
        total, error = middle.sum(axis=axes), radius.sum(axis=axes) + eps * most.sum(axis=axes)
    else:
        total, size = middle.prod(axis=axes), most.prod(axis=axes)
        error = size - np.abs(total) + 2 * eps * size
    tiny = count * float(ml_dtypes.finfo(value.dtype).tiny)
    return total - error - tiny, total + error + tiny


def _position(node: Node, x: Shadow, value: Array) -> Interval:
    """The position of an extremum is sure if the winner is apart from all others, or everything is known."""
    (axis,) = node.attrs["axes"]
    known = np.all(x.known, axis=axis)
    if not x.is_float:
        return _marked(known)
    lo, hi = (x.lo, x.hi) if node.op.name == "argmax" else (-x.hi, -x.lo)
    winner = np.expand_dims(value, axis)
    best = np.take_along_axis(lo, winner, axis)
    others = np.array(hi)
    np.put_along_axis(others, winner, -_INF, axis)
    return _marked(known | np.all(others < best, axis=axis))


def _resampled(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    (x,) = xs
    a, da = _middle(x)
    sizes = {**node.attrs, "weights": Literal(np.abs(node.attrs["weights"].array))}
    total = _apply(node, a)
    spread, size = (np.asarray(node.op.evaluate([y], sizes)[0]) for y in (da, np.abs(a) + da))
    count = node.attrs["places"].array.shape[0] + 2
    error = spread + count * (float(ml_dtypes.finfo(value.dtype).eps) * size + float(ml_dtypes.finfo(value.dtype).tiny))
    error = np.where(np.isfinite(error), error, _INF)
    return total - error, total + error


def _windows_reduced(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    (x,) = xs
    if x.is_float:
        lo, hi = _increasing(node, xs, value)
        count = int(np.prod(node.attrs["sizes"])) + 1
        slack = 0.0
        if not _is_exact(node, False):
            slack = (
                count * float(ml_dtypes.finfo(value.dtype).eps) * _apply(node, np.maximum(np.abs(x.lo), np.abs(x.hi)))
            )
        return lo - slack, hi + slack
    unknown = registry.get("window_max").evaluate([np.asarray(~x.known, np.int64)], node.attrs)[0]
    return _marked(np.asarray(unknown == 0))


def _contraction(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    x, y = xs
    if not x.is_float:
        unknown = [np.asarray(~s.known, np.int64) for s in xs]
        ones = [np.ones(s.value.shape, np.int64) for s in xs]
        either = _dot(node, unknown[0], ones[1]) + _dot(node, ones[0], unknown[1])
        return _marked(either == 0)
    (a, da), (b, db) = _middle(x), _middle(y)
    if isinstance(node.op, Contraction):
        count = int(np.prod([x.value.shape[k] for k in node.attrs["lhs_contract"]])) + 1
    else:
        count = int(np.prod(y.value.shape[1:])) + 1
    eps = max(float(ml_dtypes.finfo(value.dtype).eps) * count, 4 * np.finfo(np.float64).eps * count)
    size = _dot(node, np.abs(a) + da, np.abs(b) + db)
    total = _dot(node, a, b)
    error = _dot(node, np.abs(a), db) + _dot(node, da, np.abs(b)) + _dot(node, da, db)
    error = error + eps * size + count * float(ml_dtypes.finfo(value.dtype).tiny)
    error = np.where(np.isfinite(error), error, _INF)
    return total - error, total + error


def _dot(node: Node, x: Array, y: Array) -> Array:
    return np.asarray(node.op.evaluate([x, y], node.attrs)[0])


def _take(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    x, indices = xs
    axis = node.attrs["axis"]
    lo, hi = (np.asarray(node.op.evaluate([end, indices.value], node.attrs)[0]) for end in (x.lo, x.hi))
    spread = (*(1,) * axis, *indices.value.shape, *(1,) * (x.value.ndim - axis - 1))
    sure = np.broadcast_to(indices.known.reshape(spread), value.shape)
    return np.where(sure, lo, -_INF), np.where(sure, hi, _INF)


def _scatter_add(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    x, indices, updates = xs

    def scattered(base: Array, added: Array) -> Array:
        return np.asarray(node.op.evaluate([base, indices.value, added], node.attrs)[0])

    if not indices.known.all():
        return np.full(value.shape, -_INF), np.full(value.shape, _INF)
    if not x.is_float:
        unknown = scattered((~x.known).astype(np.int64), (~updates.known).astype(np.int64))
        return _marked(unknown == 0)
    size = scattered(np.maximum(np.abs(x.lo), np.abs(x.hi)), np.maximum(np.abs(updates.lo), np.abs(updates.hi)))
    eps = (indices.value.size + 1) * max(float(ml_dtypes.finfo(value.dtype).eps), 4 * np.finfo(np.float64).eps)
    return scattered(x.lo, updates.lo) - eps * size, scattered(x.hi, updates.hi) + eps * size


def _same(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    return xs[0].lo, xs[0].hi


def _all_or_nothing(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    return _marked(np.full(value.shape, all(x.known.all() for x in xs)))


_INCREASING = ("add", "maximum", "minimum", "sqrt", "sign", "floor", "ceil", "trunc", "rint", "exp", "exp2", "expm1")
_INCREASING += ("log", "log2", "log10", "log1p", "cbrt", "asin", "atan", "sinh", "tanh", "asinh", "acosh", "atanh")
_INCREASING += ("erf", "sigmoid")
_COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")


def _float_only(rule: Rule) -> Rule:
    """The rule for floats; integers are known or not."""
    return lambda node, xs, value: rule(node, xs, value) if xs[-1].is_float else _elementwise(node, xs, value)


_RULES_BY_NAME: Mapping[str, Rule] = {
    **dict.fromkeys(_INCREASING, _float_only(_increasing)),
    **dict.fromkeys(("negative", "acos", "erfc"), _float_only(_decreasing)),
    **dict.fromkeys(("absolute", "square", "cosh", "hypot"), _float_only(_even)),
    **dict.fromkeys(("sin", "cos"), _lipschitz),
    **dict.fromkeys(("divide", "reciprocal"), _quotient),
    **dict.fromkeys(("floor_divide", "remainder"), _float_only(_floored)),
    **dict.fromkeys(_COMPARISONS, _comparison),
    **dict.fromkeys(("isnan", "isinf", "isfinite"), _is_special),
    "signbit": _sign_bit,
    "subtract": _float_only(_subtract),
    "multiply": _float_only(_corners),
    "tan": _tan,
    "atan2": _atan2,
    "copysign": _copysign,
    "power": _power,
    "scale_shift": _scale_shift,
    "select": _select,
    "convert": _convert,
    "take": _take,
    "scatter_add": _scatter_add,
    "barrier": _same,
    "stop_gradient": _same,
    "pure_call": _same,  # drawn with numpy.copy
    "random_bits": _all_or_nothing,
    "convolution": _contraction,
    "window_max": _windows_reduced,
    "window_min": _windows_reduced,
    "resample": _resampled,
    "window_sum": _windows_reduced,
}
_RULES_BY_KIND: tuple[tuple[type[Op], Rule], ...] = (
    (Elementwise, _elementwise),
    (Movement, _movement),
    (Reduction, _reduction),
    (Contraction, _contraction),
)

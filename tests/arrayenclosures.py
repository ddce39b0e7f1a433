"""Enclosures of ops that move, choose and combine elements, and of linear algebra. (`tests/intervals.py` explains.)"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from intervals import INF, Array, Interval, Rule, Shadow, apply, epsilon, is_float, marked, middle

from graphc.ir import registry
from graphc.ir.graph import Literal, Node
from graphc.ir.op import Contraction, Cumulative, Expansion, Host, Movement, Op, Reduction

__all__ = ["BY_KIND", "BY_NAME", "CALLS", "OF_SEVERAL"]

SeveralRule = Callable[[Node, Sequence[Shadow], Sequence[Array]], list[Interval]]

#: Calls of Python that are no linear algebra.
CALLS = ("debug_print", "host_call", "pure_call")


def _movement(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    lo, hi = ([np.asarray(getattr(x, end)) for x in xs] for end in ("lo", "hi"))
    return np.asarray(node.op.evaluate(lo, node.attrs)[0]), np.asarray(node.op.evaluate(hi, node.attrs)[0])


def _reduction(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    (x,) = xs
    axes = node.attrs["axes"]
    if node.op.name in ("argmax", "argmin"):
        return _position(node, x, value)
    if not x.is_float:
        return marked(np.all(x.known, axis=axes))
    if node.op.name in ("max", "min"):
        return apply(node, x.lo), apply(node, x.hi)
    count = int(np.prod([x.value.shape[a] for a in axes]))
    centre, radius = middle(x)
    eps = count * epsilon(value)
    most = np.abs(centre) + radius
    if node.op.name == "sum":
        total, error = centre.sum(axis=axes), radius.sum(axis=axes) + eps * most.sum(axis=axes)
    else:
        total, size = centre.prod(axis=axes), most.prod(axis=axes)
        error = size - np.abs(total) + 2 * eps * size
    tiny = count * float(ml_dtypes.finfo(value.dtype).tiny)
    return total - error - tiny, total + error + tiny


def _position(node: Node, x: Shadow, value: Array) -> Interval:
    """The position of an extremum is sure if the winner is apart from all others, or everything is known."""
    (axis,) = node.attrs["axes"]
    known = np.all(x.known, axis=axis)
    if not x.is_float:
        return marked(known)
    lo, hi = (x.lo, x.hi) if node.op.name == "argmax" else (-x.hi, -x.lo)
    winner = np.expand_dims(value, axis)
    best = np.take_along_axis(lo, winner, axis)
    others = np.array(hi)
    np.put_along_axis(others, winner, -INF, axis)
    return marked(known | np.all(others < best, axis=axis))


def _resampled(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    (x,) = xs
    a, da = middle(x)
    sizes = {**node.attrs, "weights": Literal(np.abs(node.attrs["weights"].array))}
    total = apply(node, a)
    spread, size = (np.asarray(node.op.evaluate([y], sizes)[0]) for y in (da, np.abs(a) + da))
    count = node.attrs["places"].array.shape[0] + 2
    error = spread + count * (float(ml_dtypes.finfo(value.dtype).eps) * size + float(ml_dtypes.finfo(value.dtype).tiny))
    error = np.where(np.isfinite(error), error, INF)
    return total - error, total + error


def _windows_reduced(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    (x,) = xs
    if x.is_float:
        lo, hi = apply(node, x.lo), apply(node, x.hi)
        slack: Any = 0.0
        if isinstance(node.op, Expansion) and not node.op.exact:
            count = int(np.prod(node.attrs["sizes"])) + 1
            slack = count * epsilon(value) * apply(node, np.maximum(np.abs(x.lo), np.abs(x.hi)))
        return lo - slack, hi + slack
    unknown = registry.get("window_max").evaluate([np.asarray(~x.known, np.int64)], node.attrs)[0]
    return marked(np.asarray(unknown == 0))


def _contraction(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    x, y = xs
    if not x.is_float:
        unknown = [np.asarray(~s.known, np.int64) for s in xs]
        ones = [np.ones(s.value.shape, np.int64) for s in xs]
        either = _dot(node, unknown[0], ones[1]) + _dot(node, ones[0], unknown[1])
        return marked(either == 0)
    (a, da), (b, db) = middle(x), middle(y)
    if isinstance(node.op, Contraction):
        count = int(np.prod([x.value.shape[k] for k in node.attrs["lhs_contract"]])) + 1
    else:
        count = int(np.prod(y.value.shape[1:])) + 1
    eps = count * epsilon(value)
    size = _dot(node, np.abs(a) + da, np.abs(b) + db)
    total = _dot(node, a, b)
    error = _dot(node, np.abs(a), db) + _dot(node, da, np.abs(b)) + _dot(node, da, db)
    error = error + eps * size + count * float(ml_dtypes.finfo(value.dtype).tiny)
    error = np.where(np.isfinite(error), error, INF)
    return total - error, total + error


def _dot(node: Node, x: Array, y: Array) -> Array:
    return np.asarray(node.op.evaluate([x, y], node.attrs)[0])


def _take(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    x, indices = xs
    axis = node.attrs["axis"]
    lo, hi = (np.asarray(node.op.evaluate([end, indices.value], node.attrs)[0]) for end in (x.lo, x.hi))
    spread = (*(1,) * axis, *indices.value.shape, *(1,) * (x.value.ndim - axis - 1))
    sure = np.broadcast_to(indices.known.reshape(spread), value.shape)
    return np.where(sure, lo, -INF), np.where(sure, hi, INF)


def _scattered(node: Node, base: Array, indices: Array, added: Array) -> Array:
    return np.asarray(node.op.evaluate([base, indices, added], node.attrs)[0])


def _scatter(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    """set, max and min: monotone in what is there and in what comes. Nothing is known if an index is not."""
    x, indices, updates = xs
    if not indices.known.all():
        return np.full(value.shape, -INF), np.full(value.shape, INF)
    if x.is_float:
        return tuple(  # type: ignore[return-value]
            _scattered(node, a, indices.value, b) for a, b in ((x.lo, updates.lo), (x.hi, updates.hi))
        )
    op = node.op if node.op.name == "scatter_set" else registry.get("scatter_add")
    missing = [(~s.known).astype(np.int64) for s in (x, updates)]
    return marked(op.evaluate([missing[0], indices.value, missing[1]], node.attrs)[0] == 0)


def _scatter_add(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    x, indices, updates = xs
    if not x.is_float or not indices.known.all():
        return _scatter(node, xs, value)
    most = [np.maximum(np.abs(s.lo), np.abs(s.hi)) for s in (x, updates)]
    error = (indices.value.size + 1) * epsilon(value) * _scattered(node, most[0], indices.value, most[1])
    lo, hi = _scatter(node, xs, value)
    return lo - error, hi + error


def _scatter_multiply(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    x, indices, updates = xs
    if not indices.known.all():
        return np.full(value.shape, -INF), np.full(value.shape, INF)
    if not x.is_float:
        return _scatter(node, xs, value)
    (a, da), (b, db) = middle(x), middle(updates)
    total = _scattered(node, a, indices.value, b)
    size = _scattered(node, np.abs(a) + da, indices.value, np.abs(b) + db)
    count = indices.value.size + 1
    error = size - np.abs(total) + 2 * count * epsilon(value) * size + count * float(ml_dtypes.finfo(value.dtype).tiny)
    return total - error, total + error


# -- sorting and running along an axis ----------------------------------------------------------------------------------


def _sort(node: Node, xs: Sequence[Shadow], values: Sequence[Array]) -> list[Interval]:
    """The k-th smallest lies between the k-th smallest ends. Its former position is sure if it is apart from all others."""
    (x,) = xs
    axis = node.attrs["axis"]
    all_known = np.broadcast_to(np.all(x.known, axis=axis, keepdims=True), x.value.shape)
    if not x.is_float:
        return [marked(all_known), marked(all_known)]
    lo, hi = (np.moveaxis(np.take_along_axis(end, values[1], axis), axis, -1) for end in (x.lo, x.hi))
    edge = np.full((*lo.shape[:-1], 1), INF)
    before = np.concatenate([-edge, np.maximum.accumulate(hi, axis=-1)], axis=-1)[..., :-1]
    after = np.concatenate([np.minimum.accumulate(lo[..., ::-1], axis=-1)[..., ::-1], edge], axis=-1)[..., 1:]
    apart = np.moveaxis((before < lo) & (hi < after), -1, axis)
    return [(np.sort(x.lo, axis), np.sort(x.hi, axis)), marked(all_known | apart)]


def _cumulative(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    if not is_float(value):
        step = np.logical_and.reduce([x.known for x in xs])
        return marked(_along(np.logical_and.accumulate, node, step))
    return _CUMULATIVE[node.op.name](node, xs, value)


def _along(function: Callable[..., Array], node: Node, x: Array) -> Array:
    """`accumulate` along the node's axis, in its direction."""
    axis = node.attrs["axis"]
    turned = np.flip(x, axis) if node.attrs["reverse"] else x
    found = function(turned, axis=axis)
    return np.flip(found, axis) if node.attrs["reverse"] else found


def _places(node: Node, value: Array) -> Array:
    """How many steps lead to each element."""
    return _along(np.add.accumulate, node, np.ones(value.shape))


def _cumulative_sum(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    lo, hi = (_along(np.add.accumulate, node, end) for end in (xs[0].lo, xs[0].hi))
    most = _along(np.add.accumulate, node, np.maximum(np.abs(xs[0].lo), np.abs(xs[0].hi)))
    error = _places(node, value) * epsilon(value) * most
    return lo - error, hi + error


def _cumulative_prod(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    a, radius = middle(xs[0])
    total, size = (_along(np.multiply.accumulate, node, y) for y in (a, np.abs(a) + radius))
    count = _places(node, value)
    error = size - np.abs(total) + 2 * count * epsilon(value) * size + count * float(ml_dtypes.finfo(value.dtype).tiny)
    return total - error, total + error


def _cumulative_extremum(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    return apply(node, xs[0].lo), apply(node, xs[0].hi)


def _recurrence(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    """Step after step; each rounds a product and a sum. 16-bit floats run in float32."""
    axis, reverse = node.attrs["axis"], node.attrs["reverse"]
    ends = [np.moveaxis(end, axis, 0) for x in xs for end in (x.lo, x.hi)]
    a_lo, a_hi, x_lo, x_hi = (end[::-1] if reverse else end for end in ends)
    eps = max(epsilon(value), float(np.finfo(np.float32).eps) if value.itemsize < 8 else 0.0)
    tiny = float(ml_dtypes.finfo(value.dtype).tiny)
    lo, hi = np.empty(x_lo.shape), np.empty(x_lo.shape)
    last = np.zeros(x_lo.shape[1:]), np.zeros(x_lo.shape[1:])
    for i in range(x_lo.shape[0]):
        products = np.stack([a * y for a in (a_lo[i], a_hi[i]) for y in last])
        size = np.abs(products).max(axis=0) + np.maximum(np.abs(x_lo[i]), np.abs(x_hi[i]))
        error = 2 * eps * size + tiny
        last = products.min(axis=0) + x_lo[i] - error, products.max(axis=0) + x_hi[i] + error
        lo[i], hi[i] = last
    return tuple(np.moveaxis(end[::-1] if reverse else end, 0, axis) for end in (lo, hi))  # type: ignore[return-value]


def _logsumexp(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    """Increasing in each element, with a derivative of at most 1: the errors of the steps add up."""
    lo, hi = _cumulative_extremum(node, xs, value)
    most = _along(np.maximum.accumulate, node, np.maximum(np.abs(lo), np.abs(hi)))
    error = _places(node, value) * epsilon(value) * 4 * (most + 2)
    return lo - error, hi + error


_CUMULATIVE: Mapping[str, Rule] = {
    "cumulative_sum": _cumulative_sum,
    "cumulative_prod": _cumulative_prod,
    "cumulative_max": _cumulative_extremum,
    "cumulative_min": _cumulative_extremum,
    "cumulative_logsumexp": _logsumexp,
    "linear_recurrence": _recurrence,
}


# -- linear algebra -----------------------------------------------------------------------------------------------------


def _linalg(node: Node, xs: Sequence[Shadow], values: Sequence[Array]) -> list[Interval]:
    """Results move by what the theory of perturbations says, with backward errors of some n * eps for the algorithm itself;
    singular vectors, eigenvectors and orthogonal factors may turn, and are not bounded."""
    return [
        (np.where(np.isfinite(e), y - e, -INF), np.where(np.isfinite(e), y + e, INF)) if is_float(y) else marked(e == 0)
        for y, e in zip(values, (_moved(node, xs, values, k) for k in range(len(values))), strict=True)
    ]


def _moved(node: Node, xs: Sequence[Shadow], values: Sequence[Array], number: int) -> Array:
    """How far result `number` may be from the twin's. K is the size of the inverse and r that of the operand's change:
    Weyl for singular and eigenvalues, the Neumann series for the inverse, Sun for the factor of Cholesky, Wedin for pinv."""
    y = values[number].astype(np.float64)
    name = node.op.name
    a = _read_triangle(node, xs[0].value.astype(np.float64))
    n = max(a.shape[-2:])
    r = 2 * _size(_radius(xs[0])) + 20 * n * epsilon(xs[0].value) * _size(a)
    inverse = _size(np.linalg.pinv(a))
    safe = inverse * r < 0.25
    everywhere = np.zeros(y.shape)
    if name in ("svdvals", "eigvalsh") or (name in ("svd", "eigh") and y.ndim == a.ndim - 1):
        return everywhere + r[..., None]
    if name == "det":
        return np.where(safe, 2 * np.abs(y) * ((1 + inverse * r) ** n - 1), INF)
    if name == "slogdet":
        return np.where(safe, number * (4 * n * inverse * r + epsilon(xs[0].value) * np.abs(y)), INF)
    if name in ("inv", "pinv"):
        error = 4 * inverse**2 * r
    elif name == "solve":
        error = 4 * inverse * (r * _size(y) + _size(_radius(xs[1])))
    elif name == "cholesky":
        error = 4 * _size(y) * inverse * r
    else:
        return np.full(y.shape, INF)
    return everywhere + np.where(safe, error, INF)[..., None, None]


def _read_triangle(node: Node, a: Array) -> Array:
    """The symmetric matrix that an op reads from one triangle of its operand."""
    if node.op.name not in ("cholesky", "eigh", "eigvalsh"):
        return a
    if node.attrs.get("uplo") == "U":
        a = np.swapaxes(a, -1, -2)
    return np.tril(a) + np.swapaxes(np.tril(a, -1), -1, -2)


def _radius(x: Shadow) -> Array:
    return np.where(x.bounded, np.maximum(x.hi - x.value, x.value - x.lo), INF)


def _size(a: Array) -> Array:
    return np.asarray(np.sqrt(np.square(a).sum(axis=(-2, -1))))


# -- the rest -----------------------------------------------------------------------------------------------------------


def _same(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    return xs[0].lo, xs[0].hi


def _all_or_nothing(node: Node, xs: Sequence[Shadow], value: Array) -> Interval:
    return marked(np.full(value.shape, all(x.known.all() for x in xs)))


#: Rules of ops with one result, by name or else by kind.
BY_NAME: Mapping[str, Rule] = {
    "barrier": _same,
    "convolution": _contraction,
    "pure_call": _same,  # drawn with numpy.copy
    "random_bits": _all_or_nothing,
    "resample": _resampled,
    "scatter_add": _scatter_add,
    "scatter_multiply": _scatter_multiply,
    "stop_gradient": _same,
    "take": _take,
    **dict.fromkeys(("scatter_max", "scatter_min", "scatter_set"), _scatter),
    **dict.fromkeys(("window_max", "window_min", "window_sum"), _windows_reduced),
}
BY_KIND: tuple[tuple[type[Op], Rule], ...] = (
    (Contraction, _contraction),
    (Cumulative, _cumulative),
    (Movement, _movement),
    (Reduction, _reduction),
)
#: Rules that give the ends for each of several results.
OF_SEVERAL: Mapping[str, SeveralRule] = {
    "sort": _sort,
    **{op.name: _linalg for op in registry.all_ops() if isinstance(op, Host) and op.name not in CALLS},
}

"""Indexing: elements chosen by run-time indices along one axis. Layer 2.

`mode` says what an index outside of 0 <= i < n means: `raise`, -n <= i < 0 counts from the end, anything else is a
BoundsError; `wrap`, modulo n; `clip`, the nearest end (negative indices are 0). These are `numpy.take`'s modes. An empty
axis cannot be indexed in any mode, except by no index at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from graphc.dtypes import int64, uint64
from graphc.errors import BoundsError, DTypeError, ShapeError
from graphc.ir.batching import Batched, Examples, moved, spread_mask, with_axis
from graphc.ir.dims import Dim, product
from graphc.ir.op import Builder, Indexing, TypeRule, type_error
from graphc.ir.registry import register
from graphc.ir.scalar import S, Scalar
from graphc.ir.types import Shape, TensorType, Type
from graphc.ops.arithmetic import maximum, minimum
from graphc.ops.rules import same_any, same_number, same_real

__all__ = [
    "MODES",
    "bounds_message",
    "position",
    "scatter_add",
    "scatter_max",
    "scatter_min",
    "scatter_multiply",
    "scatter_set",
    "take",
]

Array = NDArray[Any]

MODES = ("raise", "wrap", "clip")


def bounds_message(index: int, axis: int, size: int) -> str:
    """The text of a BoundsError, NumPy's words."""
    return f"index {index} is out of bounds for axis {axis} with size {size}"


def position(s: Scalar, index: S, size: S, mode: str) -> tuple[S, S | None]:
    """Lowering of an index: the position, always within a nonempty axis, and for `raise` whether the index was legal.

    `index` is an integer value of the protocol, `size` an i64 one.
    """
    index = _signed(s, index, size, mode)
    dtype = s.dtype(index)
    zero, one = s.const(dtype, 0), s.const(dtype, 1)
    negative = s.lt(index, zero)
    if mode == "clip":
        last = s.sub(size, one)
        return s.select(negative, zero, s.select(s.gt(index, last), last, index)), None
    if mode == "wrap":
        rest = s.irem(index, s.select(s.gt(size, zero), size, one))
        return s.select(s.lt(rest, zero), s.add(rest, size), rest), None
    found = s.select(negative, s.add(index, size), index)
    legal = s.and_(s.ge(found, zero), s.lt(found, size))
    return s.select(legal, found, zero), legal


def _signed(s: Scalar, index: S, size: S, mode: str) -> S:
    """An index as i64. u64 indices from 2**63 on, which i64 does not have, become others that mean the same."""
    if s.dtype(index) is not uint64:
        return s.convert(index, int64)
    if mode == "wrap":
        one = s.const(int64, 1)
        return s.convert(s.irem(index, s.convert(s.select(s.gt(size, one), size, one), uint64)), int64)
    found = s.convert(index, int64)
    return s.select(s.lt(found, s.const(int64, 0)), s.const(int64, 2**63 - 1), found)


def _positions(name: str, indices: Array, axis: int, size: int, mode: str) -> Array:
    """Indices as positions; raises BoundsError."""
    if indices.dtype != np.uint64:
        # A size need not fit the indices' own dtype.
        indices = indices.astype(np.int64)
    if size == 0 and indices.size:
        raise BoundsError(f"{name}: {bounds_message(int(indices.flat[0]), axis, size)}")
    if mode == "clip":
        return np.asarray(np.clip(indices, 0, max(size - 1, 0)).astype(np.int64))
    if mode == "wrap":
        return np.asarray(indices % indices.dtype.type(max(size, 1))).astype(np.int64)
    illegal = (indices < -size) | (indices >= size) if indices.dtype.kind == "i" else indices >= size
    if illegal.any():
        raise BoundsError(f"{name}: {bounds_message(int(indices[illegal].flat[0]), axis, size)}")
    found = indices.astype(np.int64)
    return np.where(found < 0, found + size, found)


def _check(
    name: str, x: Type, indices: Type, axis: int, mode: str, operands: Sequence[Type]
) -> tuple[TensorType, Shape]:
    """The operand as a tensor and the shape of what is taken."""
    if not isinstance(x, TensorType) or not isinstance(indices, TensorType):
        raise DTypeError(type_error(name, "takes tensors, not tokens", operands))
    if not indices.dtype.is_integer:
        raise DTypeError(type_error(name, "indices must be integers", operands))
    if not 0 <= axis < x.rank:
        raise ShapeError(type_error(name, f"axis {axis} is not an axis of an operand of rank {x.rank}", operands))
    if mode not in MODES:
        raise ShapeError(f"{name}: mode must be one of {', '.join(MODES)}, not {mode!r}")
    return x, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


# -- batches ------------------------------------------------------------------------------------------------------------


def _guarded(b: Builder, indices: Any, batched: bool, examples: Examples) -> Any:
    """Indices of examples that do not count are 0: what is out of range for them is no error."""
    if examples.active is None or product(b.type(indices).shape) == 0:
        return indices
    if batched:
        counts = spread_mask(b, examples.active, indices)
    else:
        counts = b.broadcast(b.any(examples.active, axes=(0,)), shape=b.type(indices).shape)
    return b.select(counts, indices, b.like(indices, 0))


def _flat_positions(b: Builder, indices: Any, extent: Dim, size: Dim, mode: str) -> Any:
    """Positions in `size` axes of `extent` elements laid end to end, for indices [size, ..] into each of them. Checked
    here."""
    shape = b.type(indices).shape
    inside = b.take(b.iota(shape=(extent,), axis=0, dtype=int64), indices, axis=0, mode=mode)
    first = b.iota(shape=shape, axis=0, dtype=int64)
    if isinstance(extent, int):
        return b.add(inside, b.multiply(first, extent))
    stride = b.sum(b.full((extent,), 1, int64), axes=(0,))
    return b.add(inside, b.multiply(first, b.broadcast(stride, shape=shape)))


def _end_to_end(b: Builder, x: Any, axis: int) -> Any:
    """[size, a, n, c] as [size * n, a, c], where n is axis `axis` of an example."""
    x = moved(b, x, axis + 1, 1)
    size, extent, *rest = b.type(x).shape
    return b.reshape(x, shape=(size * extent, *rest))


def _permuted(b: Builder, x: Any, perm: tuple[int, ...]) -> Any:
    return x if perm == tuple(range(len(perm))) else b.transpose(x, perm=perm)


def _take_batch(
    b: Builder, operands: Sequence[Any], batched: Sequence[bool], examples: Examples, axis: int, mode: str
) -> Batched:
    x, indices = operands
    if mode == "raise":
        indices = _guarded(b, indices, batched[1], examples)
    if not batched[1]:
        return [b.take(x, indices, axis=axis + batched[0], mode=mode)], [batched[0]]
    if not batched[0]:
        return [moved(b, b.take(x, indices, axis=axis, mode=mode), axis, 0)], [True]
    places = _flat_positions(b, indices, b.type(x).shape[axis + 1], examples.size, mode)
    y = b.take(_end_to_end(b, x, axis), places, axis=0, mode="clip")
    # [size, i, a, c] --> [size, a, i, c]
    rank = b.type(indices).rank
    axes = range(b.type(y).rank)
    return [_permuted(b, y, (0, *axes[rank : rank + axis], *axes[1:rank], *axes[rank + axis :]))], [True]


def _scatter_batch(name: str) -> Callable[..., Batched]:
    def rule(
        b: Builder, operands: Sequence[Any], batched: Sequence[bool], examples: Examples, axis: int, mode: str
    ) -> Batched:
        write = getattr(b, name)
        x, indices, updates = operands
        if mode == "raise":
            indices = _guarded(b, indices, batched[1], examples)
        if not any(batched):
            return [write(x, indices, updates, axis=axis, mode=mode)], [False]
        size = examples.size
        x, updates = with_axis(b, x, batched[0], size), with_axis(b, updates, batched[2], size)
        if not batched[1]:
            return [write(x, indices, updates, axis=axis + 1, mode=mode)], [True]
        places = _flat_positions(b, indices, b.type(x).shape[axis + 1], size, mode)
        # [size, a, i, c] --> [size, i, a, c]
        rank = b.type(indices).rank - 1
        axes = range(b.type(updates).rank)
        perm = (0, *axes[axis + 1 : axis + 1 + rank], *axes[1 : axis + 1], *axes[axis + 1 + rank :])
        flat = _end_to_end(b, x, axis)
        y = write(flat, places, _permuted(b, updates, perm), axis=0, mode="clip")
        apart = (size, b.type(x).shape[axis + 1], *b.type(flat).shape[1:])
        return [moved(b, b.reshape(y, shape=apart), 1, axis + 1)], [True]

    return rule


# -- reading ------------------------------------------------------------------------------------------------------------


def _take_rule(*operands: Type, axis: int, mode: str) -> tuple[Type, ...]:
    if len(operands) != 2:
        raise ShapeError(type_error("take", f"takes 2 operands, got {len(operands)}", operands))
    x, shape = _check("take", operands[0], operands[1], axis, mode, operands)
    return (TensorType(x.dtype, shape),)


def _take_numpy(x: Array, indices: Array, axis: int, mode: str) -> Array:
    return np.asarray(np.take(x, _positions("take", indices, axis, x.shape[axis], mode), axis=axis))


def _take_vjp(b: Builder, operands: Any, results: Any, cotangents: Any, axis: int, mode: str) -> list[Any]:
    x, indices = operands
    return [b.scatter_add(b.like(x, 0.0), indices, cotangents[0], axis=axis, mode=mode), None]


take = register(
    Indexing(
        name="take",
        doc="""y[a, i, b] = x[a, indices[i], b] where a runs over the axes before `axis`, b over those after it and i
        over all axes of the integer `indices`; y has shape x.shape[:axis] + indices.shape + x.shape[axis+1:]. Bits
        are copied, NaN included. Empty indices give an empty result. For `mode` see the module; the derivative adds
        up (scatter_add).""",
        attributes=("axis", "mode"),
        rule=_take_rule,
        numpy=_take_numpy,
        narrow=True,
        vjp=_take_vjp,
        linear="together",
        batching=_take_batch,
        fallible=True,
    )
)


def _scatter_rule(name: str, accepts: TypeRule) -> Callable[..., tuple[Type, ...]]:
    def rule(*operands: Type, axis: int, mode: str) -> tuple[Type, ...]:
        if len(operands) != 3:
            raise ShapeError(type_error(name, f"takes 3 operands, got {len(operands)}", operands))
        x, shape = _check(name, operands[0], operands[1], axis, mode, operands)
        try:
            accepts(x.dtype)
        except DTypeError as error:
            raise DTypeError(type_error(name, str(error), operands)) from None
        if operands[2] != TensorType(x.dtype, shape):
            raise ShapeError(type_error(name, f"updates must be {TensorType(x.dtype, shape)}", operands))
        return (x,)

    return rule


def _scatter_numpy(name: str, write: Callable[[Array, Any, Array], None]) -> Callable[..., Array]:
    def numpy(x: Array, indices: Array, updates: Array, axis: int, mode: str) -> Array:
        result = np.array(x, order="C")
        where = _positions(name, indices, axis, x.shape[axis], mode)
        write(result, (*(slice(None),) * axis, where), updates)
        return result

    return numpy


def _scatter(
    name: str,
    doc: str,
    write: Callable[[Array, Any, Array], None],
    combine: Callable[[Scalar, S, S], S],
    vjp: Callable[..., list[Any]],
    types: TypeRule,
    *,
    narrow: bool = False,
    linear: Literal["", "together"] = "",
) -> Indexing:
    return register(
        Indexing(
            name=name,
            doc=doc,
            attributes=("axis", "mode"),
            rule=_scatter_rule(name, types),
            numpy=_scatter_numpy(name, write),
            combine=combine,
            vjp=vjp,
            batching=_scatter_batch(name),
            narrow=narrow,
            linear=linear,
            fallible=True,
        )
    )


def _scatter_add_vjp(b: Builder, operands: Any, results: Any, cotangents: Any, axis: int, mode: str) -> list[Any]:
    ct = cotangents[0]
    return [ct, None, b.take(ct, operands[1], axis=axis, mode=mode)]


scatter_add = _scatter(
    "scatter_add",
    """A copy of x (operand 0) to which for every i, in row-major order of `indices` (operand 1), updates[a, i, b] (operand 2)
    is added at [a, indices[i], b]; each addition is rounded, integers wrap. `updates` has the shape of `take`'s result.
    Empty indices give x.""",
    np.add.at,
    lambda s, old, new: s.add(old, new),
    _scatter_add_vjp,
    same_number,
    linear="together",
)


def _assign(x: Array, at: Any, updates: Array) -> None:
    x[at] = updates


def _scatter_set_vjp(b: Builder, operands: Any, results: Any, cotangents: Any, axis: int, mode: str) -> list[Any]:
    """What was overwritten gets nothing: neither elements of x nor updates that a later one replaced. To know these, the
    numbers of the updates are written in the same way, and read back."""
    x, indices, updates = operands
    ct = cotangents[0]
    shape = b.type(indices).shape
    number = b.reshape(b.iota(shape=(product(shape),), axis=0, dtype=int64), shape=shape)
    trailing = len(b.type(x).shape) - axis - 1
    number = b.reshape(number, shape=(*shape, *(1,) * trailing))
    number = b.broadcast(number, shape=b.type(updates).shape)
    unwritten = b.full(b.type(x).shape, -1, int64)
    written = b.scatter_set(unwritten, indices, number, axis=axis, mode=mode)
    last = b.equal(b.take(written, indices, axis=axis, mode=mode), number)
    kept = b.equal(written, unwritten)
    return [(ct, kept), None, (b.take(ct, indices, axis=axis, mode=mode), last)]


scatter_set = _scatter(
    "scatter_set",
    """A copy of x (operand 0) in which for every i, in row-major order of `indices` (operand 1), the element at [a, indices[i],
    b] is replaced by updates[a, i, b] (operand 2): of repeated indices the last one wins, as in NumPy. Bits are copied.""",
    _assign,
    lambda s, old, new: new,
    _scatter_set_vjp,
    same_any,
    narrow=True,
    linear="together",
)


def _scatter_extremum_vjp(b: Builder, operands: Any, results: Any, cotangents: Any, axis: int, mode: str) -> list[Any]:
    """All candidates equal to the extremum, the old element and updates, share equally."""
    x, indices, updates = operands
    ct, y = cotangents[0], results[0]
    dtype = b.type(x).dtype
    taken = b.take(y, indices, axis=axis, mode=mode)
    old, new = b.equal(x, y), b.equal(updates, taken)
    count = b.scatter_add(b.convert(old, dtype=dtype), indices, b.convert(new, dtype=dtype), axis=axis, mode=mode)
    share = b.divide(ct, count)
    return [(share, old), None, (b.take(share, indices, axis=axis, mode=mode), new)]


scatter_max = _scatter(
    "scatter_max",
    """A copy of x (operand 0) in which for every i the element at [a, indices[i], b] (operand 1) is raised to updates[a, i, b]
    (operand 2) where that is greater; NaN of either stays. Derivative: equal candidates share equally.""",
    np.maximum.at,
    lambda s, old, new: maximum.scalar(s, new, old),
    _scatter_extremum_vjp,
    same_real,
)

scatter_min = _scatter(
    "scatter_min",
    """A copy of x (operand 0) in which for every i the element at [a, indices[i], b] (operand 1) is lowered to updates[a, i, b]
    (operand 2) where that is less; NaN of either stays. Derivative: equal candidates share equally.""",
    np.minimum.at,
    lambda s, old, new: minimum.scalar(s, new, old),
    _scatter_extremum_vjp,
    same_real,
)


def _scatter_multiply_vjp(b: Builder, operands: Any, results: Any, cotangents: Any, axis: int, mode: str) -> list[Any]:
    x, indices, updates = operands
    ct = cotangents[0]
    factors = b.scatter_multiply(b.like(x, 1.0), indices, updates, axis=axis, mode=mode)
    whole = b.take(b.multiply(ct, results[0]), indices, axis=axis, mode=mode)
    return [b.multiply(ct, factors), None, b.divide(whole, updates)]


scatter_multiply = _scatter(
    "scatter_multiply",
    """A copy of x (operand 0) in which for every i, in row-major order of `indices` (operand 1), the element at [a, indices[i],
    b] is multiplied by updates[a, i, b] (operand 2); integers wrap. The derivative by updates divides by them: NaN at 0.""",
    np.multiply.at,
    lambda s, old, new: s.mul(old, new),
    _scatter_multiply_vjp,
    same_real,
)

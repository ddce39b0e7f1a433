"""Contraction: `dot`, the general product of two tensors. Layer 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.errors import ShapeError
from graphc.ir.batching import Batched, Examples, moved
from graphc.ir.op import Builder, Contraction, conjugated
from graphc.ir.registry import register
from graphc.ir.types import Shape
from graphc.ops.rules import same_number

__all__ = ["dot", "free_axes"]

Array = NDArray[Any]
Axes = tuple[int, ...]


def free_axes(rank: int, batch: Axes, contract: Axes) -> Axes:
    """The axes that are neither batch nor contracted, in order."""
    return tuple(k for k in range(rank) if k not in batch and k not in contract)


def _shape(x: Shape, y: Shape, lhs_batch: Axes, rhs_batch: Axes, lhs_contract: Axes, rhs_contract: Axes) -> Shape:
    for side, shape, batch, contract in (("lhs", x, lhs_batch, lhs_contract), ("rhs", y, rhs_batch, rhs_contract)):
        used = (*batch, *contract)
        if len(set(used)) != len(used) or any(not 0 <= k < len(shape) for k in used):
            raise ShapeError(
                f"{side}_batch {batch} and {side}_contract {contract} are not distinct axes of rank {len(shape)}"
            )
    for what, left, right in (("batch", lhs_batch, rhs_batch), ("contract", lhs_contract, rhs_contract)):
        if [x[k] for k in left] != [y[k] for k in right]:
            raise ShapeError(f"lhs_{what} {left} and rhs_{what} {right} must have equal sizes")
    return (
        *(x[k] for k in lhs_batch),
        *(x[k] for k in free_axes(len(x), lhs_batch, lhs_contract)),
        *(y[k] for k in free_axes(len(y), rhs_batch, rhs_contract)),
    )


def _numpy(x: Array, y: Array, lhs_batch: Axes, rhs_batch: Axes, lhs_contract: Axes, rhs_contract: Axes) -> Array:
    """As one (batched) matrix product."""
    shape = _shape(x.shape, y.shape, lhs_batch, rhs_batch, lhs_contract, rhs_contract)
    left = free_axes(x.ndim, lhs_batch, lhs_contract)
    right = free_axes(y.ndim, rhs_batch, rhs_contract)
    batch = prod(x.shape[k] for k in lhs_batch)
    rows, inner, columns = (
        prod(x.shape[k] for k in left),
        prod(x.shape[k] for k in lhs_contract),
        prod(y.shape[k] for k in right),
    )
    a = np.transpose(x, (*lhs_batch, *left, *lhs_contract)).reshape(batch, rows, inner)
    b = np.transpose(y, (*rhs_batch, *rhs_contract, *right)).reshape(batch, inner, columns)
    product = np.matmul(a[0], b[0]) if batch == 1 else np.matmul(a, b)
    return np.reshape(product, shape)  # type: ignore[arg-type]


def _vjp(
    b: Builder, ct: Any, x: Any, y: Any, lhs_batch: Axes, rhs_batch: Axes, lhs_contract: Axes, rhs_contract: Axes
) -> Sequence[Any]:
    rank_x, rank_y = b.type(x).rank, b.type(y).rank
    x, y = conjugated(b, x), conjugated(b, y)
    batch = tuple(range(len(lhs_batch)))
    left = len(free_axes(rank_x, lhs_batch, lhs_contract))
    first = len(batch)
    ct_left = tuple(range(first, first + left))
    ct_right = tuple(range(first + left, first + left + len(free_axes(rank_y, rhs_batch, rhs_contract))))
    return [
        _cotangent(b, ct, y, (batch, ct_right), (rhs_batch, rhs_contract), (lhs_batch, lhs_contract), rank_x),
        _cotangent(b, ct, x, (batch, ct_left), (lhs_batch, lhs_contract), (rhs_batch, rhs_contract), rank_y),
    ]


def _cotangent(
    b: Builder,
    ct: Any,
    other: Any,
    ct_axes: tuple[Axes, Axes],
    other_numbers: tuple[Axes, Axes],
    own_numbers: tuple[Axes, Axes],
    rank: int,
) -> Any:
    """The cotangent of one operand: contract `ct` with the other operand over that one's free axes, and put the result's
    axes (batch, own free, other's contracted axes in order) where they are in the operand."""
    ct_batch, ct_contract = ct_axes
    other_batch, other_contract = other_numbers
    own_batch, own_contract = own_numbers
    other_free = free_axes(b.type(other).rank, other_batch, other_contract)
    own_free = free_axes(rank, own_batch, own_contract)
    contracted = tuple(own for _, own in sorted(zip(other_contract, own_contract, strict=True)))
    # Either order of the operands is right; one of them may give the axes as the operand has them, without a transpose.
    if (*own_batch, *contracted, *own_free) == tuple(range(rank)):
        return b.dot(
            other, ct, lhs_batch=other_batch, rhs_batch=ct_batch, lhs_contract=other_free, rhs_contract=ct_contract
        )
    product = b.dot(
        ct, other, lhs_batch=ct_batch, rhs_batch=other_batch, lhs_contract=ct_contract, rhs_contract=other_free
    )
    places = (*own_batch, *own_free, *contracted)
    perm = tuple(places.index(k) for k in range(rank))
    return product if perm == tuple(range(rank)) else b.transpose(product, perm=perm)


def _batch(
    b: Builder,
    operands: Sequence[Any],
    batched: Sequence[bool],
    examples: Examples,
    lhs_batch: Axes,
    rhs_batch: Axes,
    lhs_contract: Axes,
    rhs_contract: Axes,
) -> Batched:
    """Examples of both operands are a batch axis. Those of one are a free axis, of a product that stays one: `w @ x` for many
    vectors x is a product of two matrices. Its axes come last where it stands right, unless the operands change places, which
    they may: every product is the same."""
    x, y = operands
    left, right = _Side(lhs_batch, lhs_contract).shifted(batched[0]), _Side(rhs_batch, rhs_contract).shifted(batched[1])
    if all(batched):
        left, right = _Side((0, *left.batch), left.contract), _Side((0, *right.batch), right.contract)
        return [_product(b, x, y, left, right)], [True]
    if batched[0]:
        return [moved(b, _product(b, x, y, left, right), len(lhs_batch), 0)], [True]
    own = len(free_axes(b.type(x).rank, lhs_batch, lhs_contract))
    if own == 0 or b.type(y).rank == len(rhs_batch) + len(rhs_contract) + 1:
        turned = _product(b, y, x, right, left)
        return [moved(b, turned, len(lhs_batch), 0)], [True]
    return [moved(b, _product(b, x, y, left, right), len(lhs_batch) + own, 0)], [True]


@dataclass(frozen=True, slots=True)
class _Side:
    """The axes of one operand of a product."""

    batch: Axes
    contract: Axes

    def shifted(self, batched: bool) -> _Side:
        """The axes with one more in front."""
        if not batched:
            return self
        return _Side(tuple(axis + 1 for axis in self.batch), tuple(axis + 1 for axis in self.contract))


def _product(b: Builder, x: Any, y: Any, left: _Side, right: _Side) -> Any:
    return b.dot(
        x, y, lhs_batch=left.batch, rhs_batch=right.batch, lhs_contract=left.contract, rhs_contract=right.contract
    )


dot = register(
    Contraction(
        name="dot",
        doc="""z[batch, i, j] = sum over k of x[batch, i, k] * y[batch, k, j]. lhs_batch pairs with rhs_batch,
        lhs_contract with rhs_contract; the result has the batch axes, then the free axes of x, then those of y, each
        in order. Integers wrap. A sum over no elements is 0; 0 * inf is NaN. The order of summation is unspecified
        but fixed.""",
        attributes=("lhs_batch", "rhs_batch", "lhs_contract", "rhs_contract"),
        types=same_number,
        shape=_shape,
        numpy=_numpy,
        vjp=_vjp,
        batching=_batch,
    )
)

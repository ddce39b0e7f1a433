"""Sorting: elements in ascending order along one axis, stable, with their former positions. Layer 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.dtypes import int64
from graphc.errors import DTypeError, ShapeError
from graphc.ir.op import Builder, Sorting, type_error
from graphc.ir.registry import register
from graphc.ir.scalar import S, Scalar
from graphc.ir.types import TensorType, Type
from graphc.ops.cumulative import scatter_along
from graphc.ops.rules import same_ordered

__all__ = ["sort"]

Array = NDArray[Any]


def _rule(*operands: Type, axis: int) -> tuple[Type, ...]:
    if len(operands) != 1:
        raise ShapeError(type_error("sort", f"takes 1 operand, got {len(operands)}", operands))
    (x,) = operands
    if not isinstance(x, TensorType):
        raise DTypeError(type_error("sort", "takes tensors, not tokens", operands))
    if not 0 <= axis < x.rank:
        raise ShapeError(type_error("sort", f"axis {axis} is not an axis of the operand", operands))
    try:
        same_ordered(x.dtype)
    except DTypeError as error:
        raise DTypeError(type_error("sort", str(error), operands)) from None
    return (x, TensorType(int64, x.shape))


def _before(s: Scalar, x: S, y: S) -> S:
    """x < y, where NaN comes after all numbers and False before True."""
    dtype = s.dtype(x)
    if dtype.is_bool:
        return s.and_(s.not_(x), y)
    if not dtype.is_float:
        return s.lt(x, y)
    return s.or_(s.lt(x, y), s.and_(s.ne(y, y), s.eq(x, x)))


def _numpy(x: Array, axis: int) -> tuple[Array, Array]:
    indices = np.argsort(x, axis=axis, kind="stable").astype(np.int64)
    return np.take_along_axis(x, indices, axis=axis), indices


def _vjp(
    b: Builder, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any], axis: int
) -> list[Any]:
    """Each cotangent goes back to where its element came from."""
    if cotangents[0] is None or not b.type(operands[0]).dtype.is_float:
        return [None]
    return [scatter_along(b, results[1], cotangents[0], axis)]


sort = register(
    Sorting(
        name="sort",
        doc="""(y, i): the elements of x in ascending order along `axis` and the positions (i64) they had; equal elements,
        also zeros of different signs, keep their order; NaN comes last. An empty axis stays empty.""",
        attributes=("axis",),
        rule=_rule,
        numpy=_numpy,
        before=_before,
        vjp=_vjp,
    )
)

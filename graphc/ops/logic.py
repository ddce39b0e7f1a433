"""Comparisons, tests, logic, bits and choice: elementwise and exact. Layer 2. Empty operands give an empty result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.dtypes import DType, bool_
from graphc.errors import DTypeError
from graphc.ir.op import Builder, Elementwise, Masked
from graphc.ir.registry import register
from graphc.ir.scalar import S, Scalar
from graphc.ops.mathbase import INTEGER
from graphc.ops.rules import (
    comparison,
    equality,
    float_to_bool,
    inexact_to_bool,
    same_any,
    same_bits,
    same_bool,
    same_integer,
)

__all__ = [
    "bitwise_and",
    "bitwise_invert",
    "bitwise_or",
    "bitwise_xor",
    "equal",
    "greater",
    "greater_equal",
    "isfinite",
    "isinf",
    "isnan",
    "left_shift",
    "less",
    "less_equal",
    "logical_not",
    "not_equal",
    "right_shift",
    "select",
    "signbit",
]


def _compare(
    name: str,
    symbol: str,
    nan: str,
    numpy: Callable[..., Any],
    scalar: Callable[..., S],
    types: Callable[..., DType] = comparison,
    parts: Callable[..., Any] | None = None,
) -> Elementwise:
    return register(
        Elementwise(
            name=name,
            doc=f"z = x {symbol} y, a bool; {nan} where an operand is NaN; -0.0 equals +0.0; False is less than True.",
            arity=2,
            types=types,
            numpy=numpy,
            scalar=scalar,
            parts=parts,
        )
    )


def _in_parts(test: str, both: str) -> Callable[..., Any]:
    """A test of complex numbers: of each part, put together."""

    def parts(b: Builder, *operands: tuple[Any, Any]) -> Any:
        found = (getattr(b, test)(*(x[part] for x in operands)) for part in (0, 1))
        return getattr(b, both)(*found)

    return parts


def _less_scalar(s: Scalar, x: S, y: S) -> S:
    return s.and_(s.not_(x), y) if s.dtype(x).is_bool else s.lt(x, y)


def _less_equal_scalar(s: Scalar, x: S, y: S) -> S:
    return s.or_(s.not_(x), y) if s.dtype(x).is_bool else s.le(x, y)


equal = _compare(
    "equal", "==", "False", np.equal, lambda s, x, y: s.eq(x, y), equality, _in_parts("equal", "bitwise_and")
)
not_equal = _compare(
    "not_equal", "!=", "True", np.not_equal, lambda s, x, y: s.ne(x, y), equality, _in_parts("not_equal", "bitwise_or")
)
less = _compare("less", "<", "False", np.less, _less_scalar)
less_equal = _compare("less_equal", "<=", "False", np.less_equal, _less_equal_scalar)
greater = _compare("greater", ">", "False", np.greater, lambda s, x, y: _less_scalar(s, y, x))
greater_equal = _compare("greater_equal", ">=", "False", np.greater_equal, lambda s, x, y: _less_equal_scalar(s, y, x))

isnan = register(
    Elementwise(
        name="isnan",
        doc="y = whether x is NaN, of complex numbers whether a part is; False for infinities.",
        arity=1,
        types=inexact_to_bool,
        numpy=np.isnan,
        scalar=lambda s, x: s.ne(x, x),
        parts=_in_parts("isnan", "bitwise_or"),
    )
)

isinf = register(
    Elementwise(
        name="isinf",
        doc="y = whether x is +inf or -inf, of complex numbers whether a part is; False for NaN.",
        arity=1,
        types=inexact_to_bool,
        numpy=np.isinf,
        scalar=lambda s, x: s.eq(s.abs(x), s.const(s.dtype(x), float("inf"))),
        parts=_in_parts("isinf", "bitwise_or"),
    )
)

isfinite = register(
    Elementwise(
        name="isfinite",
        doc="y = whether x is neither infinite nor NaN; of complex numbers whether both parts are so.",
        arity=1,
        types=inexact_to_bool,
        numpy=np.isfinite,
        scalar=lambda s, x: s.lt(s.abs(x), s.const(s.dtype(x), float("inf"))),
        parts=_in_parts("isfinite", "bitwise_and"),
    )
)

signbit = register(
    Elementwise(
        name="signbit",
        doc="y = whether the sign bit of x is set: True for -0.0, -inf and NaN with that bit.",
        arity=1,
        types=float_to_bool,
        numpy=np.signbit,
        scalar=lambda s, x: s.lt(s.bitcast(x, INTEGER[s.dtype(x)]), s.const(INTEGER[s.dtype(x)], 0)),
    )
)

logical_not = register(
    Elementwise(
        name="logical_not",
        doc="y = not x, for bools only; see bitwise_invert.",
        arity=1,
        types=same_bool,
        numpy=np.logical_not,
        scalar=lambda s, x: s.not_(x),
    )
)

bitwise_and = register(
    Elementwise(
        name="bitwise_and",
        doc="z = x & y, bit by bit; logical and for bools.",
        arity=2,
        types=same_bits,
        numpy=np.bitwise_and,
        scalar=lambda s, x, y: s.and_(x, y),
    )
)

bitwise_or = register(
    Elementwise(
        name="bitwise_or",
        doc="z = x | y, bit by bit; logical or for bools.",
        arity=2,
        types=same_bits,
        numpy=np.bitwise_or,
        scalar=lambda s, x, y: s.or_(x, y),
    )
)

bitwise_xor = register(
    Elementwise(
        name="bitwise_xor",
        doc="z = x ^ y, bit by bit; exclusive or for bools.",
        arity=2,
        types=same_bits,
        numpy=np.bitwise_xor,
        scalar=lambda s, x, y: s.xor(x, y),
    )
)

bitwise_invert = register(
    Elementwise(
        name="bitwise_invert",
        doc="y = ~x, bit by bit; logical not for bools.",
        arity=1,
        types=same_bits,
        numpy=np.invert,
        scalar=lambda s, x: s.not_(x),
    )
)


def _shift(s: Scalar, x: S, n: S, by: Callable[[S, int], S], beyond: S) -> S:
    """Shift by a variable n in powers of two; `beyond` for n outside of 0 <= n < width."""
    dtype = s.dtype(x)
    zero = s.const(dtype, 0)
    y = x
    for k in range(dtype.bits.bit_length() - 1):
        taken = s.ne(s.and_(n, s.const(dtype, 1 << k)), zero)
        y = s.select(taken, by(y, 1 << k), y)
    inside = s.eq(s.and_(n, s.const(dtype, -dtype.bits)), zero)
    return s.select(inside, y, beyond)


def _right_shift_scalar(s: Scalar, x: S, n: S) -> S:
    if s.dtype(x).is_signed:
        return _shift(s, x, n, s.ashr, s.ashr(x, s.dtype(x).bits - 1))
    return _shift(s, x, n, s.lshr, s.const(s.dtype(x), 0))


left_shift = register(
    Elementwise(
        name="left_shift",
        doc="z = x << y for integers; bits shifted out are lost; 0 where y < 0 or y >= the width.",
        arity=2,
        types=same_integer,
        numpy=np.left_shift,
        scalar=lambda s, x, n: _shift(s, x, n, s.shl, s.const(s.dtype(x), 0)),
    )
)

right_shift = register(
    Elementwise(
        name="right_shift",
        doc="z = x >> y for integers, keeping the sign; 0, or -1 for negative x, where y < 0 or y >= the width.",
        arity=2,
        types=same_integer,
        numpy=np.right_shift,
        scalar=_right_shift_scalar,
    )
)


def _select_types(condition: DType, x: DType, y: DType) -> DType:
    if condition is not bool_:
        raise DTypeError(f"the condition must be bool, not {condition.name}")
    return same_any(x, y)


select = register(
    Elementwise(
        name="select",
        doc="""y = x1 where x0 (a bool) holds, else x2: copies, so NaN of the other side does not show, neither in the
        value nor in the derivative.""",
        arity=3,
        types=_select_types,
        numpy=np.where,
        narrow=True,
        scalar=lambda s, c, x, y: s.select(c, x, y),
        partials=lambda b, z, c, x, y: (None, Masked(c), Masked(b.logical_not(c))),
        linear="together",
    )
)
